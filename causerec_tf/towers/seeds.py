"""Seeds of initial weights."""

import numpy as np


def seed_of(seed: int, layer: int) -> int:
    """A seed for each layer; seed + layer would give a layer of one run the weights of another's.

    Args:
      seed: of the run, 0 or more.
      layer: which layer of the tower, from 0.
    """
    return int(np.random.SeedSequence([seed, layer]).generate_state(1)[0] >> 1)

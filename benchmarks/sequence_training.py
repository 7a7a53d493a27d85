"""SASRec by whole sequences beside the window form and RecBole's SASRec: what a block of steps of each is.

Examples are predictions: a window has one, a sequence has one at every position. RecBole's is measured where
it is installed (docs/parity.md). It trains on windows, by its own forward pass, with as many sampled
negatives.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from benchmarks import log, rounds, stepping
from causerec_tf.data.sequences import Dataset
from causerec_tf.settings import Settings
from causerec_tf.training import compiled_model

SEQUENCES, WINDOWS, RECBOLE = "sasrec_sequences", "sasrec_windows", "recbole_sasrec_windows"
FULL = "_full_softmax"  # after the name of a system without sampled negatives
MAX_HISTORY = 50
NUM_SAMPLED = 256
# One sequence for so many windows of a batch; fewer with the full softmax, whose logits fill the memory.
WINDOWS_A_SEQUENCE = {"": 4, FULL: 16}
STEPS = 8  # of a block, each on a batch of its own


class Block(NamedTuple):
    """A block of steps.

    Attributes:
      run: takes the steps.
      predictions: how many examples these are.
    """

    run: Callable[[], object]
    predictions: int


def blocks(dataset: Dataset, sizes: Settings, say: Callable[[str], None] = print) -> dict[str, Block]:
    """The systems, warmed up.

    Args:
      dataset: to train on.
      sizes: whose batch size is that of windows, and whose width, d, is taken.
      say: told how it goes on.
    """
    windows = dataclasses.replace(
        sizes,
        tower="sasrec",
        max_history=MAX_HISTORY,
        num_sampled=min(NUM_SAMPLED, sizes.num_sampled),
    )
    made = {}
    for suffix, sampler in (("", "uniform"), (FULL, "full")):
        by_windows = dataclasses.replace(windows, sampler=sampler)
        batch_size = sizes.batch_size // WINDOWS_A_SEQUENCE[suffix]
        by_sequences = dataclasses.replace(by_windows, training_rows="sequences", batch_size=batch_size)
        for name, settings in ((WINDOWS, by_windows), (SEQUENCES, by_sequences)):
            say(f"warming {name}{suffix} up")
            made[name + suffix] = _ours(dataset, settings)
    if find_spec("recbole"):
        say(f"warming {RECBOLE} up")
        made[RECBOLE] = _recbole(dataset, windows)
    return made


def add_ratios(ratios: dict[str, list[float]], speeds: dict[str, list[float]]) -> None:
    """Adds the ratios of examples/s to those of a result."""
    for suffix in ("", FULL):
        ratios[f"sasrec_sequences_over_windows{suffix}"] = rounds.quotients(
            speeds[SEQUENCES + suffix], speeds[WINDOWS + suffix]
        )
    if RECBOLE in speeds:
        ratios["sasrec_sequences_over_recbole"] = rounds.quotients(speeds[SEQUENCES], speeds[RECBOLE])


def _ours(dataset: Dataset, settings: Settings) -> Block:
    batches = log.first_batches(dataset, settings, STEPS)
    stepper = stepping.Stepper(compiled_model(settings, dataset.num_items), batches, warm_up=2 * STEPS - 1)
    # In memory the batches come round: every block has the same.
    counted = batches.take(STEPS).as_numpy_iterator()
    predictions = sum(int(np.count_nonzero(batch.get("target", batch.get("targets")))) for batch in counted)
    return Block(partial(stepper.run, STEPS), predictions)


def _recbole(dataset: Dataset, settings: Settings) -> Block:
    from benchmarks import peer_training

    model, optimizer = peer_training.compiled(settings, dataset.num_items, is_default=False)
    model.train()
    batches: Iterator[dict] = log.first_batches(dataset, settings, STEPS).as_numpy_iterator()
    random = np.random.default_rng(settings.seed)

    def run() -> None:
        for _ in range(STEPS):
            negatives = random.integers(1, dataset.num_items + 1, settings.num_sampled)
            peer_training.step(model, optimizer, next(batches), negatives)

    run()
    return Block(run, STEPS * settings.batch_size)

"""Disturbed histories for the scripts: rates as a flag says them, and the measurement with its progress."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from causerec_tf.errors import InputError

if TYPE_CHECKING:
    from causerec_tf.runs import TrainedRun
    from causerec_tf.studies.under_disturbance import Robustness

# What the scripts take unless told otherwise.
RATES = ("0.1", "0.2", "0.3", "0.4", "0.5")
NUM_DRAWS = 3
SEED = 0


def rates_of(flag: str, given: Sequence[str]) -> list[float]:
    """Reads the rates of a flag: different numbers above 0, at most 1."""
    try:
        rates = [float(rate) for rate in given]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate <= 1 for rate in rates) or len(set(rates)) < len(rates):
        raise InputError(f"--{flag}={','.join(given)}: wanted different numbers above 0, at most 1.")
    return rates


def measure(
    trained: "TrainedRun", name: str, split: str, rates: Sequence[float], *, num_draws: int, seed: int
) -> "Robustness":
    """`under_disturbance.measure` of a run on the users of a split, with a progress bar of that name.

    Raises:
      InputError: the split has no user to measure.
    """
    import numpy as np
    from tqdm import tqdm

    from causerec_tf.data.holdout import evaluation_users
    from causerec_tf.studies import disturbances, under_disturbance

    dataset = trained.dataset
    if not dataset.measures(split):
        raise InputError(f"{dataset.directory} has no {split} user with two events or more.")
    users = evaluation_users(dataset.read(split), trained.settings.max_history)
    frequencies = np.bincount(dataset.read("train").items, minlength=dataset.num_items + 1)[1:]
    with tqdm(total=(4 + len(disturbances.BANDS)) * len(rates), desc=name, disable=None) as bar:
        return under_disturbance.measure(
            trained.model,
            users,
            frequencies,
            rates=rates,
            num_draws=num_draws,
            seed=seed,
            on_condition=lambda condition: bar.update(),
        )

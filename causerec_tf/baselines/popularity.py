"""POP: the same items for everybody, the most frequent in training, or in its last days."""

import numpy as np

from causerec_tf.baselines.baseline import Baseline
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.logs import time_units
from causerec_tf.data.training_events import TrainingEvents


class Popular(Baseline):
    """POP of all training events."""

    _counts_V: np.ndarray

    def fit(self, training: TrainingEvents) -> None:
        """Counts the events of each item."""
        self._counts_V = training.counts

    def scores(self, users: EvaluationUsers) -> np.ndarray:
        """The counts, float32 [B, V]."""
        return np.tile(self._counts_V.astype(np.float32), (len(users), 1))


class PopularOfLastDays(Popular):
    """POP of the training events of the last days before the last one of all."""

    def __init__(self, days: int):
        """Counts the events that are later than the last one less so many days, 1 or more."""
        self._days = days

    def refusal(self, training: TrainingEvents) -> str:
        """Why there are no days: the times are positions, or numbers of no known unit."""
        last = int(training.sequences.timestamps.max(initial=0))
        if time_units.unit_of(last, training.time_unit) is not None:
            return ""
        return (
            f"the dataset's times are no dates ({training.time_unit}, the last is {last}): there are no last"
            " days. Prepare it from a log with dates, or leave this baseline out."
        )

    def fit(self, training: TrainingEvents) -> None:
        """Counts the recent events of each item."""
        events = training.sequences
        last = int(events.timestamps.max())
        unit = time_units.unit_of(last, training.time_unit)
        assert unit is not None, "see refusal"
        is_recent = events.timestamps > last - self._days * time_units.per_day(unit)
        self._counts_V = np.bincount(events.items[is_recent], minlength=training.num_items + 1)[1:]

"""The user's own past items: what was taken most often, the more recent of equals; behind them POP."""

import numpy as np

from causerec_tf.baselines.baseline import Baseline
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.training_events import TrainingEvents


class OwnPast(Baseline):
    """Recommends what a user has had before."""

    knows_seen_items_only = True

    _popularity_V: np.ndarray

    def fit(self, training: TrainingEvents) -> None:
        """Ranks the items for what a short past leaves free."""
        order = np.argsort(-training.counts, kind="stable")
        self._popularity_V = np.empty(training.num_items, np.float32)
        self._popularity_V[order] = -np.arange(training.num_items)

    def scores(self, users: EvaluationUsers) -> np.ndarray:
        """float32 [B, V]: above 0 for the items of the history, in their order; POP's at most 0."""
        rows, positions = users.seen.rows_and_positions()
        num_items = len(self._popularity_V)
        keys = rows * num_items + users.seen.items - 1
        own, of_event, counts = np.unique(keys, return_inverse=True, return_counts=True)
        last = np.zeros(len(own), np.int64)
        np.maximum.at(last, of_event, positions)
        scores = np.tile(self._popularity_V, (len(users), 1))
        order = np.lexsort((last, counts))
        scores.reshape(-1)[own[order]] = np.arange(1, len(own) + 1)
        return scores

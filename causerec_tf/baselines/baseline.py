"""What a baseline is. `recipes.baseline` has them by name."""

import abc

import numpy as np

from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.training_events import TrainingEvents


class Baseline(abc.ABC):
    """Scores every item for users, by the training events and the users' histories.

    Attributes:
      knows_seen_items_only: whether it has nothing to say but about the items of a history, and is POP
        without them.
    """

    knows_seen_items_only = False

    def refusal(self, training: TrainingEvents) -> str:
        """Why it cannot be fitted to these events, and what to do; empty if it can."""
        return ""

    @abc.abstractmethod
    def fit(self, training: TrainingEvents) -> None:
        """Learns from the training events; `refusal` had nothing to say."""

    @abc.abstractmethod
    def scores(self, users: EvaluationUsers) -> np.ndarray:
        """Scores of all items for a block of users, by their whole histories.

        Of equal scores the item that is more popular in training counts more.

        Args:
          users: B users; their targets are not looked at.

        Returns:
          float32 [B, V], the caller's own; column `i` is of item `i + 1`.
        """

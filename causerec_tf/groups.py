"""Groups of evaluation users, and of their targets, that are measured apart."""

from typing import NamedTuple

import numpy as np

from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.training_events import TrainingEvents


class Group(NamedTuple):
    """A group of the targets of some evaluation users.

    Attributes:
      name: such as `short histories`.
      meaning: what is in it, in words.
      is_in: whether a target is in it, bool [targets].
    """

    name: str
    meaning: str
    is_in: np.ndarray


class Groups:
    """Targets by the length of the history, by the frequency of the item, and by whether the user is new.

    - Short, medium and long histories: the thirds of the users by the number of events in the history. Users
      of equal length are in one group.
    - Head items: the most frequent ones that together have 80 % of the training events, the item that reaches
      it among them. Tail items: the others with a training event. New items: those without one.
    - Known users have a training event, new ones have none.
    """

    def __init__(self, users: EvaluationUsers, training: TrainingEvents):
        """Draws the bounds.

        Args:
          users: all that are measured, under whatever policy.
          training: the events that the model has learnt from.
        """
        lengths = np.diff(users.seen.row_splits)
        self._short, self._medium = np.quantile(lengths, [1 / 3, 2 / 3], method="inverted_cdf").tolist()
        order = np.argsort(-training.counts, kind="stable")
        counts = training.counts[order]
        self._is_head_V = np.zeros(len(counts), bool)
        self._is_head_V[order] = 5 * (np.cumsum(counts) - counts) < 4 * counts.sum()
        self._is_trained_V = training.counts > 0
        self._known = set(users.user_ids[training.have_user(users.user_ids)])

    def of(self, users: EvaluationUsers) -> list[Group]:
        """The groups of these users' targets; of a kind that would have one group alone, none.

        Args:
          users: those of the constructor, or some of them.
        """
        rows, _ = users.targets.rows_and_positions()
        lengths, items = np.diff(users.seen.row_splits)[rows], users.targets.items - 1
        is_head, is_trained = self._is_head_V[items], self._is_trained_V[items]
        is_known = np.array([user_id in self._known for user_id in users.user_ids], bool)[rows]
        short, medium = self._short, self._medium
        num_head, num_trained = np.count_nonzero(self._is_head_V), np.count_nonzero(self._is_trained_V)
        kinds = [
            [
                Group("short histories", f"at most {short:,} events", lengths <= short),
                Group("medium histories", f"at most {medium:,}", (lengths > short) & (lengths <= medium)),
                Group("long histories", f"more than {medium:,}", lengths > medium),
            ],
            [
                Group("head items", f"{num_head:,} items with 80 % of the training events", is_head),
                Group("tail items", f"{num_trained - num_head:,} with the rest", is_trained & ~is_head),
                Group("new items", "without a training event", ~is_trained),
            ],
            [
                Group("known users", "with training events", is_known),
                Group("new users", "without", ~is_known),
            ],
        ]
        found = [[group for group in kind if group.is_in.any()] for kind in kinds]
        return [group for kind in found if len(kind) > 1 for group in kind]

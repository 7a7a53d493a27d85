"""Evaluation users: their sequences cut in history and targets, as the records say or after 80 %."""

from dataclasses import dataclass, field

import numpy as np

from causerec_tf.data.evaluation_context import Context, context_of, last_places, only_rows
from causerec_tf.data.ragged import ItemLists, row_splits, rows_and_positions
from causerec_tf.data.sequences import Dataset, UserSequences
from causerec_tf.data.splits.protocols import EVERYTHING
from causerec_tf.errors import InputError


@dataclass(frozen=True)
class EvaluationUsers:
    """Users with a history and a target, their sequences cut in the two.

    Attributes:
      user_ids: [U] object (str).
      history: int32 [U, max_history], the last items of the history, oldest first, padded with 0 on
        the right.
      seen: the whole history of each user, for exclusion.
      targets: each user's distinct targets in the order of first occurrence.
      context: what is known beside the histories, see `evaluation_context`; empty without a schema.
    """

    user_ids: np.ndarray
    history: np.ndarray
    seen: ItemLists
    targets: ItemLists
    context: Context = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of users, U."""
        return len(self.user_ids)

    def part(self, start: int, stop: int) -> "EvaluationUsers":
        """The users from `start` up to but without `stop`."""
        return EvaluationUsers(
            self.user_ids[start:stop],
            self.history[start:stop],
            self.seen.part(start, stop),
            self.targets.part(start, stop),
            only_rows(self.context, slice(start, stop)),
        )

    def with_unseen_targets(self) -> "EvaluationUsers":
        """Without the targets that a user has in the history already, and the users who have no others.

        Where lists leave seen items out, such a target cannot be found: counting it would measure how often
        users come back to an item, not how good the lists are.
        """
        return self.only_targets(self.are_targets_unseen())[0]

    def are_targets_unseen(self) -> np.ndarray:
        """Of each of the targets, whether it is not in its user's history: bool [targets]."""
        seen_rows, _ = self.seen.rows_and_positions()
        target_rows, _ = self.targets.rows_and_positions()
        return ~np.isin(_pairs(target_rows, self.targets.items), _pairs(seen_rows, self.seen.items))

    def only_targets(self, is_kept: np.ndarray) -> tuple["EvaluationUsers", np.ndarray]:
        """With some of the targets, bool [targets], and the users who have one of them: also their places."""
        target_rows, _ = self.targets.rows_and_positions()
        counts = np.bincount(target_rows[is_kept], minlength=len(self))
        places = np.flatnonzero(counts)
        users = EvaluationUsers(
            self.user_ids[places],
            self.history[places],
            self.seen.take(places),
            ItemLists(self.targets.items[is_kept], row_splits(counts[places])),
            only_rows(self.context, places),
        )
        return users, places


def evaluation_users(sequences: UserSequences, max_history: int) -> EvaluationUsers:
    """Cuts each sequence in history and targets.

    The history is as many of the first events as the records say; where they do not (protocol `users`), the
    first `int(0.8 n)` of n events, but at least one. Of the events behind it those are targets that may be.

    Args:
      sequences: the users of an evaluation split; those without a history or a target are left out.
      max_history: number of items of the history that the tower sees.

    Raises:
      InputError: `max_history` is below 1.
    """
    if max_history < 1:
        raise InputError(f"max_history is {max_history}; it must be at least 1.")
    lengths = np.diff(sequences.row_splits)
    # In integers: 0.8 * n in floating point falls below the whole number for some n.
    cuts = np.maximum(1, 8 * lengths // 10) if sequences.num_history is None else sequences.num_history
    users = np.flatnonzero((cuts >= 1) & (cuts < lengths))
    if sequences.is_target is not None:
        users = users[_num_targets(sequences, users, cuts[users]) > 0]
    lengths, cuts = lengths[users], cuts[users]
    starts = sequences.row_splits[users]

    seen_rows, positions = rows_and_positions(cuts)
    seen = ItemLists(sequences.items[starts[seen_rows] + positions], row_splits(cuts))
    target_rows, positions = rows_and_positions(lengths - cuts)
    places = (starts + cuts)[target_rows] + positions
    if sequences.is_target is not None:
        is_kept = sequences.is_target[places]
        target_rows, places = target_rows[is_kept], places[is_kept]
    targets = sequences.items[places]
    first_targets = places[np.searchsorted(target_rows, np.arange(len(users)))]
    # The positions at which an item stands for the first time in its row, ascending.
    is_first = np.sort(np.unique(_pairs(target_rows, targets), return_index=True)[1])
    num_targets = np.bincount(target_rows[is_first], minlength=len(users))
    return EvaluationUsers(
        user_ids=sequences.user_ids[users],
        history=last_items(seen, max_history),
        seen=seen,
        targets=ItemLists(targets[is_first], row_splits(num_targets)),
        context=context_of(sequences, users, cuts, first_targets, max_history),
    )


def _num_targets(sequences: UserSequences, users: np.ndarray, num_history: np.ndarray) -> np.ndarray:
    """How many events behind the histories of some users may be targets, int64 [users]."""
    assert sequences.is_target is not None
    so_far = np.concatenate([[0], np.cumsum(sequences.is_target)])
    return so_far[sequences.row_splits[users + 1]] - so_far[sequences.row_splits[users] + num_history]


def asking_users(dataset: Dataset, max_history: int) -> tuple[np.ndarray, Context]:
    """What users are like who ask: the histories of validation, never what is held out after them.

    With the protocol `none` there is no validation: then those of a shard of training, which nothing is held
    out of; their requests are those of their last events.

    Args:
      dataset: an opened dataset.
      max_history: number of items of a history that the tower sees.

    Returns:
      int32 [U, max_history], the last items, oldest first, padded with 0 on the right; and what is known
      beside them, as `EvaluationUsers.context`.
    """
    if dataset.protocol["name"] == EVERYTHING:
        sequences = dataset.read("train", num_shards=1)
        lengths = np.diff(sequences.row_splits)
        lasts = sequences.row_splits[1:] - 1
        context = context_of(sequences, np.arange(len(lengths)), lengths, lasts, max_history)
        return last_items(sequences.rows(), max_history), context
    users = evaluation_users(dataset.read("validation"), max_history)
    return users.history, users.context


def last_items(lists: ItemLists, max_history: int) -> np.ndarray:
    """The last items of each list, oldest first: int32 [U, max_history], padded with 0 on the right."""
    index, is_kept = last_places(lists.row_splits[:-1], np.diff(lists.row_splits), max_history)
    history = np.zeros((len(lists), max_history), np.int32)
    history[is_kept] = lists.items[index[is_kept]]
    return history


def _pairs(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Row and item as one number, int64."""
    return rows.astype(np.int64) << 32 | items.astype(np.int64)

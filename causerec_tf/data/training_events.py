"""The training events of a dataset as evaluation and baselines ask for them."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from causerec_tf.data import times
from causerec_tf.data.protocols import TRAIN_ON
from causerec_tf.data.ragged import row_splits
from causerec_tf.data.sequences import ITEMS_FEATURE, Dataset, UserSequences
from causerec_tf.data.user_split import SPLITS
from causerec_tf.errors import InputError

_USERS_PER_PARSE = 4096


class TrainingEvents:
    """What a dataset is trained on, read when it is first asked for.

    Counts and users of the records of the training split are read without holding the events in memory.

    Attributes:
      num_items: V, the catalogue's size.
      time_unit: of their times, one of those in `times`.
    """

    def __init__(self, dataset: Dataset):
        """Reads nothing yet."""
        self._dataset = dataset
        self._is_split = dataset.train_on == TRAIN_ON[0]
        self.num_items = dataset.num_items
        self.time_unit: str = dataset.info.get("time_unit", times.AS_GIVEN)

    @property
    def num_users(self) -> int:
        """How many users they are of."""
        return self._dataset.info["counts"]["users"]["train"] if self._is_split else len(self.sequences)

    @functools.cached_property
    def sequences(self) -> UserSequences:
        """All of them."""
        if self._is_split:
            return self._dataset.read("train")
        parts = [_before_test(self._dataset.read(split)) for split in SPLITS]
        return UserSequences(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in ("user_ids", "items", "timestamps")
            },
            row_splits=row_splits(np.concatenate([np.diff(part.row_splits) for part in parts])),
        )

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """The number of events of each item, int64 [V]."""
        counts = np.zeros(self.num_items + 1, np.int64)
        parts = self._items_of_split() if self._is_split else [self.sequences.items]
        for items in parts:
            counts += np.bincount(items, minlength=len(counts))
        return counts[1:]

    def have_user(self, user_ids: np.ndarray) -> np.ndarray:
        """Whether users, object (str) [any number], are among the training users, bool [the same]."""
        wanted = {user_id.encode("utf-8") for user_id in user_ids}
        found: set[bytes] = set()
        if self._is_split:
            for users in self._parsed({"user_id": tf.io.FixedLenFeature([], tf.string)}):
                found |= wanted.intersection(users["user_id"].numpy().tolist())
        else:
            found = wanted.intersection(user_id.encode("utf-8") for user_id in self.sequences.user_ids)
        return np.array([user_id.encode("utf-8") in found for user_id in user_ids], bool)

    def _items_of_split(self) -> Iterator[np.ndarray]:
        for users in self._parsed({"items": ITEMS_FEATURE}):
            yield users["items"].flat_values.numpy()

    def _parsed(self, features: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The users of the training split, some thousands at a time."""
        records = tf.data.TFRecordDataset(self._dataset.shards("train")).batch(_USERS_PER_PARSE)
        try:
            for batch in records:
                yield tf.io.parse_example(batch, features)
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            said = error.message.split("\n")[0]
            raise InputError(
                f"{self._dataset.directory} is damaged: {said}. Prepare the dataset again."
            ) from error


def _before_test(records: UserSequences) -> UserSequences:
    """The events of records that lie before the targets of the test split, of users who have any."""
    assert records.num_before_test is not None, "Dataset.for_training has checked it"
    rows, positions = records.rows().rows_and_positions()
    is_before, has_any = positions < records.num_before_test[rows], records.num_before_test > 0
    return UserSequences(
        records.user_ids[has_any],
        records.items[is_before],
        records.timestamps[is_before],
        row_splits(records.num_before_test[has_any]),
    )

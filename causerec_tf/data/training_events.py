"""The training events of a dataset as evaluation and baselines ask for them."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from causerec_tf.data.logs import times
from causerec_tf.data.sequences import ITEMS_FEATURE, Dataset, UserSequences
from causerec_tf.data.splits.protocols import TRAIN_ON
from causerec_tf.data.training_records import (
    parse_training,
    read_training,
    training_lengths,
    training_shards,
)
from causerec_tf.errors import InputError

_USERS_PER_PARSE = 4096


class TrainingEvents:
    """What is read when it is first asked for; only `sequences` holds the events in memory.

    Attributes:
      num_items: V, the catalogue's size.
      time_unit: of their times, one of those in `times`.
    """

    def __init__(self, dataset: Dataset):
        """Reads nothing yet."""
        self._dataset = dataset
        self.num_items = dataset.num_items
        self.time_unit: str = dataset.info.get("time_unit", times.AS_GIVEN)

    @functools.cached_property
    def num_users(self) -> int:
        """Training users."""
        if self._dataset.train_on == TRAIN_ON[0]:
            return self._dataset.info["counts"]["users"]["train"]
        return int(np.count_nonzero(training_lengths(self._dataset)))

    @functools.cached_property
    def sequences(self) -> UserSequences:
        """All of them."""
        return read_training(self._dataset)

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """The number of events of each item, int64 [V]."""
        counts = np.zeros(self.num_items + 1, np.int64)
        for users in self._parsed({"items": ITEMS_FEATURE}):
            counts += np.bincount(users["items"].flat_values.numpy(), minlength=len(counts))
        return counts[1:]

    def have_user(self, user_ids: np.ndarray) -> np.ndarray:
        """Whether users, object (str) [any number], are among the training users, bool [the same]."""
        wanted = {user_id.encode("utf-8") for user_id in user_ids}
        found: set[bytes] = set()
        for users in self._parsed({"user_id": tf.io.FixedLenFeature([], tf.string), "items": ITEMS_FEATURE}):
            has_events = users["items"].row_lengths().numpy() > 0
            found |= wanted.intersection(users["user_id"].numpy()[has_events].tolist())
        return np.array([user_id.encode("utf-8") in found for user_id in user_ids], bool)

    def _parsed(self, features: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The training users, some thousands at a time."""
        records = tf.data.TFRecordDataset(training_shards(self._dataset)).batch(_USERS_PER_PARSE)
        try:
            for batch in records:
                yield parse_training(self._dataset, batch, features)
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            said = error.message.split("\n")[0]
            raise InputError(
                f"{self._dataset.directory} is damaged: {said}. Prepare the dataset again."
            ) from error

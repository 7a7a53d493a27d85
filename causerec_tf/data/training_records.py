"""What a dataset trains on: the records of training, or of every split what is before the test's targets."""

from typing import Any

import numpy as np
import tensorflow as tf

from causerec_tf.data.columns.feature_records import OF_EVENTS, in_records
from causerec_tf.data.ragged import row_splits
from causerec_tf.data.sequences import ITEMS_FEATURE, Dataset, UserSequences
from causerec_tf.data.splits.protocols import TRAIN_ON
from causerec_tf.data.splits.user_split import SPLITS

_RECORDS_PER_PARSE = 4096
_CUT = "num_before_test"


def training_shards(dataset: Dataset) -> list[str]:
    """The paths of the files that hold what is trained on, without empty ones."""
    return [
        path
        for split in _splits(dataset)
        for path, info in zip(dataset.shards(split), dataset.info["shards"][split], strict=True)
        if info["records"]
    ]


def parse_training(dataset: Dataset, records: tf.Tensor, features: dict[str, Any]) -> dict[str, Any]:
    """Parses records of `training_shards`, text [B]; the events that are not trained on are left out.

    A record may have none left.

    Args:
      dataset: theirs.
      records: serialised.
      features: what is wanted, as `tf.io.parse_example` takes it; ragged ones are of events, or columns of
        users.
    """
    if dataset.train_on == TRAIN_ON[0]:
        return tf.io.parse_example(records, features)
    parsed = tf.io.parse_example(records, features | {_CUT: tf.io.FixedLenFeature([], tf.int64)})
    counts = parsed.pop(_CUT)
    of_users = {column.key for column in dataset.schema.of("user")}
    return {
        name: _first(value, counts) if isinstance(value, tf.RaggedTensor) and name not in of_users else value
        for name, value in parsed.items()
    }


def read_training(dataset: Dataset) -> UserSequences:
    """All users with an event that is trained on, with these events, in memory."""
    parts = [dataset.read(split) for split in _splits(dataset)]
    lengths = np.concatenate([np.diff(part.row_splits) for part in parts])
    kept = (
        lengths
        if dataset.train_on == TRAIN_ON[0]
        else np.concatenate([part.num_before_test for part in parts])
    )
    rows = np.repeat(np.arange(len(lengths)), lengths)
    is_kept = np.arange(len(rows)) - row_splits(lengths)[rows] < kept[rows]
    columns = {}
    for column in in_records(dataset.schema.columns):
        values = np.concatenate([part.columns[column.key] for part in parts])
        columns[column.key] = values[is_kept if column.owner in OF_EVENTS else kept > 0]
    are_targets = [part.is_target for part in parts if part.is_target is not None]
    return UserSequences(
        user_ids=np.concatenate([part.user_ids for part in parts])[kept > 0],
        items=np.concatenate([part.items for part in parts])[is_kept],
        timestamps=np.concatenate([part.timestamps for part in parts])[is_kept],
        row_splits=row_splits(kept[kept > 0]),
        columns=columns,
        is_target=np.concatenate(are_targets)[is_kept] if are_targets else None,
    )


def training_lengths(dataset: Dataset) -> np.ndarray:
    """The number of events of each record that are trained on, int64 [records]."""

    def lengths(batch: tf.Tensor) -> tf.Tensor:
        return parse_training(dataset, batch, {"items": ITEMS_FEATURE})["items"].row_lengths()

    records = tf.data.TFRecordDataset(training_shards(dataset)).batch(_RECORDS_PER_PARSE).map(lengths)
    return np.concatenate([np.zeros(0, np.int64), *records.as_numpy_iterator()])


def trained_items(dataset: Dataset) -> np.ndarray | None:
    """The items that training may know, int32 ascending; None: all of the vocabulary."""
    if dataset.num_trained_items == dataset.num_items:
        return None
    if dataset.train_on == TRAIN_ON[0]:
        return np.arange(1, dataset.num_trained_items + 1, dtype=np.int32)
    return np.unique(read_training(dataset).items)


def rows_of_entries(lists: tf.RaggedTensor) -> tf.Tensor:
    """The row of each entry, int32 [events].

    `value_rowids()` would hold a rectangle meanwhile: all rows by the longest of them.
    """
    places = tf.range(tf.size(lists.flat_values, out_type=tf.int64))
    return tf.searchsorted(lists.row_limits(), places, side="right")


def _splits(dataset: Dataset) -> tuple[str, ...]:
    return SPLITS[:1] if dataset.train_on == TRAIN_ON[0] else SPLITS


def _first(events: tf.RaggedTensor, counts: tf.Tensor) -> tf.RaggedTensor:
    """The first `counts` events of each row, int64 [rows]."""
    places = tf.range(tf.size(events.flat_values, out_type=tf.int64))
    is_first = places < tf.gather(events.row_starts() + counts, rows_of_entries(events))
    return tf.RaggedTensor.from_row_lengths(tf.boolean_mask(events.flat_values, is_first), counts)

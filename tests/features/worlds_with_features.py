"""Hand-made columns of every kind and owner, with values to draw batches of."""

import numpy as np
import tensorflow as tf

from causerec_tf.feature_recipes import DatasetFeatures
from causerec_tf.schema import FittedColumn, schema_of

NUM_ITEMS, LENGTH = 60, 6
ITEM_COLUMNS = [
    {"name": "category", "owner": "item", "kind": "categorical"},
    {"name": "tags", "owner": "item", "kind": "multi", "length": 4},
    {"name": "price", "owner": "item", "kind": "numeric"},
    {"name": "picture", "owner": "item", "kind": "embedding", "size": 3},
    {"name": "title", "owner": "item", "kind": "text", "size": 20, "length": 5},
]
USER_COLUMNS = [
    {"name": "country", "owner": "user", "kind": "categorical"},
    {"name": "age", "owner": "user", "kind": "numeric"},
    {"name": "tastes", "owner": "user", "kind": "multi", "length": 3},
]
EVENT_COLUMNS = [
    {"name": "rating", "owner": "event", "kind": "numeric"},
    {"name": "kind", "owner": "event", "kind": "categorical"},
    {"name": "hour", "owner": "event", "kind": "hour"},
    {"name": "gap", "owner": "event", "kind": "gap"},
    {"name": "how_long_ago", "owner": "event", "kind": "age"},
]
REQUEST_COLUMNS = [
    {"name": "device", "owner": "request", "kind": "categorical"},
    {"name": "weekday", "owner": "request", "kind": "weekday"},
]
EVERY_COLUMN = ITEM_COLUMNS + USER_COLUMNS + EVENT_COLUMNS + REQUEST_COLUMNS
WITHOUT_AGE = [one for one in EVERY_COLUMN if one["kind"] != "age"]
NUM_VALUES = 5  # of each vocabulary


def features(columns=EVERY_COLUMN, num_items=NUM_ITEMS, seed=0):
    """Columns as a dataset would have fitted them, and values of the items."""
    rng = np.random.default_rng(seed)
    fitted = [
        FittedColumn(column, num_values=NUM_VALUES, mean=1.0, std=2.0)
        for column in schema_of(columns).columns
    ]
    values = {
        one.column.name: stored(one.column, [num_items + 1], rng)
        for one in fitted
        if one.column.owner == "item"
    }
    for name, array in values.items():
        array[0] = np.nan if array.dtype == np.float32 and array.ndim == 1 else 0
        assert name
    return DatasetFeatures(tuple(fitted), values)


def stored(column, shape, rng):
    """Stored values of a column, some of them missing."""
    if column.kind == "categorical":
        return rng.integers(0, NUM_VALUES + 2, size=shape).astype(np.int32)
    if column.kind in ("multi", "text"):
        largest = NUM_VALUES + 1 if column.kind == "multi" else column.size
        rows = np.zeros([*shape, column.length], np.int32)
        for place in np.ndindex(*shape):
            count = rng.integers(0, column.length + 1)
            rows[place][:count] = rng.permutation(np.arange(1, largest + 1))[:count]
        return rows
    if column.kind == "numeric":
        numbers = rng.normal(1, 2, size=shape)
        return np.where(rng.random(shape) < 0.2, np.nan, numbers).astype(np.float32)
    return rng.normal(size=[*shape, column.size]).astype(np.float32)


def context(columns=EVERY_COLUMN, size=16, length=LENGTH, seed=1, *, every_position=False):
    """What a batch has beside histories, all positions real."""
    rng = np.random.default_rng(seed)
    shapes = {
        "user": [size],
        "event": [size, length],
        "request": [size, length] if every_position else [size],
    }
    found = {
        column.key: stored(column, shapes[column.owner], rng)
        for column in schema_of(columns).columns
        if column.owner != "item" and not column.is_of_time
    }
    found["time"] = 1_400_000_000 + np.cumsum(rng.integers(0, 90_000, size=[size, length]), axis=1)
    found["request_time"] = found["time"] + 50 if every_position else found["time"][:, -1] + 4000
    return {key: tf.constant(value) for key, value in found.items()}


def batch(columns=EVERY_COLUMN, size=16, length=LENGTH, seed=0, *, whole_sequences=False):
    """A training batch."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, size=size)
    real = np.arange(length) < lengths[:, np.newaxis]
    history = rng.integers(1, NUM_ITEMS + 1, size=[size, length]) * real
    made = {"history": tf.constant(history, tf.int32)}
    if whole_sequences:
        targets = rng.integers(1, NUM_ITEMS + 1, size=[size, length]) * real
        made["targets"] = tf.constant(targets, tf.int32)
    else:
        made["target"] = tf.constant(rng.integers(1, NUM_ITEMS + 1, size=size), tf.int32)
    return made | context(columns, size, length, seed + 1, every_position=whole_sequences)


def with_larger_weights(model, seed=3):
    """The same model, its feature weights drawn anew, so that what is missing adds something, too."""
    rng = np.random.default_rng(seed)
    for layer in (model.item_tower.features, getattr(model.user_tower, "features", None)):
        for variable in layer.trainable_variables if layer is not None else []:
            variable.assign(rng.normal(scale=0.5, size=variable.shape))
    return model

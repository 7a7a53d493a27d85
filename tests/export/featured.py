"""A small tower that reads features, its columns, a bundle, and a twin in NumPy that knows none of them."""

import numpy as np
import tensorflow as tf

from causerec_tf.raw_values import ContextReader
from causerec_tf.schema import FittedColumn, schema_of
from export.publishing.publication import Model
from export.publishing.publish import publish as published
from export.towers.user_tower import ServedContext
from tests.export import toy

NUM_ITEMS, DIMENSION, MAX_HISTORY = 40, 6, 4
IDS = toy.item_ids(NUM_ITEMS)
TABLE = toy.embeddings(NUM_ITEMS, DIMENSION)
VALUES = {
    "user/country": ["nl", "de", "日本"],
    "user/tags": ["new", "vip", "b2b"],
    "request/device": ["phone", "desk"],
    "event/kind": ["view", "buy"],
}
SCHEMA = [
    {"name": "country", "owner": "user", "kind": "categorical", "missing": "de"},
    {"name": "tags", "owner": "user", "kind": "multi", "length": 2, "separator": ";"},
    {"name": "age", "owner": "user", "kind": "numeric"},
    {"name": "about", "owner": "user", "kind": "text", "size": 30, "length": 3},
    {"name": "taste", "owner": "user", "kind": "embedding", "size": 2},
    {"name": "device", "owner": "request", "kind": "categorical"},
    {"name": "hour", "owner": "request", "kind": "hour"},
    {"name": "kind", "owner": "event", "kind": "categorical"},
    {"name": "rating", "owner": "event", "kind": "numeric", "missing": 3.0},
    {"name": "since", "owner": "event", "kind": "age"},
    {"name": "category", "owner": "item", "kind": "categorical"},
]


def columns(directory):
    """The fitted columns, with their vocabularies in a directory."""
    fitted = []
    for column in schema_of(SCHEMA).columns:
        vocabulary, values = None, VALUES.get(column.key, [])
        if column.kind in ("categorical", "multi"):
            vocabulary = directory / f"{column.owner}.{column.name}.txt"
            vocabulary.write_bytes("".join(f"{value}\n" for value in values).encode())
        fitted.append(FittedColumn(column, len(values), vocabulary))
    return fitted


def reader(directory):
    return ContextReader(columns(directory))


def weights(seed=3):
    """One vector for each stored value of each column, and for each number."""
    random = np.random.default_rng(seed)
    rows = {
        "user/country": 5,
        "user/tags": 5,
        "user/about": 31,
        "user/taste": 2,
        "user/age": 2,
        "request/device": 4,
        "event/kind": 4,
        "event/rating": 1,
        "time": 1,
        "request_time": 1,
    }
    return {key: random.normal(size=(count, DIMENSION)).astype(np.float32) for key, count in rows.items()}


class FeaturedTower:
    """The mean of the items and of what stands beside them, and the user's and the request's vectors."""

    def __init__(self, seed=3):
        self.weights = {key: tf.Variable(value) for key, value in weights(seed).items()}
        self.variables = list(self.weights.values())

    def __call__(self, concepts, mask, context):
        of = self.weights
        beside = tf.gather(of["event/kind"], context["event/kind"])
        beside += context["event/rating"][..., None] * of["event/rating"][0]
        beside += tf.cast(context["time"] % 7, tf.float32)[..., None] * of["time"][0]
        real = tf.cast(mask, tf.float32)[..., None]
        summed = tf.reduce_sum(tf.where(mask[..., None], concepts + beside, 0.0), axis=1)
        vectors = tf.math.divide_no_nan(summed, tf.reduce_sum(real, axis=1))
        vectors += tf.gather(of["user/country"], context["user/country"])
        vectors += tf.reduce_sum(tf.gather(of["user/tags"], context["user/tags"]), axis=1)
        vectors += tf.reduce_sum(tf.gather(of["user/about"], context["user/about"]), axis=1)
        vectors += context["user/taste"] @ of["user/taste"]
        age = context["user/age"]
        is_missing = tf.math.is_nan(age)[:, None]
        vectors += tf.where(is_missing, of["user/age"][0], age[:, None] * of["user/age"][1])
        vectors += tf.gather(of["request/device"], context["request/device"])
        return vectors + tf.cast(context["request_time"] % 5, tf.float32)[:, None] * of["request_time"][0]


def code(key, value):
    values = VALUES[key]
    return 0 if not value else values.index(value) + 2 if value in values else 1


def vector(history, user=None, context=None, time=0, seed=3):
    """The twin: of rows (id, {"kind", "rating", "time"}), one user at a time."""
    of, user, context = weights(seed), user or {}, context or {}
    known = [(one, {}) if isinstance(one, str) else one for one in history]
    known = [(IDS.index(item) + 1, event) for item, event in known if item in IDS][-MAX_HISTORY:]
    total = np.zeros(DIMENSION)
    for item, event in known:
        total += TABLE[item] + of["event/kind"][code("event/kind", event.get("kind"))]
        total += event.get("rating", 3.0) * of["event/rating"][0] + event.get("time", 0) % 7 * of["time"][0]
    total = total / max(1, len(known))
    total += of["user/country"][code("user/country", user.get("country") or "de")]
    tags = [code("user/tags", one) for one in dict.fromkeys(user.get("tags", []))][:2]
    tags = list(dict.fromkeys(tags))
    total += of["user/tags"][[*tags, *[0] * (2 - len(tags))]].sum(axis=0)
    words = [
        int(tf.strings.to_hash_bucket_fast(word, 30)) + 1 for word in user.get("about", "").lower().split()
    ]
    words = list(dict.fromkeys(words))[:3]
    total += of["user/about"][[*words, *[0] * (3 - len(words))]].sum(axis=0)
    total += np.array(user.get("taste", [0.0, 0.0])) @ of["user/taste"]
    total += user["age"] * of["user/age"][1] if "age" in user else of["user/age"][0]
    total += of["request/device"][code("request/device", context.get("device"))]
    return total + time % 5 * of["request_time"][0]


def publish(bundle, directory):
    """Publishes a bundle of it; gives the publication."""
    directory.mkdir(exist_ok=True)
    model = Model(
        TABLE, FeaturedTower(), TABLE[1:], IDS, MAX_HISTORY, context=ServedContext(reader(directory))
    )
    queries = np.random.default_rng(0).normal(size=(9, DIMENSION)).astype(np.float32)
    return published(bundle, model, queries=queries, warm_up_histories=[[1, 2], [3]])


def best(vector, k, seen=()):
    """The ids with the largest inner products."""
    order = [IDS[row] for row in np.argsort(-(TABLE[1:] @ vector), kind="stable")]
    return [item for item in order if item not in seen][:k]

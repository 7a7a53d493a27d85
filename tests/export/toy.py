"""Small towers and catalogues for the tests of the export; nothing here comes from `export`."""

import hashlib
import json
from pathlib import Path

import numpy as np
import tensorflow as tf


class MeanTower(tf.keras.layers.Layer):
    """Mean over the mask, then a dense layer: the simplest tower that can be trained."""

    def __init__(self, dimension: int, num_vectors: int = 1, seed: int = 0):
        super().__init__()
        self._num_vectors = num_vectors
        self._dense = tf.keras.layers.Dense(
            dimension * num_vectors,
            kernel_initializer=tf.keras.initializers.RandomNormal(0.0, 0.5, seed=seed),
            bias_initializer=tf.keras.initializers.RandomNormal(0.0, 0.1, seed=seed),
        )

    def call(self, concepts, mask):
        weights = tf.cast(mask, tf.float32)[..., None]
        # Deliberately unsafe: 0 / 0 where nothing is known.
        mean = tf.reduce_sum(concepts * weights, axis=1) / tf.reduce_sum(weights, axis=1)
        vectors = self._dense(mean)
        if self._num_vectors > 1:
            vectors = tf.reshape(vectors, [-1, self._num_vectors, vectors.shape[-1] // 2])
        return vectors


class OrderTower(tf.keras.layers.Layer):
    """Weighs every item by its place from the left, so that the order and the gaps matter."""

    def call(self, concepts, mask):
        places = tf.range(1, tf.shape(concepts)[1] + 1, dtype=tf.float32)[None, :, None]
        return tf.reduce_sum(concepts * places * tf.cast(mask, tf.float32)[..., None], axis=1)


def embeddings(num_items: int, dimension: int, seed: int = 0) -> np.ndarray:
    table = np.random.default_rng(seed).normal(size=(num_items + 1, dimension))
    table[0] = 0.0
    return table.astype(np.float32)


def item_ids(num_items: int) -> list[str]:
    """Ids that are not numbers, not ASCII, with odd white space, and in no order."""
    odd = ["é", " x ", "-3", "0", "a\tb", "\u2028line", "日本", "a\rb"]
    return [odd[i] if i < len(odd) else f"item-{(i * 7919) % 100003}" for i in range(num_items)]


def clustered(num_items: int, dimension: int, seed: int = 0) -> np.ndarray:
    """Vectors in clusters of about fifty, as trained ones are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(2, num_items // 50), dimension))
    noise = 0.5 * rng.normal(size=(num_items, dimension))
    return (centres[rng.integers(len(centres), size=num_items)] + noise).astype(np.float32)


def digests_of(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of a published directory but the list of them."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "SHA256SUMS")
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sign_again(directory: Path) -> None:
    """Makes a changed directory look as if it had been published like that, as an attacker would."""
    lines = (f"{digest}  {name}\n" for name, digest in digests_of(directory).items())
    (directory / "SHA256SUMS").write_text("".join(lines))


def describe_again(path: Path, **changes) -> None:
    """Changes the description of a published directory; with None a key is left out."""
    description = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in description.items() if value is not None}))


def files_of(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}

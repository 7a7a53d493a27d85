"""The item tower: one embedding table over the catalogue (g of equation 4), and the features of its items.

    vector(i) = table[i] + features(i)

Without features the second term is not there. With them an item that training does not know has a row of
zeros, and is what its features say.

Shapes: V items, N distinct ones, U of a step, d vector size.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from causerec_tf.towers.dropout import dropout, without_rows

PADDING = 0
SIMILARITIES = ("dot", "cosine")
_ITEMS_PER_BLOCK = 1 << 16  # whose features are encoded at once, where all are wanted


class ItemTower(tf.keras.layers.Layer):
    """Item indices to vectors; index 0 is padding.

    The padding row is zero and stays zero: its vectors are masked, so that no gradient reaches it.
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int,
        *,
        similarity: str = "dot",
        initial_std: float | None = None,
        dropout: float = 0.0,
        features: Any = None,
        id_dropout: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        """Sets the table's size.

        Args:
          num_items: V, the catalogue's size without padding.
          embedding_dim: d.
          similarity: how users are matched with items: `dot`, by the inner product, or `cosine`, for which
            candidates have length one.
          initial_std: standard deviation of the initial vectors, which are normal; None: 1 / sqrt(d), so that
            they have length one on average.
          dropout: the share of each step's item vectors that is dropped in training, in [0, 1): one draw for
            all that the step needs an item for, as history, target or negative.
          features: a Keras layer from distinct items, int32 [N], to what their features say, float32 [N, d];
            None: there are none.
          id_dropout: the share of each step's items whose row of the table is left out, so that their
            features learn to stand alone, in [0, 1).
          seed: of the initial vectors.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity={similarity!r}: wanted one of {', '.join(SIMILARITIES)}.")
        self.has_unit_length = similarity == "cosine"
        self.num_items = num_items
        self.embedding_dim = embedding_dim
        self._initial_std = embedding_dim**-0.5 if initial_std is None else initial_std
        self._rate = dropout
        self.features = features
        self._id_rate = id_dropout
        self._seed = seed

    def build(self, input_shape) -> None:
        """Makes the table, [V + 1, d]; where a strategy partitions it, each part by itself."""

        def initial(shape, dtype=None, partition_shape=None, partition_offset=(0, 0), **_):
            num_rows, width = partition_shape or shape
            first = partition_offset[0]
            num_padding = 1 if first == 0 else 0
            # The second number is that of a step elsewhere; no step has a negative one.
            rows = tf.random.stateless_normal(
                [num_rows - num_padding, width],
                [self._seed, -1 - first],
                stddev=self._initial_std,
                dtype=dtype,
            )
            return tf.concat([tf.zeros([num_padding, width], dtype), rows], axis=0)

        self.table = self.add_weight(
            name="table", shape=[self.num_items + 1, self.embedding_dim], initializer=initial
        )
        if self.features is not None:
            self.features.build(None)
        super().build(input_shape)

    @property
    def parts(self) -> list[tf.Variable]:
        """The table, or the consecutive parts of one that a strategy partitions."""
        return list(getattr(self.table, "variables", [self.table]))

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Looks items up, int [...] -> float [..., d]; zeros for padding, without a gradient."""
        if self.features is not None:
            vectors_UD, (places,) = self.look_up_once(ids)
            return tf.gather(vectors_UD, places)
        return self._rows(ids)

    def _rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Rows of the table, int [...] -> float [..., d]; zeros for padding."""
        real = tf.cast(ids != PADDING, self.table.dtype)[..., tf.newaxis]
        # A gather from the table, or from the parts of one that is partitioned.
        return tf.nn.embedding_lookup(self.table, ids) * real

    def as_candidates(self, vectors: tf.Tensor) -> tf.Tensor:
        """Vectors that `call` gave, as users are matched with them, float [..., d]."""
        return tf.math.l2_normalize(vectors, axis=-1) if self.has_unit_length else vectors

    def candidate_parts(self) -> Iterator[np.ndarray]:
        """The vectors that users are matched with, float32 [V, d] in the consecutive parts of the table."""
        first = 0
        for number, part in enumerate(self.parts):
            vectors = self._with_features(part.numpy(), first)[1 if number == 0 else 0 :]
            first += part.shape[0]
            if self.has_unit_length:
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            yield vectors

    def embeddings(self) -> np.ndarray:
        """What `call` gives for every item, float32 [V + 1, d]; row 0 is padding."""
        return self._with_features(self.table.numpy(), 0)

    def feature_vectors(self) -> np.ndarray:
        """What the features of every item say, float32 [V + 1, d]; zeros where there are none."""
        return self._with_features(np.zeros([self.num_items + 1, self.embedding_dim], np.float32), 0)

    def start_from_features(self, is_known: np.ndarray) -> None:
        """Puts 0 into the rows of items that training does not know, which stay so: nothing looks them up.

        Args:
          is_known: bool [V + 1].
        """
        self.table.assign(self.table.numpy() * is_known[:, np.newaxis].astype(np.float32))

    def vectors_of_features(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The vectors that users are matched with, of items that are not in the catalogue.

        Args:
          values: item column -> stored values, [N, ...].

        Returns:
          float32 [N, d], of their features alone.
        """
        return self.as_candidates(
            self.features.encode({name: tf.constant(value) for name, value in values.items()})
        ).numpy()

    def _with_features(self, rows: np.ndarray, first: int) -> np.ndarray:
        """Rows of the table from `first` on, what their items' features say added, block by block."""
        if self.features is None:
            return rows
        for start in range(0, len(rows), _ITEMS_PER_BLOCK):
            block = rows[start : start + _ITEMS_PER_BLOCK]
            ids = np.arange(first + start, first + start + len(block), dtype=np.int32)
            block += self.features(tf.constant(ids)).numpy() * (ids != PADDING)[:, np.newaxis]
        return rows

    def look_up_once(self, *ids: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Looks each distinct item up once, whatever it is needed for.

        A step needs popular items many times over. Gathering again from the few distinct vectors is cheaper
        than from the table, and the table's gradient has one row for each of them.

        Args:
          *ids: int32 of any shapes, 0..V.

        Returns:
          float [U, d], the vectors of the U distinct items, and for each of `ids` an int32 of its shape:
          where its items are among them.
        """
        sizes = [tf.size(one) for one in ids]
        distinct_U, places = tf.unique(tf.concat([tf.reshape(one, [-1]) for one in ids], axis=0))
        split = tf.split(places, sizes)
        shaped = [tf.reshape(place, tf.shape(one)) for place, one in zip(split, ids, strict=True)]
        for place, one in zip(shaped, ids, strict=True):
            place.set_shape(one.shape)
        return dropout(self._of_distinct(distinct_U), self._rate), shaped

    def _of_distinct(self, ids_U: tf.Tensor) -> tf.Tensor:
        """The vectors of distinct items, float [U, d]."""
        rows_UD = self._rows(ids_U)
        if self.features is None:
            return rows_UD
        real_U1 = tf.cast(ids_U != PADDING, rows_UD.dtype)[:, tf.newaxis]
        return without_rows(rows_UD, self._id_rate) + self.features(ids_U) * real_U1

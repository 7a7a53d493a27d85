"""The item tower: one embedding table over the catalogue (g of equation 4)."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from causerec_tf.towers.dropout import dropout

PADDING = 0
SIMILARITIES = ("dot", "cosine")


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
        super().build(input_shape)

    @property
    def parts(self) -> list[tf.Variable]:
        """The table, or the consecutive parts of one that a strategy partitions."""
        return list(getattr(self.table, "variables", [self.table]))

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Looks items up, int [...] -> float [..., d]; zeros for padding, without a gradient."""
        real = tf.cast(ids != PADDING, self.table.dtype)[..., tf.newaxis]
        # A gather from the table, or from the parts of one that is partitioned.
        return tf.nn.embedding_lookup(self.table, ids) * real

    def as_candidates(self, vectors: tf.Tensor) -> tf.Tensor:
        """Vectors that `call` gave, as users are matched with them, float [..., d]."""
        return tf.math.l2_normalize(vectors, axis=-1) if self.has_unit_length else vectors

    def candidate_parts(self) -> Iterator[np.ndarray]:
        """The vectors that users are matched with, float32 [V, d] in the consecutive parts of the table."""
        for number, part in enumerate(self.parts):
            vectors = part.numpy()[1 if number == 0 else 0 :]
            if self.has_unit_length:
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            yield vectors

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
        return dropout(self(distinct_U), self._rate), shaped

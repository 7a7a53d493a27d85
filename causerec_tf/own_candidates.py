"""The items of each user's own history as candidates, where returns are learned.

Shapes: B histories, L positions, d vector size, U distinct items of a step, N real positions of all
histories together. Of whole sequences: R of them, P predictions.
"""

from typing import NamedTuple

import tensorflow as tf

from causerec_tf.returns import ReturnTerms
from causerec_tf.towers.item import PADDING


class ItemsOfHistories(NamedTuple):
    """The real items of histories: half of a batch and more is padding, which costs nothing here.

    Attributes:
      at_N2: int64 [N, 2], their places in the histories.
      places_N: int64 [N], where they are among the distinct items.
      vectors_UD: float [U, d], the vectors of these, as users are matched with them.
      shape: int64 [2], B and L.
    """

    at_N2: tf.Tensor
    places_N: tf.Tensor
    vectors_UD: tf.Tensor
    shape: tf.Tensor

    @classmethod
    def of(cls, history_BL: tf.Tensor, vectors_UD: tf.Tensor, places_BL: tf.Tensor) -> "ItemsOfHistories":
        """Finds the items.

        Args:
          history_BL: int [B, L], 0 is padding.
          vectors_UD: float [U, d].
          places_BL: int [B, L], where each item is among these.
        """
        at_N2 = tf.where(history_BL != PADDING)
        places_N = tf.cast(tf.gather_nd(places_BL, at_N2), tf.int64)
        return cls(at_N2, places_N, vectors_UD, tf.shape(history_BL, out_type=tf.int64))

    def products(self, user_BD: tf.Tensor) -> tf.Tensor:
        """The inner product of each user with each of their items, float [B, L]; 0 for padding."""
        products_N = _products_of_pairs(user_BD, self.vectors_UD, self.at_N2[:, 0], self.places_N)
        return tf.scatter_nd(self.at_N2, products_N, self.shape)

    def similarities(self, users: tf.Tensor) -> tf.Tensor:
        """The inner product of each item with the nearest of its user's vectors, [B, d] or [B, I, d]."""
        if users.shape.rank == 2:
            return self.products(users)
        return tf.reduce_max([self.products(one_BD) for one_BD in tf.unstack(users, axis=1)], axis=0)

    def repeated(self, times: int) -> "ItemsOfHistories":
        """The same with each history `times` times in a row."""
        rows, columns = tf.unstack(tf.repeat(self.at_N2, times, axis=0), axis=1)
        which = tf.tile(tf.range(times, dtype=rows.dtype), [tf.shape(self.at_N2)[0]])
        at_N2 = tf.stack([rows * times + which, columns], axis=1)
        places_N = tf.repeat(self.places_N, times)
        return ItemsOfHistories(at_N2, places_N, self.vectors_UD, self.shape * [times, 1])


class OwnItems(NamedTuple):
    """The items of each user's own history, which are candidates, too.

    Attributes:
      items: their vectors.
      returns: the terms of their logits.
    """

    items: ItemsOfHistories
    returns: ReturnTerms

    def products(self, user_BD: tf.Tensor) -> tf.Tensor:
        """The inner product of each user with each of their items, float [B, L]."""
        return self.items.products(user_BD)

    def repeated(self, times: int) -> "OwnItems":
        """The same with each user `times` times in a row."""
        terms = ReturnTerms(*(tf.repeat(one, times, axis=0) for one in self.returns))
        return OwnItems(self.items.repeated(times), terms)


class OwnItemsOfSequences(NamedTuple):
    """The same of P predictions at the positions of R whole sequences, each with the items up to its own.

    Attributes:
      item_RLD: float [R, L, d], the vectors of the sequences' items.
      numbers_P: int32 [P], which of the R * L positions each prediction is made at.
      returns: the terms of the logits, [P, L].
    """

    item_RLD: tf.Tensor
    numbers_P: tf.Tensor
    returns: ReturnTerms

    def products(self, user_PD: tf.Tensor) -> tf.Tensor:
        """The inner product of each prediction with each item of its sequence, float [P, L]."""
        return products_in_sequences(user_PD, self.item_RLD, self.numbers_P)

    def repeated(self, times: int) -> "OwnItemsOfSequences":
        """Refused: counterfactuals are matched on windows."""
        raise NotImplementedError("counterfactuals of whole sequences are matched on windows drawn of them")


def products_in_sequences(user_PD: tf.Tensor, item_RLD: tf.Tensor, numbers_P: tf.Tensor) -> tf.Tensor:
    """What `OwnItemsOfSequences.products` gives; no item vector is gathered once for each prediction."""
    num_rows, length, width = tf.unstack(tf.shape(item_RLD))
    # As many vectors as positions, so that a sequence is one product.
    at_every_position = tf.scatter_nd(numbers_P[:, tf.newaxis], user_PD, [num_rows * length, width])
    user_RLD = tf.reshape(at_every_position, [num_rows, length, width])
    products_RLL = tf.matmul(user_RLD, item_RLD, transpose_b=True)
    return tf.gather(tf.reshape(products_RLL, [num_rows * length, length]), numbers_P)


@tf.function(reduce_retracing=True, autograph=False)
def _products_of_pairs(
    user_BD: tf.Tensor, vectors_UD: tf.Tensor, rows_N: tf.Tensor, places_N: tf.Tensor
) -> tf.Tensor:
    """The inner products of pairs of a user and an item, `user[rows] . vectors[places]`, float [N].

    Its gradients are written by hand, as products of a sparse matrix: those of the two lookups would write
    out N vectors each, only to add them up.

    A function of its own because TensorFlow keeps the graph around a custom gradient for as long as the
    process lives: that of a training step would keep the model.
    """

    @tf.custom_gradient
    def products(user_BD, vectors_UD):
        def gradient(upstream_N):
            shape = tf.stack([tf.shape(one, out_type=tf.int64)[0] for one in (user_BD, vectors_UD)])
            upstream = tf.SparseTensor(tf.stack([rows_N, places_N], axis=1), upstream_N, shape)
            return (
                tf.sparse.sparse_dense_matmul(upstream, vectors_UD),
                tf.sparse.sparse_dense_matmul(upstream, user_BD, adjoint_a=True),
            )

        pairs_ND = tf.gather(user_BD, rows_N) * tf.gather(vectors_UD, places_N)
        return tf.reduce_sum(pairs_ND, axis=1), gradient

    return products(user_BD, vectors_UD)

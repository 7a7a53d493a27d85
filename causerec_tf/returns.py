"""What speaks for an item of the history because it is in the history: a learned term of its logit.

Whether a user comes back to an item is a property of the log: of check-ins and music most events are returns,
of ratings none. With this part the logit of an item of the history is

    u . v / temperature + r,    r = w_2 . relu(W_1 f + b_1) + b_2

where f are the features of `return_features`. W_1 is drawn, w_2 and b_2 start at 0, so that a model starts as
one without.

Vectors and r learn apart, like the two modes of RepeatNet (Ren et al., AAAI 2019). Vectors learn from targets
among items that are new to the user, and little from returns (`return_weight`): what these teach, that a user
is near what the user had, spoils lists without seen items, and r says it better. r learns from all targets
among all candidates (`returns_loss`).

Shapes: B histories, L positions, d vector size, I vectors a user, U distinct items of a step, F features,
H hidden units, N real positions of all histories together.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from causerec_tf.towers.item import PADDING

# The order of the last axis of `return_features`.
FEATURES = (
    "log_occurrences",
    "log_age",
    "is_newest",
    "log_length",
    "share_of_returns",
    "similarity",
)
_HIDDEN = 16


class OwnItems(NamedTuple):
    """The distinct items of each user's history, at the last position of each.

    Attributes:
      items_BL: int [B, L], the item, or 0 where an item stands again later, and for padding.
      similarities_BL: float [B, L], `u . v`, of several vectors the largest. No gradient goes through it.
      terms_BL: float [B, L], r; 0 where there is no item.
    """

    items_BL: tf.Tensor
    similarities_BL: tf.Tensor
    terms_BL: tf.Tensor

    def hold(self, targets_B: tf.Tensor) -> tf.Tensor:
        """Where each user's target, int [B], is among the items, bool [B, L]."""
        return self.items_BL == targets_B[:, tf.newaxis]


class Returns(tf.keras.layers.Layer):
    """Learns r, the term of the logit of the items of a history."""

    def __init__(self, *, seed: int = 0, **kwargs):
        """Sets the seed of the initial weights; **kwargs are of the Keras layer."""
        super().__init__(**kwargs)
        self._seed = seed

    def build(self, input_shape) -> None:
        """Makes the weights."""

        def initial(shape, dtype=None, **_):
            return tf.random.stateless_normal(
                shape, [self._seed, -7], stddev=len(FEATURES) ** -0.5, dtype=dtype
            )

        self.hidden = self.add_weight(name="hidden", shape=[len(FEATURES), _HIDDEN], initializer=initial)
        self.hidden_bias = self.add_weight(name="hidden_bias", shape=[_HIDDEN], initializer="zeros")
        self.out = self.add_weight(name="out", shape=[_HIDDEN], initializer="zeros")
        self.out_bias = self.add_weight(name="out_bias", shape=[], initializer="zeros")
        super().build(input_shape)

    def call(self, history_BL: tf.Tensor, similarities_BL: tf.Tensor) -> OwnItems:
        """The items of histories with their terms.

        Args:
          history_BL: int [B, L], oldest first, 0 is padding.
          similarities_BL: float [B, L], `u . v` of each item; what is learned here does not change it.
        """
        similarities_BL = tf.stop_gradient(similarities_BL)
        items_BL, features_BLF = return_features(history_BL, similarities_BL)
        at_N2 = tf.where(items_BL != PADDING)
        hidden_NH = tf.nn.relu(tf.gather_nd(features_BLF, at_N2) @ self.hidden + self.hidden_bias)
        terms_N = tf.linalg.matvec(hidden_NH, self.out) + self.out_bias
        terms_BL = tf.scatter_nd(at_N2, terms_N, tf.shape(items_BL, out_type=tf.int64))
        return OwnItems(items_BL, similarities_BL, terms_BL)


class HistoryScores:
    """Scores of the items of histories, returns included, on the scale of the inner products `u . v`."""

    def __init__(
        self, returns: Returns, *, as_candidates: Callable[[tf.Tensor], tf.Tensor], temperature: float
    ):
        """Composes.

        Args:
          returns: gives the terms of the logits.
          as_candidates: what the item tower gives for a history -> the vectors that users are matched with.
          temperature: what the inner products are divided by in a logit.
        """
        self._returns, self._as_candidates, self._temperature = returns, as_candidates, temperature

    @property
    def variables(self) -> list[tf.Variable]:
        """What was learned."""
        return self._returns.variables

    def __call__(
        self, history_BL: tf.Tensor, concepts_BLD: tf.Tensor, users: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores the items of histories.

        Args:
          history_BL: int [B, L], oldest first, 0 is padding.
          concepts_BLD: float [B, L, d], what the item tower gives for them.
          users: float [B, d] or [B, I, d], what the user tower gives.

        Returns:
          int [B, L], each distinct item at its last position and 0 elsewhere, and float [B, L], the scores.
        """
        several_BID = users[:, tf.newaxis] if users.shape.rank == 2 else users
        item_BLD = self._as_candidates(concepts_BLD)
        similarities_BL = tf.reduce_max(tf.matmul(item_BLD, several_BID, transpose_b=True), axis=2)
        own = self._returns(history_BL, similarities_BL)
        return own.items_BL, own.similarities_BL + self._temperature * own.terms_BL


def returns_loss(
    own: OwnItems,
    targets_B: tf.Tensor,
    positive_B: tf.Tensor,
    others_B: tf.Tensor,
    *,
    temperature: float,
    log_share: float,
) -> tf.Tensor:
    """What r is trained by: the target among the sampled negatives and the user's own items.

        -log e^(p + r_t) / (e^(p + r_t) + e^o + s sum_{i != t} e^(u . v_i / temperature + r_i))

    with r_t of a target that is not the user's own 0. Only r is trained.

    Args:
      own: the users' own items.
      targets_B: int [B].
      positive_B: float [B], p, the logit of the target without r.
      others_B: float [B], o, the log of the sum of e^logit over the sampled negatives that are not the
        user's own.
      temperature: what the similarities are divided by.
      log_share: log s: of what part of the catalogue the sample is. A sample of a hundredth weighs as a
        hundredth of the catalogue, and so must own items.

    Returns:
      float [B], the loss of each example.
    """
    is_target_BL = own.hold(targets_B)
    mine_B = tf.stop_gradient(positive_B) + tf.reduce_sum(tf.where(is_target_BL, own.terms_BL, 0.0), axis=1)
    logits_BL = own.similarities_BL / temperature + own.terms_BL + log_share
    is_other_BL = (own.items_BL != PADDING) & ~is_target_BL
    own_B = tf.reduce_logsumexp(tf.where(is_other_BL, logits_BL, logits_BL.dtype.min), axis=1)
    others_B = tf.reduce_logsumexp(tf.stack([tf.stop_gradient(others_B), own_B]), axis=0)
    return tf.nn.softplus(others_B - mine_B)


def own_similarities(
    users: tf.Tensor, history_BL: tf.Tensor, vectors_UD: tf.Tensor, places_BL: tf.Tensor
) -> tf.Tensor:
    """The inner product of each item of a history with the nearest of its user's vectors, without a gradient.

    Args:
      users: float [B, d] or [B, I, d].
      history_BL: int [B, L], 0 is padding, of which half of a batch and more is: it costs nothing here.
      vectors_UD: float [U, d], the vectors of the step's distinct items, as users are matched with them.
      places_BL: int [B, L], where each item is among these.

    Returns:
      float [B, L]; 0 for padding.
    """
    several_BID = tf.stop_gradient(users[:, tf.newaxis] if users.shape.rank == 2 else users)
    at_N2 = tf.where(history_BL != PADDING)
    item_ND = tf.gather(tf.stop_gradient(vectors_UD), tf.gather_nd(places_BL, at_N2))
    products_N = tf.reduce_max(
        [
            tf.reduce_sum(tf.gather(user_BD, at_N2[:, 0]) * item_ND, axis=1)
            for user_BD in tf.unstack(several_BID, axis=1)
        ],
        axis=0,
    )
    return tf.scatter_nd(at_N2, products_N, tf.shape(history_BL, out_type=tf.int64))


def return_features(history_BL: tf.Tensor, similarities_BL: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What r is computed from.

    Of an item that stands c times in a history of n items, m of them distinct, the last time with a items
    after it: log c, log(1 + a), whether a = 0, log n, 1 - m / n, and `u . v`.

    Args:
      history_BL: int [B, L], oldest first, 0 is padding.
      similarities_BL: float [B, L], `u . v` of each item.

    Returns:
      int [B, L], the item at its last position and 0 elsewhere, and float [B, L, F].
    """
    mask_BL = history_BL != PADDING
    num_rows, length = tf.unstack(tf.shape(history_BL, out_type=tf.int64))
    rows_BL = tf.range(num_rows)[:, tf.newaxis]
    positions_BL = tf.zeros([num_rows, 1], tf.int64) + tf.range(length)
    # One number for each pair of row and item.
    width = tf.cast(tf.reduce_max(history_BL), tf.int64) + 1
    keys_N = tf.reshape(rows_BL * width + tf.cast(history_BL, tf.int64), [-1])
    pairs, numbers_N = tf.unique(keys_N, out_idx=tf.int64)
    count = tf.size(pairs, out_type=tf.int64)
    occurrences = tf.math.unsorted_segment_sum(tf.ones_like(keys_N), numbers_N, count)
    last = tf.math.unsorted_segment_max(tf.reshape(positions_BL, [-1]), numbers_N, count)
    shape = tf.shape(history_BL)
    is_last_BL = mask_BL & (tf.reshape(tf.gather(last, numbers_N), shape) == positions_BL)
    occurrences_BL = tf.cast(tf.reshape(tf.gather(occurrences, numbers_N), shape), tf.float32)
    lengths_B1 = tf.reduce_sum(tf.cast(mask_BL, tf.float32), axis=1, keepdims=True)
    distinct_B1 = tf.reduce_sum(tf.cast(is_last_BL, tf.float32), axis=1, keepdims=True)
    age_BL = tf.maximum(lengths_B1 - 1.0 - tf.cast(positions_BL, tf.float32), 0.0)
    like = tf.zeros_like(similarities_BL)
    features = [
        tf.math.log(occurrences_BL),
        tf.math.log1p(age_BL),
        tf.cast(age_BL == 0.0, tf.float32),
        tf.math.log(tf.maximum(lengths_B1, 1.0)) + like,
        1.0 - distinct_B1 / tf.maximum(lengths_B1, 1.0) + like,
        similarities_BL,
    ]
    return tf.where(is_last_BL, history_BL, tf.zeros_like(history_BL)), tf.stack(features, axis=-1)

"""MIND (Li et al., CIKM 2019) and ComiRec-DR (Cen et al., KDD 2020): interests by dynamic routing.

Shapes: B examples, L history positions, d vector size, K interests (capsules).
"""

import tensorflow as tf

from causerec_tf.towers import positions
from causerec_tf.towers.base import UserTower
from causerec_tf.towers.layers import dense, seed_of

ITERATIONS = 3  # of the routing, in both papers
_TINY = 1e-9  # under a square root


def route(votes: tf.Tensor, mask_BL: tf.Tensor, logits_BKL: tf.Tensor) -> tf.Tensor:
    """Behaviour-to-interest dynamic routing.

    Three times

        w = softmax(b) over the interests,   c_k = squash(sum_l w_kl v_kl),   b_kl += c_k . v_kl,

    the last addition left out, with `squash(z) = |z|^2 / (1 + |z|^2) z / |z|`. As in the published codes, no
    gradient passes through the logits b: the votes get theirs from the last sum alone.

    Args:
      votes: float [B, L, d], v_l, where the interests share a transformation of the items; [B, K, L, d],
        v_kl, where each has its own.
      mask_BL: bool [B, L], which items are real; the others have no weight.
      logits_BKL: float [B or 1, K, L], b before the first iteration.

    Returns:
      float [B, K, d]; zeros where no item is real.
    """
    real_B1L = tf.cast(mask_BL, votes.dtype)[:, tf.newaxis]
    fixed_votes = tf.stop_gradient(votes)
    logits_BKL = tf.stop_gradient(logits_BKL)
    for _ in range(ITERATIONS - 1):
        weights_BKL = tf.nn.softmax(logits_BKL, axis=1) * real_B1L
        capsules_BKD = _squash(_weighted_sum(weights_BKL, fixed_votes))
        logits_BKL += _agreement(capsules_BKD, fixed_votes)
    weights_BKL = tf.nn.softmax(logits_BKL, axis=1) * real_B1L
    return _squash(_weighted_sum(weights_BKL, votes))


class MINDTower(UserTower):
    """MIND's encoder: routing with one bilinear map S for all interests, then a ReLU layer on each.

        v_l = S x_l,   user vectors = ReLU(W c_k + b)

    Since the interests share S, their logits start apart: from a Gaussian that is drawn once, by the seed,
    for every interest and position. It is part of the checkpoint, so that training, evaluation and serving
    route alike, where ComiRec's code draws it anew for each batch. All K interests are always kept; the
    paper's rule that short histories have fewer is not in that code either. The label-aware attention, which
    exists in training only, is in `matching`.
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        num_interests: int,
        max_history: int,
        use_bias: bool = False,
        seed: int = 0,
        **kwargs,
    ):
        """Makes the layers.

        Args:
          embedding_dim: d, of the concepts and of the user vectors.
          num_interests: K.
          max_history: how many positions have initial logits; 0 beyond.
          use_bias: whether S has a bias, as in ComiRec's code and not in MIND's paper.
          seed: of the initial weights and logits.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the products with S and W.
        """
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self.num_interests = num_interests
        self.max_history = max_history
        self._seed = seed
        self._shared = dense(
            embedding_dim,
            seed_of(seed, 0),
            "shared",
            self.dtype_policy,
            use_bias=use_bias,
            bias_initializer=tf.keras.initializers.GlorotUniform(seed_of(seed, 3)),
        )
        self._project = dense(
            embedding_dim, seed_of(seed, 1), "project", self.dtype_policy, activation="relu"
        )

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        self._initial_logits = self.add_weight(
            name="initial_logits",
            shape=[self.max_history, self.num_interests],
            initializer=tf.keras.initializers.TruncatedNormal(stddev=1.0, seed=seed_of(self._seed, 2)),
            trainable=False,
            experimental_autocast=False,
        )
        self._shared.build([None, None, self.embedding_dim])
        self._project.build([None, None, self.embedding_dim])
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; `ReLU(b)` where no concept is real."""
        votes_BLD = tf.cast(self._shared(concepts_BLD), tf.float32)
        logits_LK = positions.from_oldest(self._initial_logits, tf.shape(mask_BL)[1])
        capsules_BKD = route(votes_BLD, mask_BL, tf.transpose(logits_LK)[tf.newaxis])
        return tf.cast(self._project(capsules_BKD), tf.float32)


class ComiRecDRTower(UserTower):
    """ComiRec's routing: each interest and position has a transformation of its own.

        v_kl = W_kl x_l,   user vectors = c_k

    The logits start from 0, since the transformations tell the interests apart. Positions are counted from
    the oldest item, as in the published code.

    That code draws W from a normal distribution of deviation 1, which makes votes sqrt(d) times longer than
    their items. By default here a vote is as long as its item. Either way a vote starts as an unrelated
    direction at every position, and the model has to learn what an item is once for each. Maps that start
    near the identity spare it that: a vote starts as its item.
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        num_interests: int,
        max_history: int,
        map_std: float | None = None,
        near_identity: bool = False,
        seed: int = 0,
        **kwargs,
    ):
        """Sets the sizes.

        Args:
          embedding_dim: d, of the concepts and of the user vectors.
          num_interests: K.
          max_history: how many positions have a transformation; later ones are not read.
          map_std: standard deviation of the initial weights, which are normal; None: 1 / sqrt(d).
          near_identity: whether their mean is the identity and not 0.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the transformations.
        """
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self.num_interests = num_interests
        self.max_history = max_history
        self._map_std = embedding_dim**-0.5 if map_std is None else map_std
        self._near_identity = near_identity
        self._seed = seed

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        normal = tf.keras.initializers.RandomNormal(stddev=self._map_std, seed=seed_of(self._seed, 0))

        def initial(shape, dtype=None, **_):
            mean = tf.tile(tf.eye(self.embedding_dim, dtype=dtype), [1, self.num_interests])
            return normal(shape, dtype) + mean if self._near_identity else normal(shape, dtype)

        self._transformations = self.add_weight(
            name="transformations",
            shape=[self.max_history, self.embedding_dim, self.num_interests * self.embedding_dim],
            initializer=initial,
        )
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; zeros where no concept is real."""
        batch_size, length = tf.unstack(tf.shape(mask_BL))
        # The weights are read in the precision of the products.
        concepts_BLD = tf.cast(concepts_BLD, self.compute_dtype)
        weights_LDW = positions.from_oldest(tf.convert_to_tensor(self._transformations), length)
        votes_BLW = tf.einsum("bld,ldw->blw", concepts_BLD, weights_LDW)
        shape = [batch_size, length, self.num_interests, self.embedding_dim]
        votes_BLKD = tf.reshape(tf.cast(votes_BLW, tf.float32), shape)
        logits_BKL = tf.zeros([1, self.num_interests, length])
        return route(tf.transpose(votes_BLKD, [0, 2, 1, 3]), mask_BL, logits_BKL)


def _weighted_sum(weights_BKL: tf.Tensor, votes: tf.Tensor) -> tf.Tensor:
    """Sum of the votes for each interest, float [B, K, d]."""
    if votes.shape.rank == 3:
        return tf.matmul(weights_BKL, votes)
    return tf.linalg.matvec(votes, weights_BKL, transpose_a=True)


def _agreement(capsules_BKD: tf.Tensor, votes: tf.Tensor) -> tf.Tensor:
    """Inner product of each interest with each vote for it, float [B, K, L]."""
    if votes.shape.rank == 3:
        return tf.matmul(capsules_BKD, votes, transpose_b=True)
    return tf.linalg.matvec(votes, capsules_BKD)


def _squash(vectors: tf.Tensor) -> tf.Tensor:
    """Shortens each vector to less than one: long ones to almost one, short ones to almost nothing."""
    squared = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
    return vectors * squared / (1.0 + squared) / tf.sqrt(squared + _TINY)

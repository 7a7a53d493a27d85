"""User vectors of length one: with items of length one, their inner product is the cosine."""

import tensorflow as tf

from causerec_tf.towers.base import Changes, UserTower


class UnitLengthTower(UserTower):
    """Any user tower, its vectors divided by their L2 norm. A vector of zeros stays one."""

    has_unit_length = True

    def __init__(self, tower: UserTower, **kwargs):
        """Wraps a tower.

        Args:
          tower: whose vectors are divided.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self.tower = tower
        self.num_interests = tower.num_interests
        self.max_history = tower.max_history
        self.is_causal = tower.is_causal

    def build(self, input_shape) -> None:
        """Makes every weight."""
        self.tower.build(input_shape)
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; the vectors have length one along the last axis."""
        return _unit(self.tower(concepts_BLD, mask_BL))

    def encode_places(self, places_BL: tf.Tensor, mask_BL: tf.Tensor, vectors_UD: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`, as cheaply as the wrapped tower can."""
        return _unit(self.tower.encode_places(places_BL, mask_BL, vectors_UD))

    def encode_every_position(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`, of a wrapped tower that is causal."""
        return _unit(self.tower.encode_every_position(concepts_BLD, mask_BL))

    def encode_counterfactuals(
        self, history_BL: tf.Tensor, mask_BL: tf.Tensor, changes: Changes, vectors_UD: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As in `UserTower`, as cheaply as the wrapped tower can."""
        users, others = self.tower.encode_counterfactuals(history_BL, mask_BL, changes, vectors_UD)
        return _unit(users), _unit(others)

    def encode_extracted(self, weights_BCLK, has_concepts_B, history_BL, changes, vectors_UD) -> tf.Tensor:
        """As in `UserTower`, as cheaply as the wrapped tower can."""
        given = weights_BCLK, has_concepts_B, history_BL, changes, vectors_UD
        return _unit(self.tower.encode_extracted(*given))


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(vectors, axis=-1)

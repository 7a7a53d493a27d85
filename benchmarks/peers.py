"""What is measured beside us: the two-tower model that the TFRS tutorials build, by the shortest way."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.products import MLP_HIDDEN_UNITS


class TwoTower(tfrs.Model):
    """A vanilla TFRS retrieval model with in-batch softmax.

    The query tower embeds the history, takes the mean of the real items and applies our MLP; the candidate
    tower is an embedding. `train_step` is TFRS's own.
    """

    def __init__(self, num_items: int, width: int, *, shared_table: bool = False):
        """Makes the towers.

        Args:
          num_items: V; index 0 is padding.
          width: d.
          shared_table: one table for both towers, where the tutorials have one each.
        """
        super().__init__()
        table = tf.keras.layers.Embedding(num_items + 1, width, mask_zero=True)
        self.query_tower = tf.keras.Sequential(
            [
                table,
                tf.keras.layers.GlobalAveragePooling1D(),
                *(tf.keras.layers.Dense(units, activation="relu") for units in MLP_HIDDEN_UNITS),
                tf.keras.layers.Dense(width),
            ]
        )
        self.candidate_tower = table if shared_table else tf.keras.layers.Embedding(num_items + 1, width)
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The loss of a batch.

        Args:
          inputs: `history` int32 [B, L] and `target` int32 [B].
          training: not used.
        """
        return self.task(self.query_tower(inputs["history"]), self.candidate_tower(inputs["target"]))


def two_tower_adam(num_items: int, width: int) -> TwoTower:
    """The vanilla model with Keras's Adam, our learning rate."""
    return _compiled(TwoTower(num_items, width), tf.keras.optimizers.Adam(0.005))


def two_tower_adam_shared_table(num_items: int, width: int) -> TwoTower:
    """The same with one table, which halves what Adam has to go through."""
    return _compiled(TwoTower(num_items, width, shared_table=True), tf.keras.optimizers.Adam(0.005))


def two_tower_adagrad(num_items: int, width: int) -> TwoTower:
    """The vanilla model with Keras's Adagrad, as the tutorials have it: its step is sparse."""
    return _compiled(TwoTower(num_items, width), tf.keras.optimizers.Adagrad(0.1))


def _compiled(model: TwoTower, optimizer: tf.keras.optimizers.Optimizer) -> TwoTower:
    model.compile(optimizer=optimizer)
    return model

"""Weights of ComiRec's code (THUDM/ComiRec) in our towers, and what our towers answer under them.

Shapes: B examples, L history positions, K interests, d vector size, V items.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from causerec_tf.matching import nearest_interest
from causerec_tf.towers.capsules import ComiRecDRTower, MINDTower
from causerec_tf.towers.multi_interest import SelfAttentiveMultiInterestTower

TOWERS = {
    "comirec_sa": SelfAttentiveMultiInterestTower,
    "comirec_dr": ComiRecDRTower,
    "mind": MINDTower,
}


class Answer(NamedTuple):
    """What an implementation answers.

    Attributes:
      interests_BKD: float32 [B, K, d], the user vectors.
      readout_BD: float32 [B, d], the one of them that is trained for the target.
      gradients: of the sum of the readouts' sines: that of the item table, float32 [V + 1, d], then those of
        the trainable weights, in the order and layout of our tower.
    """

    interests_BKD: np.ndarray
    readout_BD: np.ndarray
    gradients: list[np.ndarray]


def in_our_layout(values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values of the published variables, in the order in which that code made them, as ours.

    Its tables by position have a leading axis of one, and its routing maps have the vote's axis before the
    item's.
    """
    ours = [value[0] if value.ndim > 2 else value for value in values]
    return [np.swapaxes(value, 1, 2) if value.ndim == 3 else value for value in ours]


def our_answer(
    name: str,
    weights: Sequence[np.ndarray],
    items: np.ndarray,
    history_BL: np.ndarray,
    target_B: np.ndarray,
    *,
    num_interests: int,
) -> Answer:
    """What our tower answers under given weights.

    Args:
      name: of `TOWERS`.
      weights: of the tower's variables, in their order; MIND's last are its initial logits.
      items: float32 [V + 1, d], the item vectors; row 0 is padding.
      history_BL: int [B, L], oldest first, padded with 0 on the right.
      target_B: int [B], the items that the readout is for.
      num_interests: K.
    """
    width = items.shape[1]
    by_position = weights[-1] if name == "mind" else weights[0]
    made_with = {"num_interests": num_interests, "max_history": len(by_position)}
    if name != "comirec_dr":
        made_with["use_bias"] = True
    tower = TOWERS[name](width, **made_with)
    tower.build(None)
    for variable, value in zip(tower.variables, weights, strict=True):
        variable.assign(value)
    table = tf.Variable(items)
    with tf.GradientTape() as tape:
        interests_BKD = tower(tf.gather(table, history_BL), tf.constant(history_BL != 0))
        readout_BD = nearest_interest(interests_BKD, tf.gather(table, target_B))
        total = tf.reduce_sum(tf.sin(readout_BD))
    gradients = tape.gradient(total, [table, *tower.trainable_variables])
    return Answer(
        interests_BKD.numpy(), readout_BD.numpy(), [tf.convert_to_tensor(one).numpy() for one in gradients]
    )

"""The user tower that the settings ask for."""

from typing import Any

import tensorflow as tf

from causerec_tf.settings import Settings
from causerec_tf.towers.capsules import ComiRecDRTower, MINDTower
from causerec_tf.towers.gru import GRU4RecTower
from causerec_tf.towers.multi_interest import SelfAttentiveMultiInterestTower
from causerec_tf.towers.pooling import MeanPoolingTower
from causerec_tf.towers.self_attention import SASRecTower
from causerec_tf.towers.youtube_dnn import YouTubeDNNTower


def user_tower(settings: Settings) -> tf.keras.layers.Layer:
    """Makes a user tower with all its weights, so that a checkpoint can be restored before the first call.

    Args:
      settings: of the run.

    Returns:
      A layer from concepts [B, L, d] and mask [B, L] to user vectors, [B, d] or [B, K, d].
    """
    tower = _unbuilt(settings)
    tower.build(None)
    return tower


def _unbuilt(settings: Settings) -> tf.keras.layers.Layer:
    width = settings.embedding_dim
    common: dict[str, Any] = {"seed": settings.seed, "dtype": settings.precision}
    interests: dict[str, Any] = {"num_interests": settings.num_interests, "max_history": settings.max_history}
    if settings.tower == "mean":
        return MeanPoolingTower(width, **common)
    if settings.tower == "youtube_dnn":
        return YouTubeDNNTower(width, **common)
    if settings.tower == "gru4rec":
        return GRU4RecTower(width, **common)
    if settings.tower == "sasrec":
        return SASRecTower(width, max_history=settings.max_history, **common)
    if settings.tower == "mind":
        return MINDTower(width, **interests, **common)
    if settings.tower == "comirec_sa":
        return SelfAttentiveMultiInterestTower(width, **interests, **common)
    if settings.tower == "comirec_dr":
        return ComiRecDRTower(width, **interests, **common)
    raise ValueError(f"tower={settings.tower!r} is a choice of the settings, but no tower here.")

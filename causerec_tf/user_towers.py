"""The user tower that the settings ask for."""

from typing import Any

import tensorflow as tf

from causerec_tf.settings import Settings
from causerec_tf.towers.capsules import ComiRecDRTower, MINDTower
from causerec_tf.towers.gru import GRU4RecTower
from causerec_tf.towers.interest_attention import InterestAttention, InterestTower
from causerec_tf.towers.multi_interest import SelfAttentiveMultiInterestTower
from causerec_tf.towers.pooling import MeanPoolingTower
from causerec_tf.towers.self_attention import SASRecTower
from causerec_tf.towers.unit_length import UnitLengthTower
from causerec_tf.towers.youtube_dnn import YouTubeDNNTower


def user_tower(settings: Settings) -> tf.keras.layers.Layer:
    """Makes a user tower with all its weights, so that a checkpoint can be restored before the first call.

    Args:
      settings: of the run.

    Returns:
      A layer from concepts [B, L, d] and mask [B, L] to user vectors, [B, d] or [B, K, d].
    """
    tower = _encoder(settings)
    if settings.similarity == "cosine":
        tower = UnitLengthTower(tower)
    if settings.reads_interests:
        attention = InterestAttention(
            settings.embedding_dim,
            num_concepts=settings.num_concepts,
            attention_dim=settings.attention_dim,
            seed=settings.seed,
            dtype=settings.precision,
        )
        tower = InterestTower(attention, tower)
    tower.build(None)
    return tower


def _encoder(settings: Settings) -> tf.keras.layers.Layer:
    width = settings.embedding_dim
    length = settings.num_concepts if settings.reads_interests else settings.max_history
    common: dict[str, Any] = {"seed": settings.seed, "dtype": settings.precision}
    interests: dict[str, Any] = {"num_interests": settings.num_interests, "max_history": length}
    if settings.tower == "mean":
        return MeanPoolingTower(width, **common)
    if settings.tower == "youtube_dnn":
        return YouTubeDNNTower(width, **common)
    if settings.tower == "gru4rec":
        return GRU4RecTower(width, **common)
    if settings.tower == "sasrec":
        return SASRecTower(width, max_history=length, **common)
    if settings.tower == "mind":
        return MINDTower(width, **interests, **common)
    if settings.tower == "comirec_sa":
        return SelfAttentiveMultiInterestTower(width, **interests, **common)
    if settings.tower == "comirec_dr":
        return ComiRecDRTower(width, **interests, **common)
    raise ValueError(f"tower={settings.tower!r} is a choice of the settings, but no tower here.")

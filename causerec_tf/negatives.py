"""Sampled negatives of the softmax: drawn without state, with the counts their correction needs."""

from typing import NamedTuple

import tensorflow as tf


class Negatives(NamedTuple):
    """Negatives that a whole batch shares.

    Attributes:
      ids_S: int32 [S], items 1..V.
      log_expected_count_S: float [S], log of how often each is expected in the sample, or None where
        the sampler is uniform: equal corrections cancel in the softmax.
    """

    ids_S: tf.Tensor
    log_expected_count_S: tf.Tensor | None


def draw(sampler: str, *, num_items: int, num_sampled: int, seed: tf.Tensor) -> Negatives:
    """Draws the negatives of one step.

    Items are numbered 1..V by falling training frequency, which is what gives `log_uniform` a meaning.

    Args:
      sampler: `uniform` or `log_uniform`, both with replacement, or `full`: the whole catalogue.
      num_items: V.
      num_sampled: S; not used by `full`.
      seed: int [2]; the same seed draws the same items.

    Returns:
      The negatives.

    Raises:
      ValueError: no such sampler.
    """
    if sampler == "full":
        return Negatives(tf.range(1, num_items + 1), None)
    if sampler == "uniform":
        ids_S = tf.random.stateless_uniform(
            [num_sampled], seed, minval=1, maxval=num_items + 1, dtype=tf.int32
        )
        return Negatives(ids_S, None)
    if sampler == "log_uniform":
        # P(rank <= k) = log(k + 2) / log(V + 1) for ranks k = 0..V-1; its inverse draws the rank.
        uniform_S = tf.random.stateless_uniform([num_sampled], seed, dtype=tf.float64)
        log_range = tf.math.log(tf.constant(num_items + 1, tf.float64))
        rank_S = tf.cast(tf.math.exp(uniform_S * log_range), tf.int32) - 1
        ids_S = tf.minimum(rank_S, num_items - 1) + 1
        return Negatives(ids_S, log_uniform_log_expected_count(ids_S, num_items, num_sampled))
    raise ValueError(f"sampler {sampler!r}: wanted uniform, log_uniform or full.")


def log_uniform_log_expected_count(ids: tf.Tensor, num_items: int, num_sampled: int) -> tf.Tensor:
    """Log of S * P(id) under the log-uniform (Zipfian) sampler.

    `P(id) = (log(id + 1) - log(id)) / log(V + 1)` for ids 1..V, the distribution of
    `tf.random.log_uniform_candidate_sampler` shifted by the padding row.

    Args:
      ids: int [...], items 1..V.
      num_items: V.
      num_sampled: S, drawn with replacement.

    Returns:
      float [...], as `ids`.
    """
    rank = tf.cast(ids, tf.float32)
    probability = tf.math.log1p(1.0 / rank) / tf.math.log(float(num_items + 1))
    return tf.math.log(float(num_sampled) * probability)

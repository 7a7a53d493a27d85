"""Sampled negatives of the softmax: drawn without state, with the counts their correction needs.

Shapes: V items of the catalogue, numbered 1..V by falling training frequency; S sampled negatives.
"""

import math
from typing import NamedTuple, Protocol

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


class Sampler(Protocol):
    """What draws the negatives of a step."""

    def draw(self, num_items: int, seed: tf.Tensor) -> Negatives:
        """Draws; the same seed, int [2], draws the same items."""

    def log_expected_count(self, ids: tf.Tensor, num_items: int) -> tf.Tensor | None:
        """Log of how often each item is expected in a sample, float [...], or None if all are alike."""

    def log_share(self, num_items: int) -> float:
        """Log of the catalogue's part that the corrected sample stands for; for learned returns alone."""


class FullCatalogue:
    """No sample: every item is a negative."""

    def draw(self, num_items: int, seed: tf.Tensor) -> Negatives:
        """The whole catalogue, S = V."""
        del seed
        return Negatives(tf.range(1, num_items + 1), None)

    def log_expected_count(self, ids: tf.Tensor, num_items: int) -> None:
        """None: each item is there once."""
        return None

    def log_share(self, num_items: int) -> float:
        """0: it is the catalogue."""
        return 0.0


class UniformSampler:
    """Every item is as likely, with replacement."""

    def __init__(self, num_sampled: int):
        """Sets S, the number of negatives per step."""
        self.num_sampled = num_sampled

    def draw(self, num_items: int, seed: tf.Tensor) -> Negatives:
        """Draws S items; the same seed, int [2], draws the same."""
        bounds = {"minval": 1, "maxval": num_items + 1}
        return Negatives(
            tf.random.stateless_uniform([self.num_sampled], seed, **bounds, dtype=tf.int32), None
        )

    def log_expected_count(self, ids: tf.Tensor, num_items: int) -> None:
        """None: all are alike."""
        return None

    def log_share(self, num_items: int) -> float:
        """log(S / V)."""
        return math.log(self.num_sampled / num_items)


class LogUniformSampler:
    """The log-uniform (Zipfian) sampler, with replacement.

    `P(id) = (log(id + 1) - log(id)) / log(V + 1)` for ids 1..V, the distribution of
    `tf.random.log_uniform_candidate_sampler` shifted by the padding row. It means something because items are
    numbered by falling frequency.
    """

    def __init__(self, num_sampled: int):
        """Sets S, the number of negatives per step."""
        self.num_sampled = num_sampled

    def draw(self, num_items: int, seed: tf.Tensor) -> Negatives:
        """Draws S items; the same seed, int [2], draws the same."""
        # P(rank <= k) = log(k + 2) / log(V + 1) for ranks k = 0..V-1; its inverse draws the rank.
        uniform_S = tf.random.stateless_uniform([self.num_sampled], seed, dtype=tf.float64)
        log_range = tf.math.log(tf.constant(num_items + 1, tf.float64))
        rank_S = tf.cast(tf.math.exp(uniform_S * log_range), tf.int32) - 1
        ids_S = tf.minimum(rank_S, num_items - 1) + 1
        return Negatives(ids_S, self.log_expected_count(ids_S, num_items))

    def log_expected_count(self, ids: tf.Tensor, num_items: int) -> tf.Tensor:
        """Log of S * P(id) of items 1..V, int [...] -> float [...]."""
        rank = tf.cast(ids, tf.float32)
        probability = tf.math.log1p(1.0 / rank) / tf.math.log(float(num_items + 1))
        return tf.math.log(float(self.num_sampled) * probability)

    def log_share(self, num_items: int) -> float:
        """0: corrected, each item counts as if it were there once."""
        return 0.0

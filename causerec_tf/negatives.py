"""Sampled negatives of the softmax: drawn without state, with the counts their correction needs.

Shapes: V items of the catalogue, numbered 1..V by falling training frequency; S sampled negatives; B targets.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from causerec_tf.errors import InputError


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


class InBatchSampler:
    """The targets of the batch are each other's negatives, which are popular items more often than others.

    What corrects this (logQ) is how often each item is expected among them, `B P(id)`, where P is its share
    of the training targets: Yi et al., Sampling-bias-corrected neural modeling, RecSys 2019.
    """

    def __init__(self, batch_size: int):
        """Sets B, of the batches that it is for."""
        self.batch_size = batch_size
        self._share_V1: tf.Tensor | None = None

    def know_targets(self, counts_V1: np.ndarray) -> None:
        """Says how often each item is a target of training, int [V + 1]; that of padding, the first, is 0."""
        self._share_V1 = tf.constant(counts_V1 / counts_V1.sum(), tf.float32)

    def of_batch(self, target_B: tf.Tensor, num_items: int, seed: tf.Tensor) -> Negatives:
        """The targets themselves, int32 [B]; that an example is not its own negative, the loss sees to."""
        del seed
        return Negatives(target_B, self.log_expected_count(target_B, num_items))

    def log_expected_count(self, ids: tf.Tensor, num_items: int) -> tf.Tensor:
        """Log of how often each item is expected among the targets of a batch, int [...] -> float [...].

        Raises:
          InputError: `know_targets` was not called.
        """
        return tf.math.log(self._expected_count(ids, num_items))

    def log_share(self, num_items: int) -> float:
        """0: corrected, each item counts as if it were there once."""
        return 0.0

    def _expected_count(self, ids: tf.Tensor, num_items: int) -> tf.Tensor:
        del num_items
        if self._share_V1 is None:
            raise InputError(
                "in-batch negatives are corrected by how often items are targets, and nothing has said it:"
                " call model.know_targets(counts) before training."
            )
        return self.batch_size * tf.gather(self._share_V1, ids)


class MixedSampler(InBatchSampler):
    """The targets of the batch, and S uniform items: Yang et al., Mixed negative sampling, WWW 2020."""

    def __init__(self, batch_size: int, num_sampled: int):
        """Sets B, and S, the number of uniform negatives per step."""
        super().__init__(batch_size)
        self._uniform = UniformSampler(num_sampled)

    def of_batch(self, target_B: tf.Tensor, num_items: int, seed: tf.Tensor) -> Negatives:
        """The targets, int32 [B], then the uniform ones; the same seed, int [2], draws the same."""
        ids = tf.concat([target_B, self._uniform.draw(num_items, seed).ids_S], axis=0)
        return Negatives(ids, self.log_expected_count(ids, num_items))

    def _expected_count(self, ids: tf.Tensor, num_items: int) -> tf.Tensor:
        return super()._expected_count(ids, num_items) + self._uniform.num_sampled / num_items

"""Samplers: their range, their probabilities, their corrections."""

import math

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import negatives
from causerec_tf.errors import InputError

SAMPLERS = {"uniform": negatives.UniformSampler, "log_uniform": negatives.LogUniformSampler}


def draw(sampler, num_items=50, num_sampled=200_000, seed=(1, 2)):
    return SAMPLERS[sampler](num_sampled).draw(num_items, tf.constant(seed))


@pytest.mark.parametrize("sampler", ["uniform", "log_uniform"])
def test_probabilities(sampler):
    ids, _ = draw(sampler)
    ranks = np.arange(50)
    probability = np.full(50, 1 / 50)
    if sampler == "log_uniform":
        probability = np.log((ranks + 2) / (ranks + 1)) / math.log(51)
    want = 200_000 * probability
    counts = np.bincount(ids, minlength=51)
    assert counts[0] == 0 and len(counts) == 51
    # Chi-square with 49 degrees of freedom: 85.4 is exceeded once in a thousand.
    assert ((counts[1:] - want) ** 2 / want).sum() < 85.4


def test_log_uniform_correction_is_the_expected_count():
    ids, log_count = draw("log_uniform", num_sampled=1000)
    want = 1000 * np.log((ids.numpy() + 1) / ids.numpy()) / math.log(51)
    np.testing.assert_allclose(np.exp(log_count), want, rtol=1e-4)


def test_log_uniform_agrees_with_tensorflows_sampler():
    # TensorFlow counts items from 0.
    sample = tf.random.log_uniform_candidate_sampler(
        tf.constant([[0, 7, 49]], tf.int64), num_true=3, num_sampled=1, unique=False, range_max=50
    )
    ours = negatives.LogUniformSampler(1).log_expected_count(tf.constant([1, 8, 50]), 50)
    np.testing.assert_allclose(np.exp(ours), sample.true_expected_count[0], rtol=1e-4)


def test_full_is_the_catalogue():
    ids, log_count = negatives.FullCatalogue().draw(50, tf.constant([1, 2]))
    assert ids.numpy().tolist() == list(range(1, 51)) and log_count is None


# How often each of three items is a target; padding never is.
COUNTS = np.array([0, 6, 3, 1])


def test_in_batch_negatives_are_the_targets_with_their_expected_counts():
    sampler = negatives.InBatchSampler(20)
    sampler.know_targets(COUNTS)
    ids, log_count = sampler.of_batch(tf.constant([1, 3, 1]), 3, tf.constant([1, 2]))
    assert ids.numpy().tolist() == [1, 3, 1]
    np.testing.assert_allclose(np.exp(log_count), [12, 2, 12], rtol=1e-6)


def test_mixed_negatives_are_the_targets_and_uniform_ones():
    sampler = negatives.MixedSampler(20, 30)
    sampler.know_targets(COUNTS)
    targets, seed = tf.constant([1, 3, 1]), tf.constant([1, 2])
    ids, log_count = sampler.of_batch(targets, 3, seed)
    assert ids.numpy()[:3].tolist() == [1, 3, 1]
    np.testing.assert_array_equal(ids[3:], negatives.UniformSampler(30).draw(3, seed).ids_S)
    # Of 30 uniform draws each of three items has ten.
    want = np.array([0, 12 + 10, 6 + 10, 2 + 10])[ids]
    np.testing.assert_allclose(np.exp(log_count), want, rtol=1e-6)


def test_in_batch_negatives_want_to_know_the_targets():
    with pytest.raises(InputError, match=r"call model.know_targets\(counts\) before training"):
        negatives.InBatchSampler(2).of_batch(tf.constant([1, 2]), 3, tf.constant([1, 2]))


def test_same_seed_same_items():
    np.testing.assert_array_equal(draw("uniform")[0], draw("uniform")[0])
    assert (draw("uniform")[0].numpy() != draw("uniform", seed=(1, 3))[0].numpy()).any()

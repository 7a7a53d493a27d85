"""Counterfactuals on the interest level: where they differ, by what; what gets no gradient."""

import math

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.counterfactual import synthesis
from tests import reference

M, N, K, D, BATCH = 2, 3, 7, 4, 40


def make(rate=0.5, filled=True, memory_size=500):
    layer = synthesis.InterestSynthesis(
        num_positives=M, num_negatives=N, replacement_rate=rate, memory_size=memory_size, embedding_dim=D
    )
    if filled:
        # Whole numbers, which no interest of a history is.
        layer.memory.enqueue(tf.reshape(tf.range(100.0 * D), [100, D]))
    return layer


def inputs(seed=0):
    random = np.random.default_rng(seed)
    interests = random.uniform(0.1, 0.9, size=[BATCH, K, D]).astype(np.float32)
    has_interests = np.arange(BATCH) % 10 != 9
    scores = random.normal(size=[BATCH, K]).astype(np.float32)
    return tf.constant(interests), tf.constant(has_interests), tf.constant(scores)


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0])
def test_only_the_right_half_changes_at_the_exact_count_to_whole_vectors_of_the_memory(rate):
    interests, has_interests, scores = inputs()
    changes = make(rate)(interests, has_interests, scores, tf.constant([1, 2]))
    written = changes.write_out(interests).numpy()
    assert written.shape == (BATCH, M + N, K, D)
    for b in range(BATCH):
        indispensable, dispensable = reference.halves(scores[b].numpy())
        for c in range(M + N):
            changed = np.flatnonzero((written[b, c] != interests[b].numpy()).any(axis=1))
            if not has_interests[b]:
                assert len(changed) == 0 and not changes.exists_BC[b, c]
                continue
            half = dispensable if c < M else indispensable
            assert set(changed) <= set(half)
            assert len(changed) == math.ceil(rate * len(half))
            for vector in written[b, c, changed]:
                assert vector[0] % D == 0 and (np.diff(vector) == 1).all()


def test_histories_differ_from_each_other_and_seeds_repeat():
    interests, has_interests, scores = inputs()
    first, again, other = (
        make()(interests, has_interests, scores, tf.constant([1, seed])) for seed in (2, 2, 3)
    )
    np.testing.assert_array_equal(first.substitutes_BCR, again.substitutes_BCR)
    assert (first.substitutes_BCR != other.substitutes_BCR).numpy().any()
    assert (first.positions_BCR[:, M] != first.positions_BCR[:, M + 1]).numpy().any()


def test_an_empty_memory_makes_nothing_and_the_interests_of_users_that_have_some_are_enqueued():
    layer, (interests, has_interests, scores) = make(filled=False), inputs()
    changes = layer(interests, has_interests, scores, tf.constant([1, 2]))
    assert not changes.exists_BC.numpy().any()
    assert int(layer.memory.filled) == K * int(np.sum(has_interests))
    drawn = layer.memory.draw(tf.constant([5000]), tf.constant([3, 4])).numpy()
    real = interests.numpy()[has_interests.numpy()].reshape(-1, D)
    assert {tuple(one) for one in drawn} <= {tuple(one) for one in real}
    changes = layer(interests, has_interests, scores, tf.constant([1, 2]))
    assert changes.exists_BC.numpy()[has_interests.numpy()].all()


def test_no_gradient_passes_through_the_memory():
    layer, (interests, has_interests, scores) = make(filled=False), inputs()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([interests, scores])
        layer(interests, has_interests, scores, tf.constant([1, 2]))  # remembered here
        changes = layer(interests, has_interests, scores, tf.constant([1, 3]))
        total = tf.reduce_sum(changes.substitutes_BCR)
    assert tape.gradient(total, interests) is None
    assert tape.gradient(total, scores) is None

"""Scores and halves: the right way round, padding apart, ties by position."""

import numpy as np
import tensorflow as tf

from causerec_tf.counterfactual import concepts
from tests import reference

rng = np.random.default_rng(4)


def test_scores_are_inner_products_without_gradient():
    history, target = tf.constant(rng.normal(size=[3, 5, 4])), tf.constant(rng.normal(size=[3, 4]))
    with tf.GradientTape() as tape:
        tape.watch([history, target])
        scores = concepts.scores_by_target(history, target)
    for b in range(3):
        for position in range(5):
            want = sum(history[b, position].numpy() * target[b].numpy())
            np.testing.assert_allclose(scores[b, position], want)
    assert tape.gradient(scores, [history, target]) == [None, None]


def test_halves_equal_the_twin_for_every_length():
    length = 7
    scores = rng.integers(-2, 3, size=[40, length]).astype(np.float32)  # many ties
    lengths = np.arange(40) % (length + 1)
    mask = np.arange(length) < lengths[:, np.newaxis]
    ranked = concepts.rank(scores, mask)
    for b, n in enumerate(lengths):
        best, rest = reference.halves(scores[b, :n])
        assert ranked.num_indispensable_B[b] == len(best)
        assert ranked.num_dispensable_B[b] == len(rest)
        assert ranked.order_BL[b, :n].numpy().tolist() == best + rest
        assert np.flatnonzero(ranked.is_indispensable_BL[b]).tolist() == sorted(best)


def test_a_very_low_score_still_comes_before_padding():
    scores = tf.constant([[-3e38, 5.0, 7.0]])
    ranked = concepts.rank(scores, tf.constant([[True, False, False]]))
    assert ranked.order_BL.numpy()[0, 0] == 0

"""Interest concepts: equations 6 and 7 against their twin; what they are read by."""

import numpy as np
import tensorflow as tf

from causerec_tf.counterfactual import concepts
from causerec_tf.recipes import user_tower
from causerec_tf.settings import Settings
from causerec_tf.towers.interest_attention import InterestAttention
from tests import reference

D, K, WIDTH, LENGTHS = 6, 4, 5, [1, 3, 7]


def make():
    attention = InterestAttention(D, num_concepts=K, attention_dim=WIDTH, seed=3)
    attention.build(None)
    return attention


def histories():
    random = np.random.default_rng(0)
    items = random.normal(size=[len(LENGTHS), 7, D]).astype(np.float32)
    return items, np.arange(7) < np.array(LENGTHS)[:, np.newaxis]


def test_interests_equal_the_twin_and_padding_is_as_if_deleted():
    attention, (items, mask) = make(), histories()
    w_1, w_2 = attention.get_weights()
    assert w_1.shape == (D, WIDTH) and w_2.shape == (WIDTH, K)
    interests = attention(tf.constant(items), tf.constant(mask)).numpy()
    for b, length in enumerate(LENGTHS):
        want = reference.interest_concepts(items[b, :length], w_1, w_2)[1]
        np.testing.assert_allclose(interests[b], want, rtol=1e-5, atol=1e-6)


def test_scores_of_interests_are_equation_8():
    attention, (items, mask) = make(), histories()
    targets = np.random.default_rng(1).normal(size=[len(LENGTHS), D]).astype(np.float32)
    interests = attention(tf.constant(items), tf.constant(mask))
    scores = concepts.scores_by_target(interests, tf.constant(targets))
    for b, length in enumerate(LENGTHS):
        weights = reference.interest_concepts(items[b, :length], *attention.get_weights())[0]
        want = reference.interest_scores(items[b, :length], weights, targets[b])
        np.testing.assert_allclose(scores[b], want, rtol=1e-4, atol=1e-5)


def test_the_encoder_reads_the_interests():
    settings = Settings(method="interest", embedding_dim=D, num_concepts=K, attention_dim=WIDTH)
    tower, (items, mask) = user_tower(settings), histories()
    w_1, w_2, *mlp = tower.get_weights()
    vectors = tower(tf.constant(items), tf.constant(mask)).numpy()
    for b, length in enumerate(LENGTHS):
        interests = reference.interest_concepts(items[b, :length], w_1, w_2)[1]
        want = reference.mean_pooling_mlp(interests, mlp[0::2], mlp[1::2])
        np.testing.assert_allclose(vectors[b], want, rtol=1e-4, atol=1e-5)

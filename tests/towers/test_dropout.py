"""Dropout: what it drops, when, and that the step's seed decides it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.optimizers import SparseAdam
from causerec_tf.recipes import compose, user_tower
from causerec_tf.settings import Settings
from causerec_tf.towers.dropout import drawn_by, dropout
from causerec_tf.towers.item import ItemTower

SEED = tf.constant([1, 2], tf.int64)
SASREC = Settings(tower="sasrec", embedding_dim=8, max_history=5)


def test_a_share_is_dropped_and_the_others_grow_for_it():
    values = tf.random.stateless_uniform([400, 100], [3, 4], minval=1.0, maxval=2.0)
    with drawn_by(SEED):
        dropped = dropout(values, 0.3).numpy()
    kept = dropped != 0
    assert abs(kept.mean() - 0.7) < 0.012  # of 40,000 draws: five standard deviations
    assert kept.std(axis=0).min() > 0 and kept.std(axis=1).min() > 0  # value by value, not row by row
    np.testing.assert_allclose(dropped[kept], values.numpy()[kept] / 0.7, rtol=1e-6)


def test_nothing_is_dropped_outside_a_step_or_at_rate_0():
    values = tf.ones([10, 10])
    assert dropout(values, 0.5) is values
    with drawn_by(SEED):
        assert dropout(values, 0.0) is values
    assert dropout(values, 0.5) is values


def test_each_draw_of_a_step_is_its_own_and_a_step_draws_the_same_again():
    def draws(seed):
        with drawn_by(tf.constant(seed, tf.int64)):
            return [dropout(tf.ones([2000]), 0.5).numpy() for _ in range(3)]

    first, second, third = draws([1, 2])
    for again, one in zip(draws([1, 2]), (first, second, third), strict=True):
        np.testing.assert_array_equal(again, one)
    for one, other in [(first, second), (second, third), (first, draws([1, 3])[0])]:
        # Of two independent draws half agree; five standard deviations are .056.
        assert abs((one == other).mean() - 0.5) < 0.056


@pytest.mark.parametrize("block", ["paper", "ligr", "bsarec"])
def test_a_tower_drops_in_training_alone(block):
    settings = dataclasses.replace(SASREC, block=block)
    tower = user_tower(dataclasses.replace(settings, dropout=0.5))
    without = user_tower(settings)
    concepts, mask = tf.random.stateless_normal([3, 5, 8], [5, 6]), tf.ones([3, 5], tf.bool)
    vectors = without(concepts, mask).numpy()
    np.testing.assert_array_equal(tower(concepts, mask), vectors)
    with drawn_by(SEED):
        np.testing.assert_array_equal(without(concepts, mask), vectors)
        assert np.abs(tower(concepts, mask) - vectors).max() > 1e-2
    np.testing.assert_array_equal(tower(concepts, mask), vectors)


def test_an_item_loses_the_same_values_wherever_a_step_needs_it():
    items = ItemTower(20, 8, dropout=0.5)
    items.build(None)
    history, targets = tf.constant([[1, 2, 0], [2, 3, 1]]), tf.constant([2, 3])
    with drawn_by(SEED):
        vectors, (of_history, of_targets) = items.look_up_once(history, targets)
    table = items.table.numpy()
    looked_up = tf.gather(vectors, of_history).numpy()
    kept = vectors.numpy() != 0
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_array_equal(tf.gather(vectors, of_targets)[0], looked_up[0, 1])
    np.testing.assert_array_equal(looked_up[0, 1], looked_up[1, 0])
    shown = looked_up[1, 1] != 0
    np.testing.assert_allclose(looked_up[1, 1][shown], table[3][shown] * 2, rtol=1e-6)
    # What is served and evaluated has all of its values.
    np.testing.assert_array_equal(items(tf.constant([3]))[0], table[3])


@pytest.mark.parametrize("rows", ["windows", "sequences"])
def test_a_step_of_a_model_drops_by_its_seed_and_number(rows):
    settings = dataclasses.replace(SASREC, training_rows=rows, num_sampled=10, dropout=0.5)
    batch = {"history": tf.constant([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]])}
    if rows == "windows":
        batch["target"] = tf.constant([4, 6])
    else:
        batch["targets"] = tf.constant([[2, 3, 4, 0, 0], [5, 6, 0, 0, 0]])

    def loss(step, **changes):
        model = compose(dataclasses.replace(settings, **changes), 30)
        model.compile(optimizer=SparseAdam())
        return float(model.compute_loss(batch | {"step": tf.constant(step, tf.int64)}))

    assert loss(7) == loss(7)
    assert loss(7) != loss(8)
    # The negatives of a step are those of the same step without dropout: the difference is dropout's.
    assert loss(7) != loss(7, dropout=0.0)

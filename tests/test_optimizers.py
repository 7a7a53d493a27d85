"""Sparse Adam against a NumPy twin, against Keras's Adam, and for what it leaves alone."""

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.optimizers import SparseAdam
from causerec_tf.settings import Settings
from causerec_tf.training import compiled_model
from tests import reference

CONSTANTS = {"learning_rate": 0.05, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-8, "l2": 0.01}
rng = np.random.default_rng(3)


def test_touched_rows_equal_the_twin_and_others_stay():
    start = rng.normal(size=[9, 3]).astype(np.float32)
    table, twin = tf.Variable(start), reference.Adam(start, **CONSTANTS)
    optimizer = SparseAdam(**CONSTANTS)
    for _ in range(6):
        rows = rng.integers(0, 7, size=5)  # with repeats; rows 7 and 8 are never touched
        gradients = rng.normal(size=[5, 3]).astype(np.float32)
        slices = tf.IndexedSlices(tf.constant(gradients), tf.constant(rows), tf.constant([9, 3]))
        optimizer.apply_gradients([(slices, table)])
        twin.update(rows.tolist(), gradients)
    np.testing.assert_allclose(table, twin.table, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(table[7:], start[7:])


def test_a_dense_gradient_equals_the_twin_that_touches_every_row():
    start = rng.normal(size=[4, 3]).astype(np.float32)
    kernel, twin = tf.Variable(start), reference.Adam(start, **CONSTANTS)
    optimizer = SparseAdam(**CONSTANTS)
    for _ in range(5):
        gradient = rng.normal(size=[4, 3]).astype(np.float32)
        optimizer.apply_gradients([(tf.constant(gradient), kernel)])
        twin.update(range(4), gradient)
    np.testing.assert_allclose(kernel, twin.table, rtol=1e-4, atol=1e-6)


def test_every_row_equals_the_twin_that_gives_a_gradient_of_zero_to_the_untouched():
    start = rng.normal(size=[9, 3]).astype(np.float32)
    table, twin = tf.Variable(start), reference.Adam(start, **CONSTANTS)
    optimizer = SparseAdam(**CONSTANTS, every_row=True)
    for _ in range(6):
        rows = rng.integers(0, 7, size=5)  # with repeats; rows 7 and 8 have decay alone
        gradients = rng.normal(size=[5, 3]).astype(np.float32)
        slices = tf.IndexedSlices(tf.constant(gradients), tf.constant(rows), tf.constant([9, 3]))
        optimizer.apply_gradients([(slices, table)])
        zeros = np.zeros([9, 3], np.float32)
        twin.update([*rows.tolist(), *range(9)], np.concatenate([gradients, zeros]))
    np.testing.assert_allclose(table, twin.table, rtol=1e-4, atol=1e-6)
    assert (np.abs(table[7:]) < np.abs(start[7:])).all()


def test_every_row_is_keras_adam_without_weight_decay():
    """Which moves untouched rows by their moments, as TensorFlow 1's does."""
    start = rng.normal(size=[4, 3]).astype(np.float32)
    ours, theirs = tf.Variable(start), tf.Variable(start)
    every = SparseAdam(0.05, beta_2=0.99, every_row=True)
    keras = tf.keras.optimizers.Adam(0.05, beta_1=0.9, beta_2=0.99, epsilon=1e-8)
    for rows in ([0, 1, 3], [1, 3], [3, 0]):
        gradient = tf.constant(rng.normal(size=[len(rows), 3]), tf.float32)
        for optimizer, table in ((every, ours), (keras, theirs)):
            slices = tf.IndexedSlices(gradient, tf.constant(rows), tf.constant([4, 3]))
            optimizer.apply_gradients([(slices, table)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ours[2], start[2])  # it has no moments yet


@pytest.mark.parametrize(("rows", "fewest", "most"), [("touched", 1, 8), ("all", 50, 50)])
def test_a_step_changes_the_rows_that_the_setting_names(rows, fewest, most):
    settings = Settings(update_rows=rows, weight_decay=0.1, num_sampled=4, embedding_dim=8, max_history=3)
    model = compiled_model(settings, 50)
    before = model.item_embeddings()
    model.train_step({"history": tf.constant([[7, 8, 9]]), "target": tf.constant([10])})
    changed = (model.item_embeddings() != before).any(axis=1)
    assert fewest <= changed.sum() <= most  # 3 items, a target and 4 negatives; or all
    assert not changed[0]  # padding


def test_without_weight_decay_it_is_keras_adam_when_every_row_is_touched():
    start = rng.normal(size=[4, 3]).astype(np.float32)
    ours, theirs = tf.Variable(start), tf.Variable(start)
    sparse = SparseAdam(0.05, beta_2=0.99)
    keras = tf.keras.optimizers.Adam(0.05, beta_1=0.9, beta_2=0.99, epsilon=1e-8)
    for _ in range(4):
        gradient = tf.constant(rng.normal(size=[4, 3]), tf.float32)
        slices = tf.IndexedSlices(gradient, tf.range(4), tf.constant([4, 3]))
        sparse.apply_gradients([(slices, ours)])
        keras.apply_gradients([(gradient, theirs)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_schedule_gives_the_rate_of_each_step():
    start = rng.normal(size=[4, 3]).astype(np.float32)
    table, twin = tf.Variable(start), reference.Adam(start, **CONSTANTS)
    falling = tf.keras.optimizers.schedules.PolynomialDecay(0.05, 4, end_learning_rate=0.0)
    optimizer = SparseAdam(**CONSTANTS | {"learning_rate": falling})
    for rate in (0.05, 0.0375, 0.025, 0.0125):
        gradients = rng.normal(size=[2, 3]).astype(np.float32)
        slices = tf.IndexedSlices(tf.constant(gradients), tf.constant([2, 0]), tf.constant([4, 3]))
        optimizer.apply_gradients([(slices, table)])
        twin.constants = (rate, *twin.constants[1:])
        twin.update([2, 0], gradients)
    np.testing.assert_allclose(table, twin.table, rtol=1e-4, atol=1e-6)


def test_distinct_rows_are_taken_as_they_are():
    start = rng.normal(size=[5, 3]).astype(np.float32)
    plain, promised = tf.Variable(start), tf.Variable(start)
    slices = tf.IndexedSlices(tf.ones([2, 3]), tf.constant([4, 1]), tf.constant([5, 3]))
    SparseAdam(**CONSTANTS).apply_gradients([(slices, plain)])
    SparseAdam(**CONSTANTS, distinct_rows=True).apply_gradients([(slices, promised)])
    np.testing.assert_array_equal(plain, promised)


def test_config_makes_it_again():
    again = SparseAdam.from_config(SparseAdam(**CONSTANTS).get_config())
    assert {name: float(again.get_config()[name]) for name in CONSTANTS} == {
        name: float(np.float32(value)) if name == "learning_rate" else value
        for name, value in CONSTANTS.items()
    }

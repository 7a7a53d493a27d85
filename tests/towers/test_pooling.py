"""Mean pooling tower and item table: the twin, masking by deletion, padding without gradient."""

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import recipes
from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from causerec_tf.towers.item import ItemTower
from causerec_tf.towers.pooling import MeanPoolingTower
from tests import reference

rng = np.random.default_rng(6)


def make(embedding_dim=6):
    tower = MeanPoolingTower(embedding_dim, hidden_units=(8, 5), seed=1)
    tower.build(None)
    for variable in tower.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    return tower


def test_equals_the_twin_and_padding_is_as_if_deleted():
    tower = make()
    concepts = rng.normal(size=[5, 7, 6]).astype(np.float32)
    lengths = [1, 3, 7, 2, 5]
    mask = np.arange(7) < np.array(lengths)[:, np.newaxis]
    kernels = [v.numpy() for v in tower.trainable_variables if v.shape.rank == 2]
    biases = [v.numpy() for v in tower.trainable_variables if v.shape.rank == 1]
    vectors = tower(tf.constant(concepts), tf.constant(mask)).numpy()
    for b, n in enumerate(lengths):
        want = reference.mean_pooling_mlp(concepts[b, :n], kernels, biases)
        np.testing.assert_allclose(vectors[b], want, rtol=1e-4, atol=1e-5)


def test_mixed_precision_rounds_the_products_only():
    concepts = tf.constant(rng.normal(size=[3, 4, 6]), tf.float32)
    mask = tf.constant([[True] * 4, [True] * 2 + [False] * 2, [True] + [False] * 3])
    exact = make()
    mixed = MeanPoolingTower(6, hidden_units=(8, 5), dtype="mixed_bfloat16")
    mixed.build(None)
    mixed.set_weights(exact.get_weights())
    vectors = mixed(concepts, mask)
    assert vectors.dtype == tf.float32
    assert all(variable.dtype == tf.float32 for variable in mixed.trainable_variables)
    scale = np.abs(exact(concepts, mask)).max()
    # bfloat16 has 8 significant bits; three products in a row.
    np.testing.assert_allclose(vectors, exact(concepts, mask), atol=0.05 * scale)
    assert np.abs(vectors - exact(concepts, mask)).max() > 0


def test_padding_gets_no_gradient_and_an_empty_history_is_finite():
    tower = make()
    concepts = tf.constant(rng.normal(size=[2, 4, 6]), tf.float32)
    mask = tf.constant([[True, True, False, False], [False] * 4])
    with tf.GradientTape() as tape:
        tape.watch(concepts)
        vectors = tower(concepts, mask)
    gradient = tape.gradient(vectors, concepts).numpy()
    assert np.isfinite(vectors).all()
    assert (gradient[0, :2] != 0).any() and (gradient[0, 2:] == 0).all() and (gradient[1] == 0).all()


def test_the_padding_row_is_zero_and_stays_zero():
    items = ItemTower(5, 3, seed=2)
    items.build(None)
    # Even if something wrote into the row, its vectors and gradients are zero.
    items.table.assign(tf.ones([6, 3]))
    with tf.GradientTape() as tape:
        vectors = items(tf.constant([[2, 0]]))
    np.testing.assert_array_equal(vectors[0, 1], 0.0)
    gradient = tape.gradient(vectors, items.table)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient)[0], 0.0)
    np.testing.assert_array_equal(ItemTower(5, 3)(tf.constant([0]))[0], 0.0)


def test_runs_of_neighbouring_seeds_share_no_weights():
    kernels = []
    for seed in range(3):
        tower = MeanPoolingTower(16, hidden_units=(16, 16), seed=seed)
        tower.build(None)
        kernels += [v.numpy().ravel() for v in tower.trainable_variables if v.shape.rank == 2]
    correlations = np.corrcoef(kernels) - np.eye(len(kernels))
    assert np.abs(correlations).max() < 0.3  # five deviations of 256 independent pairs


def test_looking_up_once_is_looking_up_each():
    items = ItemTower(9, 3, seed=2)
    items.build(None)
    ids = [tf.constant([[3, 0], [3, 9]]), tf.constant([9, 1, 1]), tf.constant([], tf.int32)]
    vectors, places = items.look_up_once(*ids)
    assert vectors.shape == [4, 3]  # 3, 0, 9 and 1
    for one, place in zip(ids, places, strict=True):
        np.testing.assert_array_equal(tf.gather(vectors, place), items(one))


@pytest.mark.parametrize(("asked", "deviation"), [({}, 16**-0.5), ({"item_init_std": 0.007}, 0.007)])
def test_initial_vectors_are_normal_with_the_deviation_asked_for(asked, deviation):
    table = recipes.compose(Settings(embedding_dim=16, seed=3, **asked), 2000).item_embeddings()
    drawn = tf.random.stateless_normal([2000, 16], [3, -1]).numpy() * np.float32(deviation)
    np.testing.assert_allclose(table[1:], drawn, rtol=1e-6)
    np.testing.assert_array_equal(table[0], 0.0)


def test_a_warm_start_brings_vectors_and_takes_no_deviation():
    settings = Settings(item_init_std=0.007, warm_start="runs/yesterday")
    with pytest.raises(InputError, match=r"--item_init_std=0.007 has no effect here: it acts with no --"):
        settings.check_acting(["item_init_std"])
    # New items without a place are made as long as the vectors kept, from a length of one.
    lengths = np.linalg.norm(recipes.compose(settings, 500).item_embeddings()[1:], axis=1)
    assert abs(lengths.mean() - 1) < 0.05

"""The products of users with the items of their histories, and their gradients, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.own_candidates import ItemsOfHistories

rng = np.random.default_rng(5)
# Items stand twice, in a history and in two; the third history is empty.
HISTORY = np.array([[3, 1, 3, 0], [2, 3, 4, 1], [0, 0, 0, 0]], np.int32)
VECTORS = rng.normal(size=[6, 2]).astype(np.float32)
PLACES = np.array([5, 0, 3, 1, 2], np.int32)[HISTORY]  # of an item among the vectors; padding is at 5
USERS = rng.normal(size=[3, 2]).astype(np.float32)


def products_of(users):
    items = VECTORS[PLACES].astype(float)
    return np.where(HISTORY != 0, np.einsum("bd,bld->bl", users.astype(float), items), 0.0)


def test_products():
    items = ItemsOfHistories.of(HISTORY, VECTORS, PLACES)
    np.testing.assert_allclose(items.products(USERS), products_of(USERS), rtol=1e-5)


def test_of_several_vectors_the_nearest_counts():
    several = tf.constant(rng.normal(size=[3, 4, 2]), tf.float32)
    want = np.max([products_of(several.numpy()[:, interest]) for interest in range(4)], axis=0)
    got = ItemsOfHistories.of(HISTORY, VECTORS, PLACES).similarities(several)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_repeated():
    users = rng.normal(size=[6, 2]).astype(np.float32)
    got = ItemsOfHistories.of(HISTORY, VECTORS, PLACES).repeated(2).products(users)
    want = [products_of(users[which::2]) for which in range(2)]
    np.testing.assert_allclose(got, np.stack(want, axis=1).reshape(6, 4), rtol=1e-5)


@pytest.mark.parametrize("history", [HISTORY, np.zeros_like(HISTORY)], ids=["histories", "all empty"])
def test_gradients(history):
    upstream = rng.normal(size=history.shape).astype(np.float32)
    users, vectors = tf.constant(USERS), tf.constant(VECTORS)
    with tf.GradientTape() as tape:
        tape.watch([users, vectors])
        products = ItemsOfHistories.of(history, vectors, PLACES).products(users)
        total = tf.reduce_sum(products * upstream)
    of_users, of_vectors = np.zeros(USERS.shape), np.zeros(VECTORS.shape)
    for (row, column), item in np.ndenumerate(history):
        if item:
            place = PLACES[row, column]
            of_users[row] += upstream[row, column] * VECTORS[place]
            of_vectors[place] += upstream[row, column] * USERS[row]
    for got, want in zip(tape.gradient(total, [users, vectors]), (of_users, of_vectors), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)

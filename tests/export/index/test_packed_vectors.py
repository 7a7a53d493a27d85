"""Packed vectors beside exact scores, and their whole numbers beside those of Python."""

import threading

import numpy as np
import pytest

from export.index.exact_vectors import ExactVectors
from export.index.packed_orders import PackedOrders
from export.index.packed_vectors import PackedVectors

NUM_ROWS, K = 4_000, 20


def generated(dimension, lengths, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, dimension))
    vectors = centres[rng.integers(30, size=NUM_ROWS)] + rng.normal(size=(NUM_ROWS, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if lengths == "of many lengths":
        vectors *= np.exp(0.5 * rng.normal(size=(NUM_ROWS, 1)))
    vectors[7] = 0  # as of an item that was withdrawn
    return vectors.astype(np.float32)


def best(vectors, rows, query, k):
    """The k best of some rows, scored one by one."""
    scored = [(max(float(vectors[row] @ one) for one in query), row) for row in rows]
    return [row for _, row in sorted(scored, key=lambda one: (-one[0], one[1]))[:k]]


@pytest.mark.parametrize("lengths", ["of one length", "of many lengths"])
@pytest.mark.parametrize("num_vectors", [1, 3])
@pytest.mark.parametrize("dimension", [5, 64, 256])
def test_the_best_that_pass_are_found_wherever_they_stand(dimension, num_vectors, lengths):
    vectors = generated(dimension, lengths)
    rng = np.random.default_rng(1)
    # Some rows stand there twice, as those with several labels do.
    order = np.concatenate([rng.permutation(NUM_ROWS), np.arange(100)])
    packed, exact = PackedVectors(order, lambda rows: vectors[rows]), ExactVectors(vectors, None)
    places = np.array([[1, 900], [900, 900], [901, 902], [1_003, 2_500], [3_950, len(order)]])
    standing = np.concatenate([order[first:last] for first, last in places])
    for share in (1.0, 0.3, 0.004):
        is_passing = np.isin(np.arange(NUM_ROWS), standing) & (rng.random(NUM_ROWS) < share)
        recalls = []
        for _ in range(8):
            query = vectors[rng.integers(NUM_ROWS, size=num_vectors)] + np.float32(0.01)
            rows, scores = packed.search(exact, query, places, is_passing.__getitem__, share, K)
            expected = best(vectors, np.flatnonzero(is_passing), query, K)
            assert is_passing[rows].all() and len(set(rows.tolist())) == len(rows) == len(expected)
            np.testing.assert_allclose(scores, (vectors[rows] @ query.T).max(axis=1), rtol=1e-4, atol=1e-5)
            assert (np.diff(scores) <= 0).all()
            recalls.append(len(set(rows.tolist()) & set(expected)) / max(1, len(expected)))
        assert np.mean(recalls) >= 0.98


def test_three_products_in_one_float_are_those_of_whole_numbers():
    rng = np.random.default_rng(2)
    # The longest and the most alike there can be: a vector asked for by itself, or by its opposite.
    vectors = np.concatenate([generated(64, "of one length"), np.eye(64), np.full((9, 64), 0.125)])
    vectors = vectors.astype(np.float32)
    packed = PackedVectors(np.arange(len(vectors)), lambda rows: vectors[rows])
    lengths = np.linalg.norm(vectors, axis=1)
    rounded = packed._rounded(vectors, lengths).astype(np.int64)
    assert (np.square(rounded).sum(axis=1) <= 127).all()
    for row in [*rng.integers(len(vectors), size=20), len(vectors) - 1, len(vectors) - 20]:
        for sign in (1, -1):
            query = sign * vectors[[row]]
            estimates = packed._estimates(query, np.array([[0, -(-len(vectors) // 3)]])).values
            products = rounded @ packed._rounded(query, np.linalg.norm(query, axis=1))[0].astype(np.int64)
            found = estimates.reshape(-1, 4)[:, :3].ravel()[: len(vectors)].astype(np.int64)
            assert (found - 128).tolist() == products.tolist()


def test_the_orders_that_were_asked_for_last_are_kept():
    vectors = generated(8, "of one length")
    made = []
    orders = PackedOrders(lambda rows: (made.append(len(rows)), vectors[rows])[1], 8)
    some = [np.random.default_rng(seed).permutation(NUM_ROWS) for seed in range(4)]
    first = [orders.get(order) for order in some[:3]]
    assert [orders.get(order) for order in some[:3]] == first
    count = len(made)
    orders.get(some[3])
    assert len(made) > count
    assert orders.get(some[1]) is first[1] and orders.get(some[2]) is first[2]
    assert orders.get(some[0]) is not first[0]
    assert PackedOrders(lambda rows: vectors[rows], 257).get(some[0]) is None


def test_nobody_waits_for_an_order_that_another_makes():
    vectors = generated(8, "of one length")
    is_asked, may_go_on = threading.Event(), threading.Event()

    def slowly(rows):
        is_asked.set()
        may_go_on.wait(30)
        return vectors[rows]

    orders, order = PackedOrders(slowly, 8), np.arange(NUM_ROWS)
    thread = threading.Thread(target=orders.get, args=[order])
    thread.start()
    is_asked.wait(30)
    assert orders.get(order) is None
    may_go_on.set()
    thread.join()
    assert orders.get(order) is not None

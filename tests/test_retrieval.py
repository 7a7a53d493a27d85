"""Exact top-k against a NumPy sort: ties, blocks, exclusions, several vectors a user."""

import numpy as np
import pytest

from causerec_tf import retrieval
from tests import reference

rng = np.random.default_rng(2)
ITEMS = rng.integers(-2, 3, size=[53, 4]).astype(np.float32)  # small integers: many ties
MANY = rng.integers(-2, 3, size=[2019, 4]).astype(np.float32)  # groups of 16, and 3 items left over


def top_k(users, vectors, k, excluded=None, items_per_block=1000):
    pairs = excluded
    if excluded is not None:
        pairs = [(row, item) for row, items in enumerate(excluded.tolist()) for item in items]
    return retrieval.top_k(users, retrieval.in_blocks(vectors, items_per_block=items_per_block), k, pairs)


@pytest.mark.parametrize("shape", [[6, 4], [6, 3, 4]])
@pytest.mark.parametrize("items_per_block", [5000, 1000, 40, 10, 7])
@pytest.mark.parametrize("vectors", [ITEMS, MANY], ids=["few", "many"])
def test_equals_a_sort(shape, items_per_block, vectors):
    users = rng.integers(-2, 3, size=shape).astype(np.float32)
    scores, items = top_k(users, vectors, 12, items_per_block=items_per_block)
    assert items.numpy().tolist() == reference.top_k(users, vectors, 12)
    best = (np.atleast_3d(users.reshape(6, -1, 4)) @ vectors.T).max(axis=1)
    np.testing.assert_array_equal(scores, np.take_along_axis(best, items.numpy() - 1, axis=1))


@pytest.mark.parametrize("items_per_block", [5000, 500, 10])
@pytest.mark.parametrize("vectors", [ITEMS, MANY], ids=["few", "many"])
def test_exclusions(items_per_block, vectors):
    users = rng.normal(size=[5, 4]).astype(np.float32)
    excluded = np.zeros([5, 40], np.int32)
    excluded[:, :30] = rng.integers(1, len(vectors) + 1, size=[5, 30])  # some of them twice
    # Also what would be answered first.
    excluded[:, 30:] = np.array(reference.top_k(users, vectors, 20))[:, ::2]
    _, items = top_k(users, vectors, 10, excluded, items_per_block=items_per_block)
    assert items.numpy().tolist() == reference.top_k(users, vectors, 10, excluded)


def test_no_exclusions_are_none():
    users = rng.normal(size=[5, 4]).astype(np.float32)
    pairs = np.zeros([0, 2], np.int32)
    _, items = retrieval.top_k(users, retrieval.in_blocks(MANY), 10, pairs)
    assert items.numpy().tolist() == reference.top_k(users, MANY, 10)


@pytest.mark.parametrize("k", [53, 40, 4])
def test_any_k(k):
    users = rng.integers(-2, 3, size=[6, 4]).astype(np.float32)
    _, items = top_k(users, ITEMS, k)
    assert items.numpy().tolist() == reference.top_k(users, ITEMS, k)


def test_too_many_exclusions_leave_places_empty():
    users = np.ones([1, 4], np.float32)
    excluded = np.arange(1, 52, dtype=np.int32)[np.newaxis]
    scores, items = top_k(users, ITEMS, 5, excluded, items_per_block=20)
    assert sorted(items.numpy()[0, :2]) == [52, 53]
    assert items.numpy()[0, 2:].tolist() == [0, 0, 0]
    assert np.isneginf(scores.numpy()[0, 2:]).all()


@pytest.mark.parametrize("k", [0, 54])
def test_k_is_checked(k):
    with pytest.raises(ValueError, match="wanted 1 to 53"):
        top_k(np.ones([1, 4], np.float32), ITEMS, k)


@pytest.mark.parametrize("items_per_block", [5000, 500])
def test_several_exclusions_are_answered_from_one_product(items_per_block, monkeypatch):
    users = rng.integers(-2, 3, size=[5, 4]).astype(np.float32)
    excluded = np.array(reference.top_k(users, MANY, 20))[:, ::2]
    pairs = [(row, item) for row, items in enumerate(excluded.tolist()) for item in items]
    blocks = retrieval.in_blocks(MANY, items_per_block=items_per_block)
    products, scores = [], retrieval._scores
    monkeypatch.setattr(retrieval, "_scores", lambda *both: products.append(1) or scores(*both))
    kept, left_out = retrieval.top_k_of_each(users, blocks, 10, [None, pairs])
    assert kept[1].numpy().tolist() == reference.top_k(users, MANY, 10)
    assert left_out[1].numpy().tolist() == reference.top_k(users, MANY, 10, excluded)
    assert len(products) == len(blocks)

"""Metrics against their definitions, and against lists worked out by hand."""

import math

import numpy as np
import pytest

from causerec_tf import metrics
from tests import reference


def test_by_hand():
    # Targets 7, 8, 9; hits: 9 at rank 1 and 7 at rank 3.
    got = metrics.per_user(np.array([[9, 1, 7, 2]]), np.array([7, 8, 9]), np.array([0, 3]), k=4)
    by_rank = 1 / math.log2(2) + 1 / math.log2(4)
    by_place = 1 / math.log2(2) + 1 / math.log2(4)  # 7 is the first target, 9 the third
    best_of_three = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    best_of_two = 1 + 1 / math.log2(3)
    assert got["recall"][0] == pytest.approx(2 / 3)
    assert got["ndcg"][0] == pytest.approx(by_rank / best_of_three)
    assert got["ndcg_hits"][0] == pytest.approx(by_rank / best_of_two)
    assert got["ndcg_target_order"][0] == pytest.approx(by_place / best_of_two)
    assert got["hr"][0] == got["mrr"][0] == 1.0


def test_the_reciprocal_rank_by_hand():
    ranked, targets = np.array([[1, 9, 8], [5, 4, 3], [0, 0, 0]]), np.array([8, 9, 3, 2])
    for k, want in ((1, [0, 0, 0]), (2, [1 / 2, 0, 0]), (3, [1 / 2, 1 / 3, 0])):
        got = metrics.per_user(ranked, targets, np.array([0, 2, 3, 4]), k)
        assert got["mrr"].tolist() == pytest.approx(want)


def test_random_lists_equal_the_twin():
    rng = np.random.default_rng(1)
    ranked = np.stack([rng.permutation(60)[:30] + 1 for _ in range(200)])
    ranked[::7, 20:] = 0  # lists that exclusions left short
    targets = [rng.permutation(60)[: rng.integers(1, 12)] + 1 for _ in range(200)]
    splits = np.concatenate([[0], np.cumsum([len(t) for t in targets])])
    for k in (1, 5, 20, 30):
        got = metrics.per_user(ranked, np.concatenate(targets), splits, k)
        for user in range(200):
            want = reference.ranking_metrics(ranked[user], list(targets[user]), k)
            for name in metrics.NAMES:
                assert got[name][user] == pytest.approx(want[name]), (name, k, user)


def test_padding_is_never_a_hit():
    got = metrics.per_user(np.array([[0, 0]]), np.array([3]), np.array([0, 1]), k=2)
    assert all(values[0] == 0.0 for values in got.values())


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="at least 5 items"):
        metrics.per_user(np.array([[1, 2]]), np.array([3]), np.array([0, 1]), k=5)
    with pytest.raises(ValueError, match="no targets"):
        metrics.per_user(np.array([[1], [2]]), np.array([3]), np.array([0, 1, 1]), k=1)


def test_overlap_equals_sets():
    rng = np.random.default_rng(1)
    a, b = (np.stack([rng.permutation(30)[:10] for _ in range(50)]) for _ in range(2))  # 0 is no item
    want = [
        len(set(x.tolist()) & set(y.tolist()) - {0}) / len(set(x.tolist()) - {0})
        for x, y in zip(a, b, strict=True)
    ]
    assert metrics.overlap(a, b).tolist() == pytest.approx(want)
    assert metrics.overlap(np.zeros([1, 4], int), np.ones([1, 4], int)).tolist() == [0]


def test_what_lists_recommend_by_hand():
    # Item 3 has no event and counts as if it had one: p = 1/8, 3 bits; items 1 and 2 have 1 and 2 bits.
    got = metrics.of_lists(np.array([[1, 3], [2, 1]]), np.array([4, 2, 0, 2]), k=2)
    assert got == pytest.approx({"coverage": 3 / 4, "popularity": (2 + 3) / 2, "novelty": (2 + 1.5) / 2})
    assert metrics.of_lists(np.array([[1, 3], [2, 1]]), np.array([4, 2, 0, 2]), k=1) == pytest.approx(
        {"coverage": 2 / 4, "popularity": 3, "novelty": 1.5}
    )


def test_what_lists_recommend_equals_the_twin_and_padding_is_as_if_deleted():
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 30, size=60)
    lengths = rng.integers(1, 31, size=100)
    lists = [(rng.permutation(60)[:length] + 1).tolist() for length in lengths]
    padded = np.array([row + [0] * (30 - len(row)) for row in lists])
    for k in (1, 7, 30):
        assert metrics.of_lists(padded, counts, k) == pytest.approx(
            reference.list_metrics(lists, counts.tolist(), k)
        )


def test_lists_of_nothing_recommend_nothing():
    nothing = {"coverage": 0.0, "popularity": 0.0, "novelty": 0.0}
    assert metrics.of_lists(np.zeros([2, 3], int), np.array([5, 1]), k=3) == nothing

"""Choosing for variety: the twins search every candidate at every choice."""

import numpy as np
import pytest

from export.lists.choosing import Variety, chosen
from export.store.bundle_errors import BundleError


def diverse_twin(scores, categories, k, weight):
    """Choose the candidate that adds most to sum(scores) - weight * pairs of one category."""
    left = sorted(enumerate(zip(scores, categories, strict=True)), key=lambda one: -one[1][0])
    taken = []
    while left and len(taken) < k:
        gains = [s - weight * sum(other == c for _, (_, other) in taken) for _, (s, c) in left]
        taken.append(left.pop(gains.index(max(gains))))
    return [place for place, _ in taken]


@pytest.mark.parametrize("weight", [0.0, 0.125, 0.5, 100.0])
@pytest.mark.parametrize("k", [1, 7, 30])
def test_diversity_equals_the_twin(k, weight):
    rng = np.random.default_rng(k)
    for _ in range(20):
        categories = rng.integers(0, 4, size=25)
        scores = rng.integers(0, 20, size=25) / 8  # exact in binary, and some are equal
        want = diverse_twin(scores.tolist(), categories.tolist(), k, weight)
        assert chosen(scores, k, Variety(weight), categories=categories).tolist() == want


def relevant_twin(scores, vectors, k, share):
    def cosine(a, b):
        return float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))

    low, high = min(scores), max(scores)
    taken: list = []
    while len(taken) < min(k, len(scores)):
        value = {
            place: share * (score - low) / (high - low)
            - (1 - share) * max((cosine(place, other) for other in taken), default=0.0)
            for place, score in enumerate(scores)
            if place not in taken
        }
        taken.append(max(value, key=value.get))
    return taken


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_marginal_relevance_equals_the_twin(share):
    rng = np.random.default_rng(3)
    for count in (2, 9, 30):
        scores, vectors = rng.normal(size=count), rng.normal(size=(count, 5))
        vectors[-1] = 3 * vectors[0]
        got = chosen(scores, 8, Variety(relevance=share), vectors=vectors).tolist()
        assert got == relevant_twin(scores.tolist(), vectors, 8, share) or share == 0.0
        if share == 0.0:  # the first choice is among equals: that with the higher score
            assert got[0] == int(np.argmax(scores))


def test_a_cap_is_never_broken_and_goes_with_either():
    rng = np.random.default_rng(4)
    scores, categories = rng.normal(size=40), rng.integers(0, 5, size=40)
    vectors = rng.normal(size=(40, 4))
    plain = [int(n) for n in np.argsort(-scores)]
    before = [[categories[m] for m in plain[:place]] for place in range(40)]
    want = [n for n, earlier in zip(plain, before, strict=True) if earlier.count(categories[n]) < 2]
    assert chosen(scores, 40, Variety(category_cap=2), categories=categories).tolist() == want
    assert len(want) == 10
    for variety in (Variety(0.3, category_cap=2), Variety(relevance=0.5, category_cap=2)):
        got = chosen(
            scores, 9, variety, categories=categories, vectors=vectors if variety.needs_vectors else None
        )
        assert len(got) == 9 and np.bincount(categories[got]).max() == 2


def test_a_large_weight_takes_turns_and_none_keeps_the_order_of_scores():
    scores, categories = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 1, 1, 2])
    assert chosen(scores, 4, Variety(10.0), categories=categories).tolist() == [0, 3, 1, 2]
    assert chosen(scores, 3, Variety(), categories=categories).tolist() == [0, 1, 2]
    assert chosen(scores[:0], 3, Variety(0.5), categories=categories[:0]).tolist() == []
    equal = chosen(np.ones(3), 3, Variety(relevance=0.5), vectors=np.eye(3))
    assert equal.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"diversity": -0.1}, r"diversity is -0\.1; wanted a finite number, 0 or more"),
        ({"diversity": float("inf")}, "diversity is inf"),
        ({"diversity": float("nan")}, "diversity is nan"),
        ({"relevance": 1.1}, r"relevance is 1\.1; wanted a number from 0 to 1"),
        ({"category_cap": -1}, "category_cap is -1"),
        ({"diversity": 1, "relevance": 0.5}, "are two ways to the same"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(BundleError, match=message):
        Variety(**values)

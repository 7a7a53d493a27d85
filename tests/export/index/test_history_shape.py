"""How histories are spread, beside twins that count one item at a time."""

import math

import numpy as np
import pytest

from export.index.history_shape import LENGTHS, PARTS, HistoryShape, divergence, parts_of

SHARES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]


def part_of(row, vocabulary_size):
    for part, share in enumerate(SHARES):
        if row < math.ceil(share * vocabulary_size):
            return part
    return len(SHARES)


@pytest.mark.parametrize("size", [1, 7, 50, 1_000, 20_001])
def test_a_row_is_in_the_first_part_that_reaches_it(size):
    rows = np.unique(np.append(np.random.default_rng(size).integers(0, size + 9, 300), [0, size - 1, size]))
    assert parts_of(rows, size).tolist() == [part_of(row, size) for row in rows]
    assert PARTS[part_of(size, size)] == "added"


def test_counts_items_by_part_and_histories_by_length():
    shape = HistoryShape()
    shape.add([], 1_000)
    lengths = [0, 1, 2, 3, 4, 7, 8, 255, 256, 900]
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, 1_050, size=length) for length in lengths]
    shape.add(histories[:4], 1_000)
    shape.add(histories[4:], 1_000)
    rows = [row for history in histories for row in history.tolist()]
    assert shape.popularity.tolist() == [
        sum(part_of(row, 1_000) == part for row in rows) for part in range(len(PARTS))
    ]
    floors = [0, 1, 2, 2, 4, 4, 8, 128, 256, 256]
    assert shape.lengths.tolist() == [floors.count(length) for length in LENGTHS]
    described = shape.describe()
    assert described["histories"] == 10
    assert described["popularity"] == pytest.approx((shape.popularity / len(rows)).tolist())
    assert described["lengths"] == pytest.approx([floors.count(length) / 10 for length in LENGTHS])


def entropy(p):
    return -sum(one * math.log2(one) for one in p if one > 0)


def test_divergence_is_entropy_of_the_mean_less_the_mean_entropy():
    rng = np.random.default_rng(1)
    for _ in range(20):
        p, q = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6))
        p[2] = 0.0
        p /= p.sum()
        wanted = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
        assert divergence(37 * p, q) == pytest.approx(wanted, abs=1e-12)
    assert divergence(np.array([3.0, 1.0]), np.array([0.75, 0.25])) == pytest.approx(0.0)
    assert divergence(np.array([9.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
    assert math.isnan(divergence(np.zeros(2), np.array([0.5, 0.5])))
    assert math.isnan(divergence(np.ones(2), np.zeros(2)))

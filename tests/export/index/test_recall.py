"""Exact search in blocks, beside a sort of all scores."""

import numpy as np
import pytest

from export.index import recall

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("num_items", "queries", "k"),
    [
        (10, RNG.normal(size=(3, 4)), 10),
        (2000, RNG.normal(size=(50, 4)), 7),
        (501, RNG.normal(size=(1, 4)), 1),
        (700, RNG.normal(size=(20, 3, 4)), 30),
        (300, np.zeros((0, 4)), 3),
    ],
)
def test_the_best_scores_are_found_whatever_the_blocks(monkeypatch, num_items, queries, k):
    monkeypatch.setattr(recall, "_BLOCK_BYTES", 4096)
    items, queries = RNG.normal(size=(num_items, 4)).astype(np.float32), queries.astype(np.float32)
    scores = queries @ items.T if queries.ndim == 2 else (queries @ items.T).max(axis=1)
    wanted = -np.sort(-scores, axis=1)[:, :k]
    found = recall.best_scores(items, queries, k)
    np.testing.assert_allclose(-np.sort(-found, axis=1), wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        recall.kth_best_scores(items, queries, k), wanted[:, -1] if len(queries) else np.zeros(0), atol=1e-5
    )


def test_equal_scores_are_all_kept_up_to_k(monkeypatch):
    monkeypatch.setattr(recall, "_BLOCK_BYTES", 64)
    items = np.ones((100, 2), np.float32)
    assert recall.best_scores(items, items[:3], 4).tolist() == [[2.0] * 4] * 3

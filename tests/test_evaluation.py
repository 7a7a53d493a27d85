"""Ranking of evaluation users: the model and POP, one catalogue after another, seen items left out."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import evaluation, retrieval
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.ragged import ItemLists
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from tests import reference

rng = np.random.default_rng(9)


def users_of(num_items, num_users=7):
    histories = [rng.integers(1, num_items + 1, size=rng.integers(1, 12)) for _ in range(num_users)]
    padded = np.zeros([num_users, 5], np.int32)
    for row, history in zip(padded, histories, strict=True):
        row[: len(history[-5:])] = history[-5:]
    splits = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    seen = ItemLists(np.concatenate(histories).astype(np.int32), splits)
    targets = ItemLists(np.arange(1, num_users + 1, dtype=np.int32), np.arange(num_users + 1))
    ids = np.array([f"u{number}" for number in range(num_users)], dtype=object)
    return EvaluationUsers(user_ids=ids, history=padded, seen=seen, targets=targets), histories


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("num_items", [900, 1300, 30])  # also fewer than are asked for
def test_model_and_popularity(num_items, exclude_seen, monkeypatch):
    monkeypatch.setattr(evaluation, "VECTORS_PER_BLOCK", 3)  # several blocks, the last of them short
    model = compose(Settings(embedding_dim=8, max_history=5), num_items)
    users, histories = users_of(num_items)
    excluded = histories if exclude_seen else None

    ranked = evaluation.rank_users(model, users, 40, exclude_seen=exclude_seen)
    vectors = model.encode(users.history).numpy()
    want = reference.top_k(vectors, model.item_embeddings()[1:], 40, excluded)
    assert [[item for item in row if item] for row in ranked.tolist()] == want

    popular = evaluation.rank_by_popularity(num_items, users, 40, exclude_seen=exclude_seen)
    for row, history in zip(popular.tolist(), histories, strict=True):
        left = [v for v in range(1, num_items + 1) if not (exclude_seen and v in history)][:40]
        assert row == left + [0] * (40 - len(left))


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_table_in_parts_is_ranked_part_by_part(exclude_seen, similarity, monkeypatch):
    model = compose(Settings(embedding_dim=8, max_history=5, similarity=similarity), 900)
    table = model.item_embeddings()
    table[600:640] = table[20:60]  # ties across parts go to the lower index
    model.item_tower.table.assign(table)
    bounds = [0, 300, 310, 311, 901]  # parts of 10 and of one are smaller than what is asked for
    parts = [tf.Variable(table[start:end]) for start, end in itertools.pairwise(bounds)]
    monkeypatch.setattr(type(model.item_tower), "parts", property(lambda tower: parts))
    users, histories = users_of(900)
    ranked = evaluation.rank_users(model, users, 40, exclude_seen=exclude_seen)
    items = table[1:]
    if similarity == "cosine":
        items = items / np.linalg.norm(items, axis=1, keepdims=True)
    excluded = histories if exclude_seen else None
    assert ranked.tolist() == reference.top_k(model.encode(users.history).numpy(), items, 40, excluded)


def test_what_is_excluded_is_as_long_as_the_distinct_items_and_traced_once(monkeypatch):
    """Not users by the longest history, which may be that of a crawler."""
    monkeypatch.setattr(evaluation, "VECTORS_PER_BLOCK", 4)
    users, histories = users_of(90, num_users=14)
    histories[5] = np.tile(np.arange(1, 61), 500)
    splits = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    users = dataclasses.replace(users, seen=ItemLists(np.concatenate(histories).astype(np.int32), splits))
    shapes, traced = [], []

    def top_k(users, blocks, k, exclusions):
        traced.append(exclusions[0].shape)
        tf.py_function(lambda excluded: shapes.append(tuple(excluded.shape)), exclusions, [])
        return retrieval.top_k_of_each(users, blocks, k, exclusions)

    monkeypatch.setattr(evaluation, "_top_k", tf.function(top_k))
    model = compose(Settings(embedding_dim=8, max_history=5), 90)
    ranked = evaluation.rank_users(model, users, 20, exclude_seen=True)
    vectors = model.encode(users.history).numpy()
    assert ranked.tolist() == reference.top_k(vectors, model.item_embeddings()[1:], 20, histories)
    distinct = [len(set(history.tolist())) for history in histories]
    assert shapes == [(sum(distinct[start : start + 4]), 2) for start in (0, 4, 8, 12)]
    assert len(traced) == 1


def test_figures_are_means_over_users():
    users, _ = users_of(100)
    ranked = np.zeros([7, 50], np.int32)
    ranked[:, 0] = [1, 2, 3, 9, 9, 9, 9]  # the target of user u is u + 1: three first places
    ranked[3, 30] = 4  # and a place after the 20th
    figures = evaluation.figures(ranked, users)
    assert figures["recall@20"] == figures["hr@20"] == pytest.approx(3 / 7)
    assert figures["recall@50"] == pytest.approx(4 / 7)
    assert figures["ndcg@50"] == pytest.approx((3 + 1 / np.log2(32)) / 7)


@pytest.mark.parametrize("tower", ["mean", "comirec_sa"])
def test_user_vectors_of_blocks_are_those_of_each_user_alone(tower, monkeypatch):
    monkeypatch.setattr(evaluation, "HISTORIES_PER_BLOCK", 3)  # several blocks, the last of them short
    model = compose(Settings(embedding_dim=8, max_history=5, tower=tower), 50)
    users, _ = users_of(50)
    vectors = evaluation.user_vectors(model, users.history)
    alone = np.concatenate([model.encode(users.history[u : u + 1]).numpy() for u in range(len(users))])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, alone, rtol=1e-5, atol=1e-6)

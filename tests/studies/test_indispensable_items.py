"""What a recommendation rests on: by deletion, history by history."""

import numpy as np
import pytest

from causerec_tf.data.holdout import EvaluationUsers, last_items
from causerec_tf.data.ragged import ItemLists
from causerec_tf.errors import InputError
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from causerec_tf.studies import indispensable_items

HISTORY = np.array([[3, 9, 9, 4, 0], [5, 0, 0, 0, 0], [1, 2, 3, 4, 5]], np.int32)
TARGET = np.array([7, 2, 30])


@pytest.mark.parametrize("tower", ["mean", "gru4rec", "comirec_sa"])
def test_support_equals_leaving_items_out_one_by_one(tower):
    model = compose(Settings(embedding_dim=8, max_history=5, tower=tower), 30)
    got = indispensable_items.indispensable(model, HISTORY, TARGET)
    table = model.item_embeddings()

    def score(items, target):
        vectors = model.encode(np.array([items + [0] * (5 - len(items))], np.int32)).numpy()
        return (vectors.reshape(-1, 8) @ table[target]).max()

    for row, target in enumerate(TARGET):
        items = [item for item in HISTORY[row].tolist() if item]
        concepts = [float(table[item] @ table[target]) for item in items]
        drops = [score(items, target) - score(items[:p] + items[p + 1 :], target) for p in range(len(items))]
        padding = [0.0] * (5 - len(items))
        assert got.concept_BL[row] == pytest.approx(concepts + padding, abs=1e-6)
        assert got.deletion_BL[row] == pytest.approx(drops + padding, abs=1e-6)
        best = sorted(range(len(items)), key=lambda p: -got.concept_BL[row, p])[: (len(items) + 1) // 2]
        assert np.flatnonzero(got.is_indispensable_BL[row]).tolist() == sorted(best)


def test_items_left_out_leave_no_gap():
    keep = np.array([[True, False, True, True, True], [False, *[True] * 4], [False, True, False, True, True]])
    assert indispensable_items.without(HISTORY, keep).tolist() == [[3, 9, 4, 0, 0], [0] * 5, [2, 4, 5, 0, 0]]


def test_removing_what_carries_the_list_replaces_more_than_chance():
    """Items of two kinds: one item alone points where the list lies, the others nowhere."""
    model = compose(Settings(embedding_dim=8, max_history=6), 400)
    rng = np.random.default_rng(0)
    table = 0.01 * rng.standard_normal([401, 8])
    table[0] = 0
    table[1:5] *= 300
    model.item_tower.table.assign(table)
    rows = [[*rng.integers(10, 401, 5).tolist(), int(rng.integers(1, 5))] for _ in range(40)]
    seen = ItemLists(np.concatenate(rows).astype(np.int32), np.arange(41) * 6)
    targets = ItemLists(np.ones(40, np.int32), np.arange(41))
    ids = np.array([f"u{number}" for number in range(40)], object)
    users = EvaluationUsers(ids, last_items(seen, 6), seen, targets)
    got = indispensable_items.removal(model, users, 1)
    assert set(got) == {"concept", "deletion", "random", "concept_lowest"}
    more = got["deletion"]["replaced_more_than_random@50"]
    assert more["mean"] > 3 * more["standard_error"]
    difference = got["deletion"]["replaced@50"]["mean"] - got["random"]["replaced@50"]["mean"]
    assert more["mean"] == pytest.approx(difference)
    with pytest.raises(InputError, match="6 items are to be removed"):
        indispensable_items.removal(model, users, 6)


def test_other_shapes_and_a_target_outside_the_catalogue_are_refused():
    model = compose(Settings(embedding_dim=8), 30)
    with pytest.raises(InputError, match=r"has shape \[3\] and target \[\]; wanted \[B, L\] and \[B\]"):
        indispensable_items.indispensable(model, [1, 2, 3], 5)
    with pytest.raises(InputError, match="not one of 1 to 30"):
        indispensable_items.indispensable(model, HISTORY, np.array([0, 1, 2]))

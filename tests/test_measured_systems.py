"""A model and baselines on the same users: both policies, groups, figures worked out user by user."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import evaluation, measurement, retrieval
from causerec_tf.baselines.baseline import Baseline
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.ragged import ItemLists
from causerec_tf.errors import InputError
from causerec_tf.groups import Groups
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from tests import reference
from tests.test_evaluation import users_of

rng = np.random.default_rng(10)


def lists_of(rows):
    items = np.array([item for row in rows for item in row], np.int32)
    return ItemLists(items, np.cumsum([0, *map(len, rows)]))


def model_of(num_items):
    return compose(Settings(embedding_dim=8, max_history=5), num_items)


@pytest.mark.parametrize("num_parts", [1, 3])
def test_both_policies_are_ranked_in_one_pass(num_parts, monkeypatch):
    monkeypatch.setattr(evaluation, "VECTORS_PER_BLOCK", 3)
    model = model_of(900)
    table = model.item_embeddings()
    bounds = np.linspace(0, 901, num_parts + 1).astype(int)
    parts = [tf.Variable(table[start:end]) for start, end in itertools.pairwise(bounds)]
    monkeypatch.setattr(type(model.item_tower), "parts", property(lambda tower: parts))
    users, histories = users_of(900)
    laid_out, in_blocks = [], retrieval.in_blocks
    monkeypatch.setattr(retrieval, "in_blocks", lambda part: laid_out.append(1) or in_blocks(part))
    kept, left_out = evaluation.rank_by_policies(model, users, 40, evaluation.POLICIES)
    assert len(laid_out) == num_parts
    vectors = model.encode(users.history).numpy()
    assert kept.tolist() == reference.top_k(vectors, table[1:], 40)
    assert left_out.tolist() == reference.top_k(vectors, table[1:], 40, histories)


def test_scores_are_ranked_block_by_block(monkeypatch):
    monkeypatch.setattr(evaluation, "SCORES_PER_BLOCK", 200)  # two users, and one
    scores = rng.integers(0, 9, size=[7, 90]).astype(np.float32)  # ties
    users, histories = users_of(90)
    sizes = []

    def of_block(part):
        sizes.append(len(part))
        return scores[[int(user_id[1:]) for user_id in part.user_ids]]

    kept, left_out = evaluation.rank_by_scores(of_block, 90, users, 20, evaluation.POLICIES)
    order = np.argsort(-scores, axis=1, kind="stable") + 1
    assert kept.tolist() == order[:, :20].tolist() and sizes == [2, 2, 2, 1]
    for row, ranked, history in zip(left_out.tolist(), order.tolist(), histories, strict=True):
        assert row == [item for item in ranked if item not in history][:20]
    [more] = evaluation.rank_by_scores(of_block, 90, users, 95, [False])
    assert more.tolist() == np.pad(order, [(0, 0), (0, 5)]).tolist()


def test_only_candidates_are_ranked():
    users, histories = users_of(90)
    scores = np.tile(np.arange(90, 0, -1).astype(np.float32), (7, 1))
    candidates = np.array([3, 4, 9, 50])
    kept, left_out = evaluation.rank_by_scores(
        lambda part: scores[: len(part)].copy(), 90, users, 6, evaluation.POLICIES, candidates=candidates
    )
    assert kept.tolist() == [[3, 4, 9, 50, 0, 0]] * 7
    for row, history in zip(left_out.tolist(), histories, strict=True):
        left = [item for item in (3, 4, 9, 50) if item not in history]
        assert row == left + [0] * (6 - len(left))


def test_baselines_rank_what_the_model_ranks():
    model = model_of(60)
    model.know_items_of(40, np.arange(1, 41))
    users, _ = users_of(60, num_users=20)
    [measured] = measurement.measure(
        model,
        users,
        training_of([1] * 60),
        policies=[False],
        cutoffs=[60],
        baselines={"mine": Fixed([50, 3])},
    ).values()
    assert measured.model["coverage@60"] == measured.baselines["mine"]["coverage@60"] == 40 / 60


class Fixed(Baseline):
    """A baseline with one list for everybody."""

    def __init__(self, best, **attributes):
        self._best = best
        self.__dict__ |= attributes

    def fit(self, training):
        self.scores_V = np.zeros(training.num_items, np.float32)
        self.scores_V[[item - 1 for item in self._best]] = np.arange(len(self._best), 0, -1)

    def scores(self, users):
        return np.tile(self.scores_V, (len(users), 1))


def training_of(counts, known=()):
    return SimpleNamespace(
        num_items=len(counts),
        counts=np.array(counts),
        have_user=lambda user_ids: np.array([user_id in known for user_id in user_ids]),
    )


def test_model_and_baselines_are_measured_on_the_same_users_under_both_policies():
    model, counts = model_of(60), rng.integers(0, 9, size=60).tolist()
    users, histories = users_of(60, num_users=20)
    histories = [row.tolist() for row in histories]
    baselines = {"mine": Fixed([5, 3, 9]), "past": Fixed([7, 1], knows_seen_items_only=True)}
    measured = measurement.measure(model, users, training_of(counts), cutoffs=[2, 7], baselines=baselines)
    assert list(measured) == [False, True]
    vectors, table = model.encode(users.history).numpy(), model.item_embeddings()[1:]
    fixed = {
        name: [*best, *(item for item in range(1, 61) if item not in best)]
        for name, best in (("mine", [5, 3, 9]), ("past", [7, 1]))
    }
    for left_out, one in measured.items():
        chosen = [u for u in range(20) if not (left_out and u + 1 in histories[u])]  # target of u is u + 1
        assert one.num_users == len(chosen)
        excluded = histories if left_out else [[]] * 20
        lists = {"model": reference.top_k(vectors, table, 7, excluded)}
        lists |= {
            name: [[item for item in best if item not in excluded[u]][:7] for u in range(20)]
            for name, best in fixed.items()
        }
        if left_out:
            del lists["past"]
        assert set(one.baselines) == set(lists) - {"model"}
        for name, of_system in {"model": one.model, **one.baselines}.items():
            for k in (2, 7):
                values = [reference.ranking_metrics(lists[name][u], [u + 1], k) for u in chosen]
                want = {metric: np.mean([value[metric] for value in values]) for metric in values[0]}
                want |= reference.list_metrics([lists[name][u] for u in chosen], counts, k)
                got = {metric: of_system.pop(f"{metric}@{k}") for metric in want}
                assert got == pytest.approx(want), (name, k)
                if name == "model":
                    assert one.per_user[f"hr@{k}"].tolist() == [value["hr"] for value in values]
            assert not of_system
    assert measured[False].groups == {}


def test_without_a_new_target_nothing_is_left_out():
    users, _ = users_of(60)
    users = dataclasses.replace(users, targets=ItemLists(users.history[:, 0].copy(), np.arange(8)))
    assert list(measurement.measure(model_of(60), users, training_of([1] * 60))) == [False]


def test_one_policy_alone_is_the_same_as_beside_the_other():
    model = model_of(60)
    users, _ = users_of(60, num_users=20)
    both = measurement.measure(model, users, training_of([1] * 60))
    for policy in evaluation.POLICIES:
        alone = measurement.measure(model, users, training_of([1] * 60), policies=[policy])
        assert list(alone) == [policy] and alone[policy].model == pytest.approx(both[policy].model)


def test_a_baseline_that_refuses_is_told_before_anything_is_ranked():
    refusing = Fixed([1], refusal=lambda training: "it is too large.")
    with pytest.raises(InputError, match=r"^mine: it is too large\."):
        measurement.measure(None, users_of(9)[0], training_of([1] * 9), baselines={"mine": refusing})


def test_groups_are_measured_by_their_own_users_and_targets():
    model = model_of(40)
    lengths = [1, 2, 2, 3, 4, 5, 6]  # thirds: up to 2, up to 4, more
    histories = [list(range(20, 20 + length)) for length in lengths]
    targets = [[1, 12], [2], [12, 13], [1], [15], [2, 12], [3]]
    users = EvaluationUsers(
        user_ids=np.array([f"u{number}" for number in range(7)], dtype=object),
        history=np.array([(row + [0] * 5)[:5] for row in histories]),
        seen=lists_of(histories),
        targets=lists_of(targets),
    )
    # Of 100 events the items 1 and 2 have 79: with item 3, which passes 80, they are the head.
    training = training_of([60, 19, 11] + [1] * 10 + [0] * 27, known=["u1", "u6"])
    [measured] = measurement.measure(
        model,
        users,
        training,
        policies=[False],
        cutoffs=[10],
        baselines={"mine": Fixed([12, 1, 40])},
        groups=True,
    ).values()
    everybody, everything = set(range(7)), set(range(41))
    members = {
        "short histories": ({0, 1, 2}, everything),
        "medium histories": ({3, 4}, everything),
        "long histories": ({5, 6}, everything),
        "head items": (everybody, {1, 2, 3}),
        "tail items": (everybody, set(range(4, 14))),
        "new items": (everybody, set(range(14, 41))),
        "known users": ({1, 6}, everything),
        "new users": ({0, 2, 3, 4, 5}, everything),
    }
    assert list(measured.groups) == list(members)
    vectors, table = model.encode(users.history).numpy(), model.item_embeddings()[1:]
    fixed = ([12, 1, 40] + [item for item in range(1, 41) if item not in (12, 1, 40)])[:10]
    lists = {"model": reference.top_k(vectors, table, 10), "mine": [fixed] * 7}
    for name, (its_users, its_items) in members.items():
        group = measured.groups[name]
        left = {u: [item for item in targets[u] if item in its_items] for u in sorted(its_users)}
        left = {u: items for u, items in left.items() if items}
        assert group["users"] == len(left) and group["targets"] == sum(map(len, left.values())), name
        for system, of_system in lists.items():
            values = [reference.ranking_metrics(of_system[u], items, 10) for u, items in left.items()]
            want = {f"{metric}@10": np.mean([one[metric] for one in values]) for metric in values[0]}
            assert group["figures"][system] == pytest.approx(want), (name, system)
    assert measured.groups["head items"]["meaning"] == "3 items with 80 % of the training events"
    assert measured.groups["tail items"]["meaning"] == "10 with the rest"
    assert measured.groups["short histories"]["meaning"] == "at most 2 events"
    assert measured.groups["long histories"]["meaning"] == "more than 4"


def test_a_kind_of_one_group_alone_is_left_out():
    users, _ = users_of(9)
    users = dataclasses.replace(users, seen=ItemLists(np.ones(7, np.int32), np.arange(8)))
    assert Groups(users, training_of([1] * 9)).of(users) == []

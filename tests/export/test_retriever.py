"""The retriever beside a slow twin that scores one user and one item at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import export
from export import retriever
from export.index import filtered_search
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.publishing.publication import Model
from export.publishing.publish import publish
from export.retriever import Retriever
from export.store.bundle_errors import BundleError, MissingVersionError, TowerError, TowerTimeoutError
from tests.export import toy

NUM_ITEMS, DIMENSION, MAX_HISTORY = 60, 6, 4
IDS = toy.item_ids(NUM_ITEMS)
TABLE = toy.embeddings(NUM_ITEMS, DIMENSION)


class Twin:
    def __init__(self, tower):
        self.tower = tower

    def vectors(self, history):
        known = [IDS.index(item) + 1 for item in history if item in IDS][-MAX_HISTORY:]
        concepts, mask = tf.constant(TABLE[[known]]), tf.ones([1, len(known)], tf.bool)
        return np.atleast_2d(np.asarray(self.tower(concepts, mask))[0])

    def recommend(self, history, k, exclude_seen):
        """[(score, item)], best first."""
        known = [item for item in history if item in IDS]
        if not known:
            return [(0.0, item) for item in IDS[:k]]
        vectors = self.vectors(history)
        scored = []
        for item, row in zip(IDS, TABLE[1:], strict=True):
            if not (exclude_seen and item in history):
                scored.append((max(float(vector @ row) for vector in vectors), item))
        return sorted(scored, reverse=True)[:k]


@pytest.fixture(scope="module", params=[1, 2], ids=["one vector", "two vectors"])
def both(request, tmp_path_factory):
    tower = toy.MeanTower(DIMENSION, num_vectors=request.param)
    bundle = tmp_path_factory.mktemp("bundle")
    queries = np.random.default_rng(0).normal(size=(9, DIMENSION)).astype(np.float32)
    if request.param > 1:
        queries = np.repeat(queries[:, None], request.param, axis=1)
    names = [f"Name of {item}" for item in IDS]
    model = Model(TABLE, tower, TABLE[1:], IDS, MAX_HISTORY, names)
    publish(bundle, model, queries=queries, warm_up_histories=[], options=IndexOptions(method="exact"))
    return Retriever.open(bundle), Twin(tower)


HISTORIES = [
    [IDS[3], IDS[50], IDS[7]],
    [],
    ["never seen", "nor this"],
    [IDS[0]],
    ["never seen", IDS[8], IDS[9], "", IDS[10], IDS[9], IDS[9], IDS[12], "nor this", IDS[20], "x"],
    IDS[::-1],
    IDS[5:45],
    [IDS[1]] * 30,
]


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 10, NUM_ITEMS, 10**30])
def test_answers_as_the_twin_does(both, k, exclude_seen):
    retriever, twin = both
    answers = retriever.recommend(HISTORIES, k, exclude_seen)
    for history, answer in zip(HISTORIES, answers, strict=True):
        expected = twin.recommend(history, k, exclude_seen)
        assert answer.items == [item for _, item in expected]
        np.testing.assert_allclose(answer.scores, [score for score, _ in expected], atol=1e-4)
        assert answer.num_unknown == sum(item not in IDS for item in history)
        assert answer.fallback == all(item not in IDS for item in history)
        assert answer.version == retriever.version


def test_fewer_remain_when_nearly_all_was_seen(both):
    retriever, _ = both
    answers = retriever.recommend([IDS[1:-1], IDS], k=10)
    assert sorted(answers[0].items) == sorted([IDS[0], IDS[-1]])
    assert (answers[1].items, answers[1].fallback) == ([], False)


def test_each_request_has_its_own_k_and_does_not_depend_on_the_others(both):
    retriever, _ = both
    together = retriever.recommend(HISTORIES, [1, 2, 3, 4, 5, 6, 7, 8])
    for k, (history, answer) in enumerate(zip(HISTORIES, together, strict=True), start=1):
        alone = retriever.recommend([history], k)[0]
        assert alone.items == answer.items
        assert len(answer.items) <= k


def test_histories_are_searched_in_parts_where_they_need_much(both, monkeypatch):
    whole = both[0].recommend(HISTORIES, 10)
    monkeypatch.setattr(filtered_search, "_MOST_FETCHED", 70)
    searched, search = [], ItemIndex.search

    def counted(self, queries, k):
        searched.append((*queries.shape[:-1], k))
        return search(self, queries, k)

    monkeypatch.setattr(ItemIndex, "search", counted)
    for answer, wanted in zip(both[0].recommend(HISTORIES, 10), whole, strict=True):
        assert answer.items == wanted.items
        assert answer.scores == pytest.approx(wanted.scores, abs=1e-5)
    assert all(np.prod(shape) <= 70 or shape[0] == 1 for shape in searched)
    assert any(shape[0] > 1 for shape in searched)


def test_no_histories_give_no_answers(both):
    assert both[0].recommend([], 5) == []


@pytest.mark.parametrize("k", [0, -3, [5, 0]])
def test_k_below_one_is_refused(both, k):
    with pytest.raises(BundleError, match="it must be at least 1"):
        both[0].recommend([[], []], k)
    with pytest.raises(BundleError, match="it must be at least 1"):
        both[0].explain([], 0)


@pytest.mark.parametrize(
    "history",
    ["abc", b"abc", 7, None, [None], [["a"]], [b"a"], [True], [1.0], [np.True_], [np.float32(1)], np.ones(2)],
)
def test_a_history_that_is_no_list_of_ids_is_refused(both, history):
    with pytest.raises(BundleError, match="history 1 "):
        both[0].recommend([["a"], history], 5)
    with pytest.raises(BundleError, match="history 0 "):
        both[0].explain(history, 5)


@pytest.mark.parametrize(
    "history",
    [[-3, 0], (np.int64(-3), np.int8(0)), np.array([-3, 0], np.int32), np.array(["-3", "0"]), ["-3", 0]],
)
def test_integers_and_scalars_of_numpy_are_ids_too(both, history):
    retriever, _ = both
    texts = ["-3", "0"]
    assert retriever.recommend([history], np.int64(5)) == retriever.recommend([texts], 5)
    assert retriever.recommend([history], 5)[0].num_unknown == 0
    assert retriever.explain(history, 5) == retriever.explain(texts, 5)


def test_influence_is_what_leaving_the_item_out_changes(both):
    retriever, twin = both
    history = [IDS[2], "never seen", IDS[30], IDS[31], IDS[30], IDS[5]]
    influences = {one.item: one for one in retriever.explain(history, 10)}
    assert set(influences) == {IDS[30], IDS[31], IDS[5]}  # the last four known places
    whole = {item for _, item in twin.recommend(history, 10, True)}
    for item, influence in influences.items():
        without = [other for other in history if other != item]
        left = [i for _, i in twin.recommend(without, NUM_ITEMS, True) if i not in history][:10]
        assert influence.share == pytest.approx(len(whole - set(left)) / 10)
        change = np.linalg.norm(twin.vectors(without) - twin.vectors(history))
        assert influence.vector_change == pytest.approx(change, rel=1e-3)
    shares = [one.share for one in retriever.explain(history, 10)]
    assert shares == sorted(shares, reverse=True)


def test_influence_on_the_whole_catalogue_is_none(both):
    influences = both[0].explain([IDS[2], IDS[30]], NUM_ITEMS + 5)
    assert {one.item: one.share for one in influences} == {IDS[2]: 0.0, IDS[30]: 0.0}


def test_influence_of_an_only_item_and_of_nothing(both):
    retriever, _ = both
    assert [one.item for one in retriever.explain([IDS[4]], 5)] == [IDS[4]]
    assert retriever.explain(["never seen"], 5) == []


def test_of_a_long_history_the_tower_gets_no_more_than_it_reads(both):
    asked = []

    def tower(histories, timeout=None):
        asked.append([len(history) for history in histories])
        return both[0]._tower(histories)

    history = [*IDS[5:9], *[IDS[2]] * 3_000, "never seen", *[IDS[30]] * 3_000, IDS[31]]
    found = Retriever(tower, both[0]._catalogues).explain(history, 10)
    twin = both[1]
    assert {one.item for one in found} == {IDS[30], IDS[31]}
    (influence,) = (one for one in found if one.item == IDS[30])
    without = [item for item in history if item != IDS[30]]
    change = np.linalg.norm(twin.vectors(without) - twin.vectors(history))
    assert influence.vector_change == pytest.approx(change, rel=1e-3)
    assert max(asked[-1]) <= MAX_HISTORY and len(asked[-1]) == 3


@pytest.mark.parametrize("late", [2, 3, 4])
def test_an_explanation_ends_when_its_time_is_over(both, monkeypatch, late):
    looks = iter(range(1, 100))
    # The clock: at the start, then at each look an hour later from the `late`th on.
    clock = SimpleNamespace(monotonic=lambda: 0.0 if next(looks) < late else 3600.0)
    monkeypatch.setattr(retriever, "time", clock)
    with pytest.raises(TowerTimeoutError, match=r"no explanation within 5\.000 s"):
        both[0].explain([IDS[2], IDS[30], IDS[5]], 10, timeout=5.0)


def test_names_are_for_people(both):
    assert both[0].name_of(IDS[3]) == f"Name of {IDS[3]}"
    assert both[0].name_of("never seen") == "never seen"


def test_a_tower_elsewhere_must_answer_a_version_of_the_bundle(both, tmp_path):
    class Elsewhere:
        version = both[0].version

        def __call__(self, histories, timeout=None):
            answer = both[0]._tower(histories)
            return answer._replace(version=np.array([self.version.encode()] * len(histories)))

    tower = Elsewhere()
    retriever = Retriever(tower, both[0]._catalogues)
    assert retriever.recommend([[IDS[0]]], 3) == both[0].recommend([[IDS[0]]], 3)
    for version in ("another", "../item_index"):
        tower.version = version
        with pytest.raises(MissingVersionError, match=f"answers version '{version}', which is not in"):
            retriever.recommend([[IDS[0]]], 3)


def test_an_explanation_is_of_one_version(both):
    class InSeveralRequests:
        mixed = 0  # so many answers are of two versions

        def __call__(self, histories, timeout=None):
            answer = both[0]._tower(histories)
            if len(histories) > 1 and self.mixed:
                self.mixed -= 1
                answer.version[0] = b"older"
            return answer

    tower = InSeveralRequests()
    retriever = Retriever(tower, both[0]._catalogues)
    history = [IDS[2], IDS[30], IDS[5]]
    tower.mixed = 1
    assert retriever.explain(history, 10) == both[0].explain(history, 10)
    tower.mixed = 2
    with pytest.raises(TowerError, match="an explanation needs one"):
        retriever.explain(history, 10)


def test_a_query_says_what_the_arguments_say_for_bare_histories(both):
    retriever, _ = both
    queries = [
        export.Query(history, 5, exclude_seen=number % 2 == 0) for number, history in enumerate(HISTORIES)
    ]
    excludes = [number % 2 == 0 for number in range(len(HISTORIES))]
    assert retriever.recommend(queries) == retriever.recommend(HISTORIES, 5, excludes)
    assert retriever.explain(queries[1]) == retriever.explain(HISTORIES[1], 5, exclude_seen=False)

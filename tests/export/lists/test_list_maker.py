"""Lists as they are answered, of a small shop, beside what the retriever found."""

import dataclasses

import numpy as np
import pytest

import export
from export.lists.choosing import Variety
from export.lists.exploration import Exploration
from export.lists.list_maker import ListMaker
from export.lists.reranking import Reranker
from export.publishing.updates import Update, update_index
from export.query import Query
from export.store.bundle_errors import BundleError
from tests.export.service.shop import DIMENSION, IDS, Version

pytestmark = pytest.mark.usefixtures("trusted_copies")

QUERIES = [Query([IDS[3], IDS[40]], 5), Query([], 4), Query([IDS[7]], 6, exclude_seen=False)]
CATEGORIES = {item: f"c{number % 3}" for number, item in enumerate(IDS)}
NEW = [f"new {number}" for number in range(6)]


@pytest.fixture(scope="module", name="retriever")
def fixture_retriever(tmp_path_factory):
    bundle = tmp_path_factory.mktemp("lists") / "b"
    Version(1).publish(bundle)
    vectors = 0.01 * np.random.default_rng(0).normal(size=(len(NEW), DIMENSION)).astype(np.float32)
    update_index(bundle, Update(upsert_ids=NEW, upsert_vectors=vectors, delete_ids=[IDS[-1]]))
    return export.Retriever.open(bundle)


def test_by_default_the_retrievers_answer_is_passed_on(retriever):
    maker = ListMaker(retriever)
    assert not maker.is_active(QUERIES[0])
    assert maker(QUERIES) == retriever.recommend(QUERIES)


def test_a_cap_chooses_from_what_was_found_and_leaves_a_fallback_alone(retriever):
    answers = ListMaker(retriever, variety=Variety(category_cap=1), categories=CATEGORIES)(QUERIES)
    for query, answer in zip(QUERIES, answers, strict=True):
        wide = retriever.recommend([dataclasses.replace(query, k=5 * query.k)])[0].items
        if not query.history:
            assert answer.items == wide[: query.k] and answer.steps == {"candidates": 20}
            continue
        taken: dict = {}
        for item in wide:  # what was added has no category, and is one of its own
            taken.setdefault(CATEGORIES.get(item, item), item)
        assert answer.items == list(taken.values())[: query.k]
        assert answer.steps == {"candidates": len(wide), "category_cap": 1}


def test_marginal_relevance_reads_the_vectors_of_the_version(retriever):
    [answer] = ListMaker(retriever, variety=Variety(relevance=0.5))(QUERIES[:1])
    [wide] = retriever.recommend([dataclasses.replace(QUERIES[0], k=25)])
    version = Version(1)

    def unit(item):
        vector = retriever.catalogue.vectors_of(retriever.catalogue.rows([item]))[0]
        if item in IDS:
            np.testing.assert_allclose(vector, version.table[IDS.index(item) + 1], atol=1e-6)
        return vector / np.linalg.norm(vector)

    low, high = min(wide.scores), max(wide.scores)
    left, taken = dict(zip(wide.items, wide.scores, strict=True)), []
    while len(taken) < 5:
        value = {
            item: (score - low) / (high - low) - max([unit(item) @ unit(one) for one in taken], default=0)
            for item, score in left.items()
        }
        taken.append(max(value, key=value.get))
        del left[taken[-1]]
    assert answer.items == taken
    assert answer.items != wide.items[:5]


def test_a_reranker_orders_the_candidates_and_its_failure_keeps_the_order(retriever):
    asked: list = []

    def reversed_order(histories, items, scores):
        asked.append((histories, items))
        return [[-score for score in one] for one in scores]

    wide = retriever.recommend([dataclasses.replace(one, k=5 * one.k) for one in QUERIES])
    answers = ListMaker(retriever, reranker=Reranker(reversed_order, 300))(QUERIES)
    for number in (0, 2):
        k = QUERIES[number].k
        assert answers[number].items == wide[number].items[::-1][:k]
        assert answers[number].scores == [-score for score in wide[number].scores[::-1][:k]]
        assert answers[number].steps["reranker"] == "used"
    assert answers[1].items == wide[1].items[:4] and "reranker" not in answers[1].steps
    assert asked == [([QUERIES[0].history, QUERIES[2].history], [wide[0].items, wide[2].items])]

    def fails(*_lists):
        raise ValueError("no model")

    answers = ListMaker(retriever, reranker=Reranker(fails, 300))(QUERIES)
    assert [one.items for one in answers] == [one.items for one in retriever.recommend(QUERIES)]
    assert answers[0].steps["reranker"] == "failed"
    assert answers[0].steps["reranker_error"] == "ValueError: no model"


@pytest.mark.parametrize(("pool", "items"), [("tail", set(IDS[15:-1])), ("new", set(NEW))])
def test_exploration_draws_a_share_from_its_pool_and_tells_what(retriever, pool, items):
    plain = retriever.recommend(QUERIES)
    maker = ListMaker(retriever, exploration=Exploration(0.5, pool))
    drawn: list = []
    everything = retriever.recommend([one.history for one in QUERIES], 100, exclude_seen=False)
    truths = {
        tuple(query.history): dict(zip(one.items, one.scores, strict=True))
        for query, one in zip(QUERIES, everything, strict=True)
    }
    for seed in range(60):
        queries = [dataclasses.replace(one, seed=seed) for one in QUERIES]
        answers = maker(queries)
        alone = [one for query in queries for one in maker([query])]  # scores differ by rounding
        assert [(one.items, one.steps) for one in answers] == [(one.items, one.steps) for one in alone]
        for query, found, answer in zip(queries, plain, answers, strict=True):
            explored = answer.steps["explored"]
            assert set(explored) <= items - set(query.history if query.exclude_seen else ())
            assert len(answer.items) == query.k == len(set(answer.items))
            assert len(explored) in (query.k // 2, (query.k + 1) // 2)
            rest = [item for item in answer.items if item not in explored]
            assert rest == found.items[: query.k - len(explored)]
            assert not set(explored) & set(found.items)
            assert (answer.steps["seed"], answer.steps["explored_from"]) == (seed, pool)
            drawn += explored
            scores = dict(zip(answer.items, answer.scores, strict=True))
            for item in explored if query.history else ():
                assert scores[item] == pytest.approx(truths[tuple(query.history)][item], abs=1e-5)
    assert len(set(drawn)) > 0.8 * len(items)


def test_exploration_keeps_to_what_the_request_allows_and_denies(retriever):
    maker = ListMaker(retriever, exploration=Exploration(1.0))
    allowed = IDS[10:30]
    query = Query([IDS[3]], 5, allow=allowed, deny=[IDS[20], IDS[21]])
    for seed in range(20):
        [answer] = maker([dataclasses.replace(query, seed=seed)])
        assert set(answer.items) <= set(allowed) - {IDS[20], IDS[21]}
        assert len(answer.items) == 5
    [first], [again] = maker([query]), maker([query])
    assert first == again  # without a seed the history decides


def test_a_part_of_a_place_is_drawn_for(retriever):
    maker = ListMaker(retriever, exploration=Exploration(0.05))
    answers = maker([Query([IDS[3]], 5, seed=seed) for seed in range(400)])
    counts = [len(answer.steps["explored"]) for answer in answers]
    assert set(counts) == {0, 1}
    assert 0.25 - 0.09 < np.mean(counts) < 0.25 + 0.09  # four standard errors


def test_what_does_not_go_together_is_refused(retriever):
    with pytest.raises(BundleError, match="need each other; give both"):
        ListMaker(retriever, variety=Variety(0.5))
    with pytest.raises(BundleError, match="need each other; give both"):
        ListMaker(retriever, categories=CATEGORIES)
    with pytest.raises(BundleError, match=r"explore is 1\.5; wanted a share from 0 to 1"):
        Exploration(1.5)
    with pytest.raises(BundleError, match="explore_from is 'head'; wanted one of tail, new"):
        Exploration(0.5, "head")

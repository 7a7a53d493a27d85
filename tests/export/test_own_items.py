"""Own items in the answers of a tower that scores them, beside a twin that scores one item at a time."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from export.index.index_options import IndexOptions
from export.index.updated_catalogue import Update
from export.publishing.publication import Model, fingerprint_of
from export.publishing.publish import publish
from export.publishing.updates import update_index
from export.query import Query
from export.retriever import Retriever
from export.towers.answers import TowerAnswer, joined
from tests.export import toy

pytestmark = pytest.mark.usefixtures("trusted_copies")

NUM_ITEMS, DIMENSION, MAX_HISTORY = 60, 6, 4
IDS = toy.item_ids(NUM_ITEMS)
TABLE = toy.embeddings(NUM_ITEMS, DIMENSION)


class LastPlaces:
    """Adds to the inner product of an item 2 - .9 p, of the last place p, from 0, where it stands."""

    def __init__(self):
        self.weight = tf.Variable(2.0)

    @property
    def variables(self):
        return [self.weight]

    def __call__(self, ids_BL, concepts_BLD, vectors):
        several = vectors[:, None] if len(vectors.shape) == 2 else vectors
        products = tf.reduce_max(tf.einsum("bld,bkd->blk", concepts_BLD, several), axis=2)
        width = ids_BL.shape[1]
        again = (ids_BL[:, :, None] == ids_BL[:, None, :]) & (tf.range(width)[:, None] < tf.range(width))
        items = tf.where(tf.reduce_any(again, axis=2), tf.zeros_like(ids_BL), ids_BL)
        return items, products + self.weight - 0.9 * tf.range(width, dtype=tf.float32)


def twin(tower, history, k, allowed=IDS):
    known = [IDS.index(item) + 1 for item in history if item in IDS][-MAX_HISTORY:]
    vectors = np.atleast_2d(
        np.asarray(tower(tf.constant(TABLE[[known]]), tf.ones([1, len(known)], tf.bool)))[0]
    )
    scores = {item: max(float(v @ row) for v in vectors) for item, row in zip(IDS, TABLE[1:], strict=True)}
    places = {IDS[index - 1]: place for place, index in enumerate(known)}  # the last place stays
    for item, place in places.items():
        scores[item] += 2.0 - 0.9 * place
    return sorted(((score, item) for item, score in scores.items() if item in allowed), reverse=True)[:k]


@pytest.fixture(scope="module", params=[1, 2], ids=["one vector", "two vectors"])
def published(request, tmp_path_factory):
    tower = toy.MeanTower(DIMENSION, num_vectors=request.param)
    bundle = tmp_path_factory.mktemp("bundle")
    queries = np.ones((3, *[request.param] * (request.param > 1), DIMENSION), np.float32)
    model = Model(TABLE, tower, TABLE[1:], IDS, MAX_HISTORY, history_scores=LastPlaces())
    publish(bundle, model, queries=queries, warm_up_histories=[], options=IndexOptions(method="exact"))
    return bundle, tower


@pytest.fixture(scope="module")
def retriever(published):
    return Retriever.open(published[0])


HISTORIES = [[IDS[3], IDS[50], IDS[7]], ["x", IDS[8], IDS[9], IDS[8], "y", IDS[8]], [IDS[0]] * 9, IDS[5:45]]


@pytest.mark.parametrize("k", [1, 5, NUM_ITEMS])
def test_own_items_stand_where_the_tower_puts_them(published, retriever, k):
    tower = published[1]
    answers = retriever.recommend(HISTORIES, k, exclude_seen=False)
    for history, answer in zip(HISTORIES, answers, strict=True):
        expected = twin(tower, history, k)
        assert answer.items == [item for _, item in expected]
        np.testing.assert_allclose(answer.scores, [score for score, _ in expected], atol=1e-4)
        explained, _ = retriever.recommend_explained(history, k, exclude_seen=False)
        assert explained.items == answer.items
    for history, answer in zip(HISTORIES, retriever.recommend(HISTORIES, NUM_ITEMS), strict=True):
        assert not set(answer.items) & set(history)


def test_what_may_not_be_answered_is_not_though_it_is_ones_own(published, retriever):
    tower = published[1]
    history = [IDS[3], IDS[50], IDS[7]]
    allowed = [IDS[3], IDS[7], IDS[11]]
    queries = [
        Query(history, exclude_seen=False, allow=allowed, deny=[IDS[7]]),
        Query(history, exclude_seen=False, allow=[IDS[50]]),
    ]
    some, own = retriever.recommend(queries, 5)
    assert some.items == [item for _, item in twin(tower, history, 5, allowed=[IDS[3], IDS[11]])]
    assert (own.items, own.plan) == ([IDS[50]], "history")


def test_a_withdrawn_item_is_not_answered_to_whom_had_it(published, tmp_path):
    bundle, tower = tmp_path / "b", published[1]
    shutil.copytree(published[0], bundle)
    history = [IDS[3], IDS[50], IDS[7]]
    update_index(bundle, Update(delete_ids=[IDS[50]]))
    [answer] = Retriever.open(bundle).recommend([history], 10, exclude_seen=False)
    left = [item for item in IDS if item != IDS[50]]
    assert answer.items == [item for _, item in twin(tower, history, 10, allowed=left)]


def test_another_weight_is_another_version():
    models = [
        Model(TABLE, toy.MeanTower(DIMENSION), TABLE[1:], IDS, MAX_HISTORY, history_scores=LastPlaces())
    ] * 2
    before = fingerprint_of(models[0], IndexOptions())
    models[1].history_scores.weight.assign(1.0)
    assert fingerprint_of(models[1], IndexOptions()) != before


def test_answers_of_two_versions_are_joined():
    def answer(count, width):
        items = None if not width else np.full((count, width), 7)
        scores = None if not width else np.full((count, width), 0.5, np.float32)
        return TowerAnswer(np.ones((count, 3)), np.ones(count), np.array([b"v"] * count), items, scores)

    whole = joined([answer(1, 0), answer(2, 3), answer(1, 2)])
    assert whole.history_items.tolist() == [[0, 0, 0], [7, 7, 7], [7, 7, 7], [7, 7, 0]]
    assert whole.history_scores[3].tolist() == [0.5, 0.5, 0.0]
    assert joined([answer(1, 0), answer(2, 0)]).history_items is None

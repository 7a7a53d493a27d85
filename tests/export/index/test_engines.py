"""One contract for every engine, and a bundle that is searched where ScaNN cannot be imported."""

import subprocess
import sys

import numpy as np
import pytest

from export.index.building import build_index
from export.index.changes import IndexChanges
from export.index.engines import ENGINES, engine_named
from export.index.hnsw_engine import HnswEngine
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.publishing.updates import Update, update_index
from export.retriever import Retriever
from export.store.bundle_errors import BundleError
from tests.export import toy
from tests.export.service.shop import IDS, Version

pytestmark = pytest.mark.usefixtures("trusted_copies")

NUM_ITEMS, DIMENSION = 900, 10
VECTORS = toy.clustered(NUM_ITEMS, DIMENSION, seed=4)
VECTORS[7] = VECTORS[8]  # equal items are two items
RNG = np.random.default_rng(6)
QUERIES = (VECTORS[RNG.integers(NUM_ITEMS, size=40)] + RNG.normal(size=(40, DIMENSION))).astype(np.float32)


def scores_of_all(queries, vectors):
    """One query and one item at a time, in double precision."""
    return np.array([[float(np.dot(q.astype(float), v.astype(float))) for v in vectors] for q in queries])


@pytest.fixture(params=ENGINES[1:])
def engine(request):
    if request.param == "hnswlib":
        pytest.importorskip("hnswlib", reason="hnswlib is not installed (pip install -e '.[hnswlib]')")
    return engine_named(request.param)


@pytest.fixture(scope="module", params=["full", "bfloat16"])
def stored(request, tmp_path_factory):
    index = build_index(
        VECTORS,
        queries=QUERIES,
        options=IndexOptions(method="exact", memory=request.param, target_recall=0.9),
    )
    place = tmp_path_factory.mktemp(request.param) / "abc"
    index.save(
        place,
        fingerprint="abc",
        item_ids=toy.item_ids(NUM_ITEMS),
        item_vectors=VECTORS,
        queries=QUERIES,
    )
    return place


@pytest.mark.parametrize("k", [1, 10, 300, NUM_ITEMS])
def test_an_engine_finds_the_largest_inner_products_in_their_order(engine, stored, k):
    index = ItemIndex.load(stored, engine)
    slots, scores = index.engine.search(QUERIES, k)
    assert (slots.dtype, scores.dtype) == (np.int64, np.float32)
    assert slots.shape == scores.shape == (len(QUERIES), k)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == k for row in slots.tolist())
    everything = scores_of_all(QUERIES, VECTORS)
    wanted = -np.sort(-everything, axis=1)[:, :k]
    found = np.take_along_axis(everything, slots, axis=1)
    # bfloat16 in ScaNN rounds to three digits; a graph may miss some.
    assert np.mean(found >= wanted[:, -1:] - 1e-4) > 0.9
    np.testing.assert_allclose(scores, found, rtol=0.02, atol=0.1)
    if stored.parent.name.startswith("full") and not isinstance(index.engine, HnswEngine):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_an_engine_answers_one_query_as_in_a_batch(engine, stored):
    search = ItemIndex.load(stored, engine).engine.search
    together, _ = search(QUERIES, 20)
    alone = [search(query[None], 20)[0][0] for query in QUERIES]
    assert np.mean(np.array(alone) == together) > 0.99


def test_numpy_is_exact_whatever_the_memory(stored):
    slots, scores = ItemIndex.load(stored, engine_named("numpy")).search(QUERIES, 50)
    everything = scores_of_all(QUERIES, VECTORS)
    wanted = -np.sort(-everything, axis=1)[:, :50]
    np.testing.assert_allclose(np.take_along_axis(everything, slots, axis=1), wanted, atol=1e-4)
    np.testing.assert_allclose(scores, wanted, atol=1e-4)


def test_hnswlib_reaches_the_recall_of_the_bundle(stored):
    pytest.importorskip("hnswlib", reason="hnswlib is not installed (pip install -e '.[hnswlib]')")
    slots, _ = ItemIndex.load(stored, engine_named("hnswlib")).search(QUERIES, 50)
    everything = scores_of_all(QUERIES, VECTORS)
    thresholds = -np.sort(-everything, axis=1)[:, 49:50]
    assert np.mean(np.take_along_axis(everything, slots, axis=1) >= thresholds - 1e-4) >= 0.9


def test_vectors_are_exact_whatever_the_engine_holds(stored):
    rows = np.array([5, 0, 899, 5])
    np.testing.assert_array_equal(ItemIndex.load(stored).vectors_of(rows), VECTORS[rows])


def test_vectors_after_changes():
    new = RNG.normal(size=(3, DIMENSION)).astype(np.float32)
    changes = IndexChanges(
        num_rows=6,
        row_of_slot=np.array([0, 2, 3, 4]),
        added_rows=np.array([1, 2, 5]),
        added_vectors=new,
        withdrawn_rows=np.array([4]),
    )
    index = ItemIndex(None, {}, changes, VECTORS[:4])
    got = index.vectors_of(np.array([5, 0, 2, 3, 1, 4]))
    np.testing.assert_array_equal(got, [new[2], VECTORS[0], new[1], VECTORS[2], new[0], VECTORS[3]])


def test_an_unknown_engine_is_refused():
    with pytest.raises(BundleError, match="The engine is 'faiss'; it is one of auto, scann, numpy, hnswlib"):
        engine_named("faiss")


@pytest.fixture
def updated(tmp_path):
    """A bundle whose index has added, replaced and withdrawn items."""
    version = Version(1)
    bundle = tmp_path / "bundle"
    version.publish(bundle)
    new = RNG.normal(size=(2, version.table.shape[1])).astype(np.float32)
    update_index(bundle, Update(upsert_ids=["new", IDS[3]], upsert_vectors=new, delete_ids=[IDS[5]]))
    return bundle


HISTORIES = [[IDS[0], IDS[9]], [], ["unknown"], [IDS[5], IDS[3]], IDS]


def test_a_retriever_answers_the_same_with_every_exact_engine(updated):
    answers = Retriever.open(updated, engine="scann").recommend(HISTORIES, 20)
    others = Retriever.open(updated, engine="numpy").recommend(HISTORIES, 20)
    for one, other in zip(answers, others, strict=True):
        assert one.items == other.items
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert any("new" in one.items for one in answers)
    assert not any(IDS[5] in one.items for one in answers)


def test_an_engine_of_ones_own_is_handed_in(updated):
    """Ten lines: the worst first, to see that it is asked."""

    class Backwards:
        def __init__(self, stored):
            self.vectors = stored.vectors

        def search(self, queries, k):
            scores = queries @ self.vectors.T
            slots = np.argsort(scores, axis=1)[:, :k]
            return slots, np.take_along_axis(scores, slots, axis=1)

    version = Version(1)
    bundle = updated.parent / "plain"
    version.publish(bundle)
    answer = Retriever.open(bundle, engine=Backwards).recommend([HISTORIES[0]], 5, False)[0]
    assert answer.items == version.items(HISTORIES[0], len(IDS), exclude_seen=False)[::-1][:5]


_WITHOUT_SCANN = """
import sys
sys.modules["scann"] = None  # importing it fails
from export.retriever import Retriever
from export.store.bundle_errors import BundleError
answers = Retriever.open(sys.argv[1]).recommend([sys.argv[2:]], 20)
print(answers[0].items)
print(type(Retriever.open(sys.argv[1]).catalogue._index.engine).__name__)
try:
    import export.publishing.publish
except BundleError as error:
    print(error)
"""


@pytest.mark.long  # tests/export/test_without_scann.py has a process in which it is missing
def test_a_bundle_is_searched_where_scann_cannot_be_imported(updated):
    wanted = Retriever.open(updated).recommend([HISTORIES[0]], 20)[0].items
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_SCANN, str(updated), *HISTORIES[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    items, engine, error = done.stdout.splitlines()
    assert items == repr(wanted)
    assert engine == "NumpyEngine"
    assert error.startswith("ScaNN cannot be loaded (") and "--engine=numpy" in error

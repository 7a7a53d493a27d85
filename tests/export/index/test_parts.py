"""An index in parts answers as one does, wherever it is saved, changed and built again."""

import numpy as np
import pytest

from export.index.building import build_index
from export.index.description import read_index
from export.index.engines import engine_named
from export.index.filtered_search import Wanted
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.publishing.publication import Model, fingerprint_of
from export.publishing.publish import publish
from export.publishing.updates import Update, update_index
from export.retriever import Retriever
from export.store import checksums
from export.store.bundle_errors import BundleError
from tests.export import toy

pytestmark = pytest.mark.usefixtures("trusted_copies")

RNG = np.random.default_rng(11)
VECTORS = toy.clustered(1501, 12)
QUERIES = (VECTORS[RNG.integers(1501, size=60)] + RNG.normal(size=(60, 12))).astype(np.float32)


def twin(vectors, queries, k):
    """Exact search, one query at a time."""
    return np.array([np.argsort(-(vectors @ query), kind="stable")[:k] for query in queries])


def built(tmp_path, vectors=VECTORS, queries=QUERIES, **options):
    options = IndexOptions(**({"k": 20, "parts": 3} | options))
    return build_index(vectors, queries=queries, options=options, scratch=tmp_path / "scratch")


def saved(index, directory, **more):
    ids = toy.item_ids(index.num_items)
    index.save(directory, fingerprint="f", item_ids=ids, **more)
    return ItemIndex.load(directory)


@pytest.mark.parametrize("k", [1, 7, 501, 1501])
def test_the_parts_together_equal_exhaustive_search(tmp_path, k):
    index = built(tmp_path, method="exact")
    assert index.description["recall"] == 1.0
    rows, scores = index.search(QUERIES, k)
    wanted = np.take_along_axis(QUERIES @ VECTORS.T, twin(VECTORS, QUERIES, k), axis=1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)
    true = np.take_along_axis(QUERIES @ VECTORS.T, rows, axis=1)
    np.testing.assert_allclose(true, wanted, rtol=1e-4, atol=1e-4)
    assert all(len(set(row)) == k for row in rows.tolist())


def test_the_recall_of_the_whole_is_measured_truthfully_and_reaches_the_target(tmp_path):
    vectors = toy.clustered(6000, 16, seed=1)
    rng = np.random.default_rng(2)
    queries = (vectors[rng.integers(6000, size=300)] + 0.5 * rng.normal(size=(300, 16))).astype(np.float32)
    index = built(tmp_path, vectors, queries, method="tree", target_recall=0.9, k=30)
    found, wanted = index.search(queries, 30)[0], twin(vectors, queries, 30)
    overlap = [len(set(a) & set(b)) / 30 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    description = index.description
    assert description["recall"] == pytest.approx(np.mean(overlap), abs=1e-4)
    assert description["recall_low"] >= 0.9
    assert description["settings"]["leaves_to_search"] < description["settings"]["num_leaves"]
    assert description["curve"][-1]["parts"] == 3


def test_several_vectors_of_a_user_are_merged_over_the_parts(tmp_path):
    queries = QUERIES.reshape(20, 3, 12)
    rows, _ = built(tmp_path, queries=queries, method="exact").search(queries, 15)
    best = (queries @ VECTORS.T).max(axis=1)
    np.testing.assert_array_equal(np.sort(rows), np.sort(np.argsort(-best, axis=1)[:, :15]))


@pytest.mark.parametrize("memory", ["full", "int8"])
def test_saved_and_moved_it_answers_the_same_and_any_engine_reads_it(tmp_path, memory):
    index = built(tmp_path, memory=memory, method="exact", target_recall=0.5)
    saved(index, tmp_path / "x" / "a", item_vectors=VECTORS, queries=QUERIES)
    (tmp_path / "y").mkdir()
    moved = (tmp_path / "x" / "a").rename(tmp_path / "y" / "b")
    loaded = ItemIndex.load(moved)
    np.testing.assert_array_equal(loaded.search(QUERIES, 20)[0], index.search(QUERIES, 20)[0])
    np.testing.assert_array_equal(loaded.vectors_of(np.array([4, 1500, 0])), VECTORS[[4, 1500, 0]])
    rows, _ = ItemIndex.load(moved, engine_named("numpy")).search(QUERIES, 20)
    np.testing.assert_array_equal(rows, twin(VECTORS, QUERIES, 20))
    assert read_index(moved)["parts"] == 3


def test_damage_to_a_part_is_an_error(tmp_path):
    saved(built(tmp_path), tmp_path / "x" / "a", item_vectors=VECTORS)
    path = tmp_path / "x" / "a" / "part-001" / "dataset.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"part-001/dataset\.npy has changed since it was published"):
        ItemIndex.load(path.parents[1])
    path.unlink()
    with pytest.raises(BundleError, match=r"part-001/dataset\.npy cannot be read \(it is missing\)"):
        ItemIndex.load(path.parents[1])


def test_parts_of_other_sizes_are_an_error(tmp_path):
    saved(built(tmp_path), tmp_path / "x" / "a", item_vectors=VECTORS)
    a = tmp_path / "x" / "a"
    (a / "part-000").rename(a / "part")
    (a / "part-001").rename(a / "part-000")
    (a / "part").rename(a / "part-001")
    checksums.write(a, {})
    with pytest.raises(BundleError, match=r"has parts of \[500, 501, 500\] places and 1501 exact vectors"):
        ItemIndex.load(a)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": -1}, "parts is -1; wanted 1 to 999, or 0"),
        ({"parts": 1000}, "parts is 1000; wanted 1 to 999, or 0"),
        (
            {"memory": "int8", "target_recall": 1.0, "method": "exact"},
            "In 3 parts with memory='int8' no setting reaches recall@20 1.0: the best is",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(tmp_path, options, message):
    with pytest.raises(BundleError, match=message):
        built(tmp_path, **options)


def test_parts_need_a_place(tmp_path):
    with pytest.raises(BundleError, match="An index in 2 parts needs a scratch directory"):
        build_index(VECTORS, queries=QUERIES, options=IndexOptions(parts=2))


def test_more_parts_than_items_allow_are_fewer(tmp_path):
    index = built(tmp_path, VECTORS[:40], parts=30, method="exact")
    assert index.description["parts"] == 2  # of sixteen items at least
    assert index.description["requested_parts"] == 30
    np.testing.assert_array_equal(index.search(QUERIES, 5)[0], twin(VECTORS[:40], QUERIES, 5))


def model(vectors):
    table = np.vstack([np.zeros((1, 12), np.float32), vectors])
    return Model(table, toy.MeanTower(12), vectors, toy.item_ids(len(vectors)), 5)


def test_a_number_of_parts_is_part_of_what_is_published():
    prints = {parts: fingerprint_of(model(VECTORS), IndexOptions(parts=parts)) for parts in (0, 2, 3)}
    assert len(set(prints.values())) == 3


def test_a_published_index_in_parts_takes_updates_and_keeps_its_parts_when_it_is_rebuilt(tmp_path):
    bundle, ids = tmp_path / "bundle", toy.item_ids(1501)
    options = IndexOptions(parts=3, k=20, method="tree", target_recall=0.95)
    first = publish(bundle, model(VECTORS), queries=QUERIES, warm_up_histories=[], options=options)
    assert first.index["parts"] == 3
    assert sorted(one.name for one in (bundle / "item_index").iterdir()) == [first.fingerprint]
    assert publish(
        bundle, model(VECTORS), queries=QUERIES, warm_up_histories=[], options=options
    ).index_reused

    new = QUERIES[:2] * 3
    update = Update(upsert_ids=["new 0", "new 1"], upsert_vectors=new, delete_ids=ids[:40])
    live = dict(zip(ids[40:], VECTORS[40:], strict=True)) | dict(zip(update.upsert_ids, new, strict=True))
    for step in (update, Update(rebuild=True)):
        made = update_index(bundle, step)
        place = bundle / "item_index" / made.fingerprint
        assert read_index(place)["format"] == 4
        assert sorted(one.name for one in place.glob("part-*")) == ["part-000", "part-001", "part-002"]
        catalogue = Retriever.open(bundle).catalogue
        found = catalogue.top(QUERIES, [Wanted(20, np.zeros(0, np.int64))] * 60)
        names = list(live)
        wanted = twin(np.array([live[name] for name in names]), QUERIES, 20)
        hits = [
            len(set(catalogue.ids(one.rows)) & {names[row] for row in row_wanted}) / 20
            for one, row_wanted in zip(found, wanted, strict=True)
        ]
        assert np.mean(hits) > 0.93
        assert catalogue.num_items == 1463
    assert not list((bundle / "item_index").glob(".*"))


def test_the_leaves_of_all_parts_are_told_apart_for_filters(tmp_path):
    index = built(tmp_path, method="tree", target_recall=0.9)
    loaded = saved(index, tmp_path / "x" / "a", item_vectors=VECTORS)
    partitions = loaded.partitions
    num_leaves = index.description["settings"]["num_leaves"]
    assert len(partitions.leaf_of_row) == 1501
    np.testing.assert_array_equal(partitions.leaf_of_row // num_leaves, np.arange(1501) % 3)
    rows = np.arange(0, 1501, 2)
    for query in QUERIES[:10]:
        found, scores = partitions.search(loaded.exact, query[None], rows, 10)
        wanted = rows[np.argsort(-(VECTORS[rows] @ query))[:10]]
        assert len(set(found) & set(wanted)) >= 9
        np.testing.assert_allclose(scores, VECTORS[found] @ query, rtol=1e-4, atol=1e-4)

"""Items that come and go, beside a slow twin: a dictionary of id -> vector that is sorted by score."""

import json
import shutil
import textwrap

import numpy as np
import pytest

from export.index import tuning
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.index.labels import read_ids
from export.publishing import updates
from export.publishing.current import current_catalogue
from export.publishing.publication import Model
from export.publishing.publish import publish, roll_back
from export.publishing.updates import Update, update_index
from export.retriever import Retriever
from export.store.bundle_errors import BundleError
from export.store.layout import read_tower, resolve_number, tower_directory
from tests.export import toy
from tests.pipelines import scripts

pytestmark = pytest.mark.usefixtures("trusted_copies")

NUM_ITEMS, DIMENSION, MAX_HISTORY = 600, 8, 4
IDS = toy.item_ids(NUM_ITEMS)
RNG = np.random.default_rng(1)
TABLE = np.vstack([np.zeros((1, DIMENSION), np.float32), toy.clustered(NUM_ITEMS, DIMENSION)])
QUERIES = (TABLE[1 + RNG.integers(NUM_ITEMS, size=40)] + RNG.normal(size=(40, DIMENSION))).astype(np.float32)
NEW = toy.clustered(40, DIMENSION, seed=5)
NEW_IDS = [f"new {number}" for number in range(40)]


def put(bundle, method="exact", k=20, **options):
    model = Model(TABLE, toy.MeanTower(DIMENSION), TABLE[1:], IDS, MAX_HISTORY)
    options = IndexOptions(method=method, k=k, **options)
    return publish(bundle, model, queries=QUERIES, warm_up_histories=[], options=options)


@pytest.fixture(scope="module", params=[pytest.param("exact", marks=pytest.mark.long), "tree"])
def published(request, tmp_path_factory):
    bundle = tmp_path_factory.mktemp("published") / "b"
    with pytest.MonkeyPatch.context() as patch:
        # A tree that searches all leaves and scores all items: whatever partition chance makes, also of what
        # is built anew, its answers are exact.
        patch.setattr(tuning, "_least_leaves", lambda measure, num_leaves, target: measure(num_leaves))
        put(bundle, request.param, k=20 if request.param == "exact" else NUM_ITEMS // 2)
        yield bundle


@pytest.fixture
def bundle(published, tmp_path):
    shutil.copytree(published, tmp_path / "b")
    return tmp_path / "b"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A bundle with an exact index, to be copied."""
    bundle = tmp_path_factory.mktemp("small") / "b"
    put(bundle)
    return bundle


@pytest.fixture
def exact_bundle(small, tmp_path):
    shutil.copytree(small, tmp_path / "e")
    return tmp_path / "e"


def latest_index(bundle):
    latest = tower_directory(bundle, resolve_number(bundle, None))
    return bundle / "item_index" / read_tower(latest)["version"]


def answers(bundle, queries, k):
    """[(id, score), ...] of each query, from the index of the latest version."""
    place = latest_index(bundle)
    ids = read_ids(place)
    rows, scores = ItemIndex.load(place).search(queries, k)
    assert (rows >= 0).all()
    return [
        [(ids[row], score) for row, score in zip(*pair, strict=True)]
        for pair in zip(rows, scores, strict=True)
    ]


def twin_answers(catalogue, queries, k):
    found = []
    for query in queries.astype(np.float64):
        scored = sorted(((float(vector @ query), item) for item, vector in catalogue.items()), reverse=True)
        found.append([(item, score) for score, item in scored[:k]])
    return found


def assert_same(bundle, catalogue, k=20, queries=QUERIES):
    for got, wanted in zip(answers(bundle, queries, k), twin_answers(catalogue, queries, k), strict=True):
        assert [item for item, _ in got] == [item for item, _ in wanted]
        np.testing.assert_allclose([s for _, s in got], [s for _, s in wanted], rtol=1e-4, atol=1e-4)


def everything():
    return dict(zip(IDS, TABLE[1:], strict=True))


def test_added_replaced_and_withdrawn_items_answer_as_a_dictionary_does(bundle):
    catalogue = everything()
    best = [item for item, _ in twin_answers(catalogue, QUERIES[:3], 40)[0]]
    update = Update(
        upsert_ids=[*NEW_IDS, best[0], best[3]],
        upsert_vectors=np.vstack([NEW, -NEW[:2]]),
        delete_ids=best[4:38],  # a whole neighbourhood goes
    )
    done = update_index(bundle, update)
    assert (done.number, done.action) == (2, "updated")
    catalogue |= dict(zip(update.upsert_ids, update.upsert_vectors, strict=True))
    for item in update.delete_ids:
        del catalogue[item]
    for k in (1, 20, 300):
        assert_same(bundle, catalogue, k)
    # Again, on top: what was withdrawn comes back elsewhere, what was added goes.
    again = Update(upsert_ids=[best[5], "é"], upsert_vectors=NEW[:2] + 1, delete_ids=NEW_IDS[:5])
    update_index(bundle, again)
    catalogue |= dict(zip(again.upsert_ids, again.upsert_vectors, strict=True))
    for item in again.delete_ids:
        del catalogue[item]
    assert_same(bundle, catalogue)
    # Built anew it holds the same, with nothing beside.
    rebuilt = update_index(bundle, Update(rebuild=True))
    assert rebuilt.action == "rebuilt"
    assert_same(bundle, catalogue)
    assert len(ItemIndex.load(latest_index(bundle)).changes.added_rows) == 0
    # And goes on to change.
    update_index(bundle, Update(upsert_ids=[NEW_IDS[0]], upsert_vectors=NEW[:1], delete_ids=[best[5]]))
    catalogue[NEW_IDS[0]] = NEW[0]
    del catalogue[best[5]]
    assert_same(bundle, catalogue, 20)
    assert_same(bundle, catalogue, len(catalogue), QUERIES[:3])


def test_the_version_before_answers_as_before_and_comes_back(exact_bundle):
    before = Retriever.open(exact_bundle)
    histories = [[IDS[3], IDS[50]], [IDS[9]], []]
    wanted = before.recommend(histories, 10)
    gone = wanted[0].items[0]
    update_index(exact_bundle, Update(delete_ids=[gone]))
    after = Retriever.open(exact_bundle)
    assert after.version != before.version
    assert gone not in after.recommend(histories, 10)[0].items
    assert Retriever.open(exact_bundle, version=1).recommend(histories, 10) == wanted
    back = roll_back(exact_bundle)
    assert (back.number, back.fingerprint) == (3, before.version)
    assert Retriever.open(exact_bundle).recommend(histories, 10) == wanted


def test_a_new_item_is_recommended_and_is_unknown_in_histories(exact_bundle):
    history = [IDS[3], IDS[50], IDS[7]]
    before = Retriever.open(exact_bundle)
    vector = before._tower([history]).user_vectors[0]
    vectors = np.stack([vector, TABLE[10]])
    update_index(exact_bundle, Update(["fresh", IDS[9]], vectors, upsert_names=["F", "N"]))
    after = Retriever.open(exact_bundle)
    assert after.num_items == NUM_ITEMS + 1
    assert after.recommend([history], 600)[0].items.count("fresh") == 1
    with_new, without = after.recommend([[*history, "fresh"]], 10)[0], before.recommend([history], 10)[0]
    assert with_new.num_unknown == 1
    assert "fresh" not in with_new.items  # it was seen
    assert with_new.items == without.items
    alone = after.recommend([["fresh"]], NUM_ITEMS)[0]
    assert alone.fallback and alone.items == IDS
    assert after.name_of("fresh") == "F"
    assert [after.name_of(item) for item in (IDS[9], IDS[3])] == ["N", IDS[3]]


def test_the_current_catalogue_is_what_can_be_answered(exact_bundle, tmp_path):
    assert current_catalogue(tmp_path / "none") is None
    number, catalogue = current_catalogue(exact_bundle)
    assert (number, catalogue.answered_ids, catalogue.is_updated) == (1, IDS, False)
    for delete_ids in ([IDS[0], IDS[7]], [NEW_IDS[1]]):
        new = {} if NEW_IDS[1] in delete_ids else {"upsert_ids": NEW_IDS[:2], "upsert_vectors": NEW[:2]}
        update_index(exact_bundle, Update(delete_ids=delete_ids, **new))
    answered = set(IDS) - {IDS[0], IDS[7]} | {NEW_IDS[0]}
    number, catalogue = current_catalogue(exact_bundle)
    assert (number, set(catalogue.answered_ids), catalogue.is_updated) == (3, answered, True)
    version = read_tower(tower_directory(exact_bundle, 3))["version"]
    changes = exact_bundle / "item_index" / version / "changes.npz"
    for damaged in (changes.read_bytes()[:-100], b"", None):
        changes.unlink()  # it may be another version's, too
        if damaged is not None:
            changes.write_bytes(damaged)
        assert current_catalogue(exact_bundle) is None


def test_a_name_is_changed_only_where_one_was_given(exact_bundle):
    ids = [IDS[9], "fresh", IDS[3]]
    for number, names in enumerate((["N", None, ""], [None, "F", None], None)):
        update_index(exact_bundle, Update(ids, NEW[:3] + number, upsert_names=names))
    after = Retriever.open(exact_bundle)
    assert [after.name_of(item) for item in (IDS[9], "fresh", IDS[3])] == ["N", "F", IDS[3]]


def test_a_withdrawn_item_still_counts_in_histories_and_never_as_a_fallback(exact_bundle):
    before = Retriever.open(exact_bundle)
    update_index(exact_bundle, Update(delete_ids=[IDS[0], IDS[3]]))
    after = Retriever.open(exact_bundle)
    known = after.recommend([[IDS[3], IDS[50]]], 20)[0]
    wanted = [i for i in before.recommend([[IDS[3], IDS[50]]], 22)[0].items if i not in (IDS[0], IDS[3])]
    assert (known.num_unknown, known.items) == (0, wanted[:20])
    assert after.recommend([[]], 3)[0].items == [IDS[1], IDS[2], IDS[4]]


def test_where_the_similarity_is_the_cosine_new_vectors_are_brought_to_length_one(tmp_path):
    unit = TABLE[1:] / np.linalg.norm(TABLE[1:], axis=1, keepdims=True)
    model = Model(TABLE, toy.MeanTower(DIMENSION), unit, IDS, MAX_HISTORY, similarity="cosine")
    options = IndexOptions(method="exact", k=20)
    publish(tmp_path / "b", model, queries=QUERIES, warm_up_histories=[], options=options)
    nothing = Update(["long", "none"], np.stack([5 * NEW[0], 0 * NEW[0]]))
    with pytest.raises(BundleError, match="vector of 'none' is zero and has no direction"):
        update_index(tmp_path / "b", nothing)
    catalogue = dict(zip(IDS, unit, strict=True))
    # As well after a rebuild as before it, and with lengths whose squares float32 does not hold.
    steps = [Update(["long"], 5 * NEW[:1]), Update(rebuild=True), Update(["short"], 1e-30 * NEW[1:2])]
    for step in steps:
        update_index(tmp_path / "b", step)
        for item in step.upsert_ids:
            vector = NEW[["long", "short"].index(item)].astype(np.float64)
            catalogue[item] = vector / np.sqrt((vector**2).sum())
        assert_same(tmp_path / "b", catalogue)


NOT_FINITE = NEW[:2].copy()
NOT_FINITE[1, 3] = np.nan


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"upsert_vectors": NOT_FINITE}, "vector of 'new 1' holds a value that is not finite"),
        (
            {"upsert_vectors": np.full((2, 8), 3e38)},
            r"vector of 'new 0' has the length 8.49e\+38, and a",
        ),
        ({"upsert_vectors": NEW[:2, :5]}, r"is \[2, 5\] for 2 ids; wanted \[2, 8\]"),
        ({"upsert_vectors": NEW[:1]}, r"is \[1, 8\] for 2 ids"),
        ({"upsert_ids": ["a", "a"]}, "holds an id twice"),
        ({"upsert_ids": ["a", "b\n"]}, "no newline"),
        ({"upsert_names": ["one"]}, "1 names for 2 ids"),
        ({"upsert_ids": ["a", "\ud83d"]}, r"The id '\\ud83d' cannot be written: half a surrogate pair"),
        ({"upsert_names": ["\ud83d", None]}, r"The name '\\ud83d' cannot be written: half a surrogate pair"),
        ({"delete_ids": ["\ud83d"]}, "is to be deleted, and the index has no such item"),
        ({"delete_ids": ["new 1"]}, "to be upserted and deleted"),
        ({"delete_ids": ["é", "é"]}, "deleted twice"),
        ({"delete_ids": ["nobody"]}, "'nobody' is to be deleted, and the index has no such item"),
        ({"upsert_ids": [], "upsert_vectors": NEW[:0], "delete_ids": IDS}, "withdraw every item"),
        ({"upsert_ids": [], "upsert_vectors": NEW[:0]}, "The update is empty"),
    ],
)
def test_what_does_not_fit_leaves_everything_as_it_was(exact_bundle, update, message):
    before = toy.files_of(exact_bundle)
    whole = {"upsert_ids": NEW_IDS[:2], "upsert_vectors": NEW[:2]} | update
    for dry_run in (True, False):
        with pytest.raises(BundleError, match=message):
            update_index(exact_bundle, Update(**whole), dry_run=dry_run)
    assert toy.files_of(exact_bundle) - before <= {".lock"}
    assert_same(exact_bundle, everything())


def test_an_item_that_is_withdrawn_cannot_be_withdrawn_again(exact_bundle):
    update_index(exact_bundle, Update(delete_ids=["é"]))
    with pytest.raises(BundleError, match="no such item"):
        update_index(exact_bundle, Update(delete_ids=["é", "0"]))


def test_the_same_update_again_changes_nothing_and_a_dry_run_writes_nothing(exact_bundle):
    update = Update(delete_ids=["é"])
    before = toy.files_of(exact_bundle)
    planned = update_index(exact_bundle, update, dry_run=True)
    assert toy.files_of(exact_bundle) == before
    done = update_index(exact_bundle, update)
    assert (planned.number, planned.fingerprint) == (done.number, done.fingerprint)
    before = toy.files_of(exact_bundle)
    again = update_index(exact_bundle, update)
    assert (again.action, again.number, again.fingerprint) == ("unchanged", 2, done.fingerprint)
    assert toy.files_of(exact_bundle) == before


def test_recall_is_measured_and_a_rebuild_advised(exact_bundle):
    few = update_index(exact_bundle, Update(upsert_ids=NEW_IDS[:20], upsert_vectors=NEW[:20]))
    assert few.index["now"]["rebuild_advised"] == []
    assert few.index["now"]["recall"] == 1.0
    assert few.index["now"]["changed_share"] == pytest.approx(20 / 600, abs=1e-5)
    many = update_index(exact_bundle, Update(delete_ids=[*IDS[:20], NEW_IDS[0]]))
    assert many.index["now"]["changed_share"] == pytest.approx(39 / 600, abs=1e-5)
    assert len(many.index["now"]["rebuild_advised"]) == 1
    stored = json.loads((exact_bundle / "item_index" / many.fingerprint / "index.json").read_text())
    assert stored["now"] == many.index["now"]
    assert stored["recall"] == 1.0


def test_updates_of_a_tree_are_found_as_well_as_after_a_rebuild(tmp_path):
    vectors = toy.clustered(3000, 16, seed=1)
    table = np.vstack([np.zeros((1, 16), np.float32), vectors[:2500]])
    queries = (vectors[RNG.integers(3000, size=100)] + 0.5 * RNG.normal(size=(100, 16))).astype(np.float32)
    ids = toy.item_ids(3000)
    model = Model(table, toy.MeanTower(16), table[1:], ids[:2500], MAX_HISTORY)
    options = IndexOptions(method="tree", k=20, target_recall=0.95)
    publish(tmp_path / "b", model, queries=queries, warm_up_histories=[], options=options)
    update = Update(upsert_ids=ids[2500:], upsert_vectors=vectors[2500:], delete_ids=ids[:300])
    recalls = []
    for step in (update, Update(rebuild=True)):
        index = update_index(tmp_path / "b", step).index
        live = dict(zip(ids[300:], vectors[300:], strict=True))
        got, wanted = answers(tmp_path / "b", queries, 20), twin_answers(live, queries, 20)
        pairs = zip(got, wanted, strict=True)
        recalls.append(np.mean([len({i for i, _ in a} & {i for i, _ in b}) / 20 for a, b in pairs]))
        measured = index["now"]["recall"] if "now" in index else index["recall"]
        assert measured == pytest.approx(recalls[-1], abs=0.02)
    assert min(recalls) > 0.93
    assert recalls[0] >= recalls[1] - 0.01  # what lies beside the tree is searched exactly


def test_old_versions_go_with_their_indexes_and_shared_files_stay(exact_bundle):
    for number, item in enumerate(["é", "0", "-3"]):
        update_index(exact_bundle, Update(delete_ids=[item]), keep=2)
        assert len(list((exact_bundle / "item_index").iterdir())) == 2
        kept = sorted(int(path.name) for path in (exact_bundle / "user_tower").iterdir())
        assert kept == [number + 1, number + 2]
    catalogue = {item: vector for item, vector in everything().items() if item not in ("é", "0", "-3")}
    assert_same(exact_bundle, catalogue)


@pytest.mark.parametrize("step", ["copy_under", "commit", "measured"])
def test_a_failure_leaves_the_last_good_version_and_a_rerun_completes(exact_bundle, monkeypatch, step):
    before = toy.files_of(exact_bundle / "user_tower")

    def fail(*_arguments, **_keywords):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(updates, step, fail)
        with pytest.raises(OSError, match="no space"):
            update_index(exact_bundle, Update(delete_ids=["é"]))
    assert toy.files_of(exact_bundle / "user_tower") == before
    assert_same(exact_bundle, everything())
    done = update_index(exact_bundle, Update(delete_ids=["é"]))
    assert (done.number, done.index_reused) == (2, step == "copy_under")


@pytest.mark.parametrize("killed_in", ["user_tower", pytest.param("item_index", marks=pytest.mark.long)])
def test_killed_before_a_rename_the_last_good_version_serves_on(exact_bundle, killed_in):
    script = f"""
        import os
        from pathlib import Path
        from export.publishing import updates

        def killed(made, place, commit=updates.commit):
            if place.parent.name == {killed_in!r}:
                os._exit(9)
            commit(made, place)

        updates.commit = killed
        updates.update_index(Path({str(exact_bundle)!r}), updates.Update(delete_ids=["é"]))
    """
    done = scripts.run_code(textwrap.dedent(script))
    assert done.returncode == 9
    assert_same(exact_bundle, everything())
    completed = update_index(exact_bundle, Update(delete_ids=["é"]))
    assert (completed.number, completed.index_reused) == (2, killed_in == "user_tower")
    assert not list(exact_bundle.glob("*/.*"))


def test_rounded_vectors_are_kept_whole_on_the_disk_for_measuring_and_rebuilding(tmp_path):
    with pytest.raises(BundleError, match=r"memory='int8' no setting reaches recall@20 1.0: the best is"):
        put(tmp_path / "b", memory="int8", target_recall=1.0)
    assert not list((tmp_path / "b" / "item_index").iterdir())
    done = put(tmp_path / "b", memory="int8", target_recall=0.9)
    overlap = [
        len({i for i, _ in a} & {i for i, _ in b}) / 20
        for a, b in zip(
            answers(tmp_path / "b", QUERIES, 20), twin_answers(everything(), QUERIES, 20), strict=True
        )
    ]
    assert done.index["recall"] == pytest.approx(np.mean(overlap), abs=1e-4)
    assert 0.9 < done.index["recall"] < 1.0
    assert done.index["searched_bytes"] < TABLE[1:].nbytes / 3
    vectors = np.load(tmp_path / "b" / "item_index" / done.fingerprint / "vectors.npy")
    np.testing.assert_array_equal(vectors, TABLE[1:])
    update = Update(upsert_ids=NEW_IDS, upsert_vectors=NEW, delete_ids=["é"])
    now = update_index(tmp_path / "b", update).index["now"]
    assert 0.9 < now["recall"] < 1.0
    rebuilt = update_index(tmp_path / "b", Update(rebuild=True))
    assert (rebuilt.index["memory"], rebuilt.index["items"]) == ("int8", 639)
    vectors = np.load(tmp_path / "b" / "item_index" / rebuilt.fingerprint / "vectors.npy")
    np.testing.assert_array_equal(vectors, np.vstack([np.delete(TABLE[1:], IDS.index("é"), axis=0), NEW]))

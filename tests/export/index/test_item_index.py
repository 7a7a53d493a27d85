import numpy as np
import pytest

from export.index.building import build_index
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.index.labels import read_ids, read_names
from export.index.recall import kth_best_scores, recall_at_k
from export.index.recall_curve import format_curve
from export.store import checksums
from export.store.bundle_errors import BundleError
from tests.export import toy

RNG = np.random.default_rng(3)
VECTORS = toy.clustered(1500, 12)
QUERIES = (VECTORS[RNG.integers(1500, size=60)] + RNG.normal(size=(60, 12))).astype(np.float32)


def exact(vectors, queries, k):
    scores = queries @ vectors.T
    rows = np.argsort(-scores, axis=1)[:, :k]
    return rows, np.take_along_axis(scores, rows, axis=1)


def assert_best(rows, vectors, queries, k):
    """The rows are the k best, in order; items whose scores differ in the last bits may swap."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    np.testing.assert_allclose(
        np.take_along_axis(scores, rows, axis=1), -np.sort(-scores, axis=1)[:, :k], rtol=0, atol=1e-4
    )
    assert all(len(set(row)) == k for row in rows.tolist())


def exact_of_several(vectors, queries, k):
    """One user and one item at a time."""
    rows = []
    for user in queries:
        scores = [max(float(vector @ item) for vector in user) for item in vectors]
        rows.append(sorted(range(len(vectors)), key=lambda row: -scores[row])[:k])
    return np.array(rows)


@pytest.fixture(scope="module")
def tree():
    return build_index(VECTORS, queries=QUERIES, options=IndexOptions(method="tree", k=20))


@pytest.fixture(scope="module", params=["exact", "tree with everything searched"])
def faultless(request):
    """One contract for each index that is exact by its settings."""
    if request.param == "exact":
        return build_index(VECTORS, queries=QUERIES, options=IndexOptions(method="exact"))
    index = build_index(VECTORS, queries=QUERIES, options=IndexOptions(method="tree", k=20))
    settings = index.description["settings"]
    settings["leaves_to_search"], settings["reorder"] = settings["num_leaves"], len(VECTORS)
    return index


@pytest.mark.parametrize("k", [1, 7, 20, 300, 1500])
def test_equals_exhaustive_search(faultless, k):
    rows, scores = faultless.search(QUERIES, k)
    assert_best(rows, VECTORS, QUERIES, k)
    np.testing.assert_allclose(scores, exact(VECTORS, QUERIES, k)[1], rtol=1e-4, atol=1e-4)


def test_one_query_answers_as_in_a_batch(faultless):
    rows, _ = faultless.search(QUERIES, 10)
    alone = [faultless.search(query[None], 10)[0][0] for query in QUERIES]
    np.testing.assert_array_equal(alone, rows)


def test_several_vectors_are_merged_by_best_score_without_repeats(faultless):
    queries = QUERIES.reshape(20, 3, 12)
    rows, scores = faultless.search(queries, 30)
    np.testing.assert_array_equal(rows, exact_of_several(VECTORS, queries, 30))
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 30 for row in rows.tolist())


def test_equal_vectors_of_a_user_do_not_double_the_results(faultless):
    queries = np.repeat(QUERIES[:5, None], 2, axis=1)
    np.testing.assert_array_equal(faultless.search(queries, 9)[0], exact(VECTORS, QUERIES[:5], 9)[0])


def test_a_tree_gives_as_many_results_as_asked_for(tree):
    """Few leaves hold fewer than k items; then ScaNN fills up with item 0 and NaN."""
    settings = dict(tree.description["settings"])
    tree.description["settings"].update(leaves_to_search=1, reorder=20)
    try:
        rows, scores = tree.search(QUERIES, 400)
    finally:
        tree.description["settings"].update(settings)
    assert rows.min() >= 0
    assert np.isfinite(scores).all()
    assert all(len(set(row)) == 400 for row in rows.tolist())


def test_the_tree_reaches_its_target_and_measures_it_truthfully():
    vectors = toy.clustered(6000, 16, seed=1)
    rng = np.random.default_rng(2)
    queries = (vectors[rng.integers(6000, size=400)] + 0.5 * rng.normal(size=(400, 16))).astype(np.float32)
    index = build_index(
        vectors, queries=queries[:200], options=IndexOptions(target_recall=0.95, k=30, method="tree")
    )
    found = index.search(queries, 30)[0]
    wanted = exact(vectors, queries, 30)[0]
    overlap = [len(set(a) & set(b)) / 30 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    tuned_on, others = np.array(overlap[:200]), np.array(overlap[200:])
    assert index.description["recall"] == pytest.approx(tuned_on.mean(), abs=1e-4)
    # Of users on whom it was not tuned: the same but for chance, which k-means of several threads adds to.
    assert others.mean() >= 0.95 - 3 * others.std() / len(others) ** 0.5
    assert index.description["settings"]["leaves_to_search"] < index.description["settings"]["num_leaves"]


def test_a_target_of_one_ends_with_exact_results():
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(3000, 24)).astype(np.float32)  # no clusters: the hard case
    queries = rng.normal(size=(50, 24)).astype(np.float32)
    index = build_index(
        vectors, queries=queries, options=IndexOptions(target_recall=1.0, k=20, method="tree")
    )
    assert index.description["recall"] == 1.0
    assert_best(index.search(queries, 20)[0], vectors, queries, 20)


def test_auto_is_exact_for_a_small_catalogue():
    index = build_index(VECTORS, queries=QUERIES, options=IndexOptions())
    assert index.description["method"] == "exact"
    assert index.description["recall"] == 1.0


@pytest.mark.parametrize("size", [16, 17, 50])
def test_a_tree_of_few_items(size):
    index = build_index(
        VECTORS[:size], queries=QUERIES, options=IndexOptions(method="tree", k=5, target_recall=1.0)
    )
    assert_best(index.search(QUERIES, 5)[0], VECTORS[:size], QUERIES, 5)


def test_a_catalogue_of_one_item():
    index = build_index(VECTORS[:1], queries=QUERIES[:0], options=IndexOptions())
    assert index.search(QUERIES[:2], 1)[0].tolist() == [[0], [0]]
    assert "-" in format_curve(index.description)


def test_saved_and_moved_it_answers_the_same(tree, tmp_path):
    ids = toy.item_ids(1500)
    tree.save(tmp_path / "a", fingerprint="f", item_ids=ids, item_names=[f"name\n{i}" for i in ids])
    (tmp_path / "deep" / "er").mkdir(parents=True)
    moved = (tmp_path / "a").rename(tmp_path / "deep" / "er" / "b")
    loaded = ItemIndex.load(moved)
    assert loaded.fingerprint == "f"
    assert read_ids(moved) == ids
    assert read_names(moved)[8] == f"name {ids[8]}"
    np.testing.assert_array_equal(loaded.search(QUERIES, 20)[0], tree.search(QUERIES, 20)[0])
    assert not list(moved.glob("*.pkl"))


def test_a_pickle_in_the_directory_is_not_opened(tree, tmp_path):
    tree.save(tmp_path / "a", fingerprint="f", item_ids=toy.item_ids(1500))
    marker = tmp_path / "was unpickled"
    (tmp_path / "a" / "scann_docids.pkl").write_bytes(
        f"cpathlib\nPath.touch\n(cpathlib\nPath\n(V{marker}\ntRtR.".encode()
    )
    with pytest.raises(BundleError, match=r"scann_docids\.pkl was not published"):
        ItemIndex.load(tmp_path / "a")
    toy.sign_again(tmp_path / "a")
    ItemIndex.load(tmp_path / "a").search(QUERIES, 3)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["dataset.npy", "scann_config.pb", "ids.txt"])
def test_a_truncated_file_is_an_error(tmp_path, name):
    index = build_index(VECTORS[:50], queries=QUERIES, options=IndexOptions())
    index.save(tmp_path / "a", fingerprint="f", item_ids=toy.item_ids(50))
    path = tmp_path / "a" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=name):
        ItemIndex.load(tmp_path / "a")


def save_small(directory):
    index = build_index(VECTORS[:50], queries=QUERIES, options=IndexOptions())
    index.save(
        directory, fingerprint="f", item_ids=toy.item_ids(50), item_names=toy.item_ids(50), queries=QUERIES
    )


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["dataset.npy", "scann_config.pb", "ids.txt", "names.txt", "queries.npy"])
def test_a_flipped_bit_is_an_error(tmp_path, name):
    save_small(tmp_path / "a")
    flip(tmp_path / "a" / name)
    with pytest.raises(BundleError, match=rf"{name} has changed since it was published; publish again"):
        ItemIndex.load(tmp_path / "a")


def test_damage_after_loading_is_not_taken_for_whole_in_a_copy_that_shares_the_file(tmp_path):
    save_small(tmp_path / "a")
    loaded = ItemIndex.load(tmp_path / "a")
    flip(tmp_path / "a" / "dataset.npy")
    loaded.save(tmp_path / "b", fingerprint="g", item_ids=toy.item_ids(50), unchanged_in=tmp_path / "a")
    with pytest.raises(BundleError, match=r"b/dataset\.npy has changed"):
        ItemIndex.load(tmp_path / "b")


def test_what_is_cleared_away_while_it_is_opened_is_an_error_of_the_bundle(tmp_path, monkeypatch):
    save_small(tmp_path / "a")
    for name in ("ids.txt", "names.txt"):
        kept = (tmp_path / "a" / name).rename(tmp_path / name)
        read = {"ids.txt": read_ids, "names.txt": read_names}[name]
        with pytest.raises(BundleError, match=rf"{name} cannot be read"):
            read(tmp_path / "a")
        with pytest.raises(BundleError, match=rf"{name} cannot be read"):
            ItemIndex.load(tmp_path / "a")
        kept.rename(tmp_path / "a" / name)

    def cleared(path, digest=checksums.sha256):
        path.unlink()
        return digest(path)

    monkeypatch.setattr(checksums, "sha256", cleared)
    with pytest.raises(BundleError, match=r"cannot be read \(.*No such file"):
        ItemIndex.load(tmp_path / "a")


def test_changed_ids_and_foreign_descriptions_are_errors(tmp_path):
    index = build_index(VECTORS[:50], queries=QUERIES, options=IndexOptions())
    index.save(tmp_path / "a", fingerprint="f", item_ids=toy.item_ids(50))
    ids = (tmp_path / "a" / "ids.txt").read_bytes()
    (tmp_path / "a" / "ids.txt").write_bytes(ids.replace(b"item", b"mite"))
    with pytest.raises(BundleError, match="has changed"):
        read_ids(tmp_path / "a")
    toy.describe_again(tmp_path / "a" / "index.json", format=99)
    with pytest.raises(BundleError, match=r"index\.json has changed"):
        ItemIndex.load(tmp_path / "a")
    toy.sign_again(tmp_path / "a")
    with pytest.raises(BundleError, match="format is 99; wanted 1 or 2 or 3 or 4"):
        ItemIndex.load(tmp_path / "a")


NAN = VECTORS.copy()
NAN[11, 3] = np.nan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"item_vectors": NAN}, "item_vectors holds a value that is not finite in row 11"),
        ({"queries": np.full((1, 12), np.inf)}, "queries holds a value that is not finite"),
        ({"queries": QUERIES[:, :5]}, r"wanted \[Q, 12\]"),
        ({"item_vectors": VECTORS[:0]}, "V above 0"),
        ({"options": IndexOptions(target_recall=0.0)}, "above 0"),
        ({"options": IndexOptions(k=0)}, "k is 0"),
        ({"options": IndexOptions(method="magic")}, "auto, exact, tree"),
        ({"options": IndexOptions(method="tree"), "item_vectors": VECTORS[:15]}, "at least 16 items"),
        ({"options": IndexOptions(method="tree"), "queries": QUERIES[:0]}, "there are none"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(BundleError, match=message):
        build_index(**({"item_vectors": VECTORS, "queries": QUERIES, "options": IndexOptions()} | arguments))


@pytest.mark.parametrize("k", [0, -1, 1501])
def test_k_outside_the_catalogue_is_refused(tree, k):
    with pytest.raises(BundleError, match=f"k is {k}; it must be from 1 to 1500"):
        tree.search(QUERIES, k)


def test_queries_that_cannot_be_searched_are_refused(tree):
    with pytest.raises(BundleError, match=r"wanted \[B, 12\]"):
        tree.search(QUERIES[:, :3], 5)
    with pytest.raises(BundleError, match="not finite"):
        tree.search(np.full((1, 12), np.nan), 5)
    assert tree.search(QUERIES[:0], 5)[0].shape == (0, 5)


def test_recall_counts_ties_as_found_and_missing_rows_as_lost():
    vectors = np.array([[3.0], [2.0], [2.0], [1.0]], np.float32)
    queries = np.ones((3, 1), np.float32)
    thresholds = kth_best_scores(vectors, queries, 2)
    rows = np.array([[0, 1], [0, 2], [3, -1]])
    assert recall_at_k(vectors, queries, rows, thresholds).tolist() == [1.0, 1.0, 0.0]

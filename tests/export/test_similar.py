"""Similar items beside a slow twin that compares one pair of items at a time."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

import causerec_tf as cr
import export
from export.index import nearest
from export.index.index_options import IndexOptions
from export.publishing.publication import Model
from export.publishing.publish import publish
from export.publishing.updates import Update, update_index
from export.retriever import Retriever
from export.store.bundle_errors import BundleError, TowerTimeoutError
from tests.export import toy
from tests.pipelines import scripts

pytestmark = pytest.mark.usefixtures("trusted_copies")

NUM_ITEMS, DIMENSION = 60, 6
IDS = toy.item_ids(NUM_ITEMS)
SCRIPT = "pipelines/retrieve.py"


def vectors_of(similarity):
    table = toy.embeddings(NUM_ITEMS, DIMENSION, seed=2)[1:]
    # Popular items have long vectors, as training by the inner product gives them.
    table *= np.linspace(5, 0.2, NUM_ITEMS, dtype=np.float32)[:, None]
    if similarity == "cosine":
        table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table


def cosine(one, other):
    product = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    lengths = [math.sqrt(sum(float(a) ** 2 for a in vector)) for vector in (one, other)]
    return product / lengths[0] / lengths[1] if all(lengths) else 0.0


def twin(table, item, k):
    """Of id -> vector: [(cosine, id)], best first."""
    scored = [(cosine(table[item], vector), other) for other, vector in table.items() if other != item]
    return sorted(scored, reverse=True)[:k]


@pytest.fixture(scope="module", params=["dot", "cosine"])
def world(request, tmp_path_factory):
    """A bundle, and the vectors of its items by id."""
    vectors = vectors_of(request.param)
    table = np.vstack([np.zeros((1, DIMENSION), np.float32), vectors])
    names = [f"Name of {item}" for item in IDS]
    model = Model(table, toy.MeanTower(DIMENSION), vectors, IDS, 4, names, similarity=request.param)
    bundle = tmp_path_factory.mktemp(request.param) / "b"
    queries = np.random.default_rng(0).normal(size=(9, DIMENSION)).astype(np.float32)
    publish(bundle, model, queries=queries, warm_up_histories=[], options=IndexOptions(method="exact"))
    return bundle, dict(zip(IDS, vectors, strict=True))


@pytest.fixture(scope="module")
def retriever(world):
    """Of the bundle, as it was published."""
    return Retriever.open(world[0])


@pytest.mark.parametrize("k", [1, 10, NUM_ITEMS - 1, NUM_ITEMS + 5])
def test_answers_as_the_twin_does(world, retriever, k):
    table = world[1]
    answers = retriever.similar([*IDS[:7], IDS[59]], k)
    for item, answer in zip([*IDS[:7], IDS[59]], answers, strict=True):
        wanted = twin(table, item, k)
        assert (answer.item, answer.unknown, answer.version) == (item, False, retriever.version)
        assert answer.items == [other for _, other in wanted]
        np.testing.assert_allclose(answer.scores, [score for score, _ in wanted], atol=1e-5)


def test_in_blocks_it_is_the_same(world, retriever, monkeypatch):
    whole = retriever.similar(IDS, 8)
    monkeypatch.setattr(nearest, "_ROWS_TOGETHER", 7)
    for one, other in zip(Retriever.open(world[0]).similar(IDS, 8), whole, strict=True):
        assert one.items == other.items


def test_changed_items(world, tmp_path):
    """What was added has neighbours, what was withdrawn is none and has some, what is unknown is said so."""
    bundle, table = tmp_path / "b", dict(world[1])
    shutil.copytree(world[0], bundle)
    new = np.array([[1, 2, 3, 4, 5, 6], [6, -5, 4, -3, 2, -1]], np.float32)
    update = Update(upsert_ids=["new", IDS[3]], upsert_vectors=new, delete_ids=[IDS[5]])
    update_index(bundle, update)
    table |= {"new": new[0], IDS[3]: new[1]}
    added, replaced, withdrawn, unknown = Retriever.open(bundle).similar(
        ["new", IDS[3], IDS[5], "nothing"], 9
    )
    withdrawn_vector = table.pop(IDS[5])
    for answer, item in ((added, "new"), (replaced, IDS[3])):
        assert answer.items == [other for _, other in twin(table, item, 9)]
    assert withdrawn.items == [other for _, other in twin(table | {IDS[5]: withdrawn_vector}, IDS[5], 9)]
    assert (unknown.items, unknown.scores, unknown.unknown) == ([], [], True)
    assert not (added.unknown or replaced.unknown or withdrawn.unknown)


def test_filters_hold_for_what_is_answered(world, tmp_path):
    bundle, table = tmp_path / "b", world[1]
    shutil.copytree(world[0], bundle)
    rows = [{"item_id": item, "price": number} for number, item in enumerate(IDS)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = scripts.run(
        "export/item_attributes.py", f"--bundle={bundle}", f"--item_table={tmp_path / 't.jsonl'}"
    )
    assert done.returncode == 0, done.stderr
    retriever = Retriever.open(bundle)

    def passing(keep, item):
        return [other for _, other in twin(table, item, NUM_ITEMS) if keep(other)][:6]

    def asked(**values):
        return [one.items for one in retriever.similar(export.Query([IDS[3], IDS[40]], k=6, **values))]

    number = IDS.index
    for values, keep in (
        ({"filter": {"price": {"lt": 20}}}, lambda other: number(other) < 20),
        ({"filter": {"price": {"ge": 58}}}, lambda other: number(other) >= 58),
        ({"allow": IDS[:5]}, lambda other: other in IDS[:5]),
        ({"deny": IDS[10:]}, lambda other: other not in IDS[10:]),
        ({"filter": {"price": {"gt": 99}}}, lambda other: False),
    ):
        assert asked(**values) == [passing(keep, IDS[3]), passing(keep, IDS[40])], values


def test_an_item_without_a_direction_is_near_nothing():
    assert np.array_equal(nearest.unit_vectors(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_integers_are_ids_and_what_cannot_be_is_refused(retriever):
    assert retriever.similar([-3, np.int64(0)], 4) == retriever.similar(["-3", "0"], 4)
    assert retriever.similar(export.Query(["0"], k=4)) == retriever.similar(["0"], 4)
    assert retriever.similar([], 4) == []
    for items, k in ((["0"], 0), ("0", 3), ([1.5], 3), (["0"], None)):
        with pytest.raises(BundleError):
            retriever.similar(items, k)
    with pytest.raises(TowerTimeoutError, match="no answer within"):
        retriever.similar(["0"], 4, timeout=0.0)


def test_it_is_what_a_run_says(plain_run, tmp_path):
    """One meaning in the notebook and behind the bundle."""
    run = cr.load_run(plain_run)
    export.publish(run, tmp_path / "bundle", warm_up_requests=0)
    items = run.dataset.item_ids()[:5]
    theirs = run.similar_items(items, k=6)
    for answer in Retriever.open(tmp_path / "bundle").similar(items, 6):
        of_item = theirs.filter(pl.col("item_id") == answer.item)
        assert of_item["similar_item_id"].to_list() == answer.items
        np.testing.assert_allclose(of_item["score"].to_numpy(), answer.scores, atol=1e-5)


@pytest.mark.parametrize("world", ["cosine"], indirect=True)
def test_a_file_of_items(world, tmp_path):
    bundle, table = world
    asked = [IDS[8], "nothing", IDS[59], "日本"]
    (tmp_path / "items.txt").write_text("\n".join(asked) + "\n")
    arguments = (SCRIPT, f"--bundle={bundle}", "--k=3")
    for output in ("o.jsonl", "o.parquet"):
        done = scripts.run(
            *arguments, f"--similar_to={tmp_path / 'items.txt'}", f"--output={tmp_path / output}"
        )
        assert done.returncode == 0, done.stderr
        assert "4 items, 1 of them unknown" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["item_id"] for row in rows] == asked
    for row in rows:
        wanted = twin(table, row["item_id"], 3) if row["item_id"] in table else []
        assert row["items"] == [other for _, other in wanted]
        assert row["unknown"] == (row["item_id"] not in table)
    assert pl.read_parquet(tmp_path / "o.parquet")["items"].to_list() == [row["items"] for row in rows]
    done = scripts.run(*arguments, f"--similar_to={IDS[8]},{IDS[59]}", f"--output={tmp_path / 'two.jsonl'}")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["item_id"] for line in (tmp_path / "two.jsonl").open()] == [IDS[8], IDS[59]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give either --input=FILES"),
        (["--input=h.jsonl", "--similar_to=0"], "Give either --input=FILES"),
        (["--similar_to=0", "--show=3"], "--show does not go with --similar_to"),
        (["--similar_to=,"], "names no file and no item"),
        (["--similar_to=no such,nor this"], "has none of these 2 ids"),
    ],
)
@pytest.mark.parametrize("world", ["dot"], indirect=True)
def test_what_cannot_be_asked_for_is_refused(world, tmp_path, arguments, message):
    done = scripts.run(SCRIPT, f"--bundle={world[0]}", f"--output={tmp_path / 'o.jsonl'}", *arguments)
    scripts.assert_refused(done, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.long  # `tests/test_package.py` follows the imports
@pytest.mark.parametrize("world", ["dot"], indirect=True)
def test_nothing_of_training_is_loaded(world):
    code = (
        "import sys; from export.retriever import Retriever\n"
        f"Retriever.open({str(world[0])!r}).similar(['0'], 3)\n"
        "print({'causerec_tf', 'keras', 'tf_keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr

"""Vectors out of a bundle and a run, and into other stores."""

import datetime
import json

import numpy as np
import polars as pl
import pytest

import causerec_tf as cr
from export.batch import vector_blocks
from export.batch.vector_files import VectorWriter
from export.index.index_options import IndexOptions
from export.publishing.publication import Model
from export.publishing.publish import publish
from export.publishing.updates import Update, update_index
from export.retriever import Retriever
from export.store.bundle_errors import BundleError
from tests.export import toy
from tests.export.service.shop import DIMENSION, IDS, NAMES, Version
from tests.pipelines import scripts

pytestmark = pytest.mark.usefixtures("trusted_copies")

SCRIPT = "export/vectors.py"
HISTORIES = {"a": [IDS[0], "unknown", IDS[9]], 7: [], "c\nd": ["unknown"], "e": IDS[::-1]}


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    path = tmp_path_factory.mktemp("histories") / "h.jsonl"
    lines = [json.dumps({"user_id": user, "history": history}) for user, history in HISTORIES.items()]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Items of which one was withdrawn, one replaced, one added."""
    place = tmp_path_factory.mktemp("vectors") / "bundle"
    Version(1).publish(place)
    new = np.arange(2 * DIMENSION, dtype=np.float32).reshape(2, DIMENSION) / 10
    update_index(place, Update(upsert_ids=["new", IDS[3]], upsert_vectors=new, delete_ids=[IDS[5]]))
    return place


def expected_items():
    table = {item: row for item, row in zip(IDS, Version(1).table[1:], strict=True) if item != IDS[5]}
    table["new"] = np.arange(DIMENSION, dtype=np.float32) / 10
    table[IDS[3]] = np.arange(DIMENSION, 2 * DIMENSION, dtype=np.float32) / 10
    return table


def test_of_a_bundle(bundle, histories, tmp_path):
    done = scripts.run(
        SCRIPT,
        f"--bundle={bundle}",
        f"--items={tmp_path / 'i.parquet'}",
        f"--users={tmp_path / 'u.parquet'}",
        f"--histories={histories}",
        "--npy",
    )
    assert done.returncode == 0, done.stderr
    items, users = pl.read_parquet(tmp_path / "i.parquet"), pl.read_parquet(tmp_path / "u.parquet")
    assert items.columns == ["item_id", "name", "vector", "norm"]
    wanted = expected_items()
    assert items["item_id"].to_list() == [*IDS[:5], *IDS[6:], "new"]
    assert items["name"].to_list() == [*NAMES[:5], *NAMES[6:], "new"]
    vectors = items["vector"].to_numpy()
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, [wanted[item] for item in items["item_id"]])
    norms = [np.sqrt(sum(float(x) ** 2 for x in vector)) for vector in vectors]
    np.testing.assert_allclose(items["norm"].to_numpy(), norms, rtol=1e-6)
    assert users.columns == ["user_id", "num_known", "vector", "norm"]
    assert users["user_id"].to_list() == ["a", "7", "c\nd", "e"]
    assert users["num_known"].to_list() == [2, 0, 0, 4]
    of_users = users["vector"].to_numpy()
    np.testing.assert_allclose(of_users[0], Version(1).vector(HISTORIES["a"]), rtol=1e-5)
    np.testing.assert_allclose(of_users[3], Version(1).vector(HISTORIES["e"]), rtol=1e-5)
    assert not of_users[1:3].any()
    for name, written in (("i", vectors), ("u", of_users)):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), written)
    assert "2 of them are zero" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"i.parquet", "i.npy", "u.parquet", "u.npy"}
    assert pl.read_parquet_metadata(tmp_path / "i.parquet")["metric"] == "inner product"


def test_attributes_stand_beside_the_vectors(tmp_path):
    bundle = tmp_path / "bundle"
    Version(1).publish(bundle)
    rows = [
        {"id": IDS[9], "colour": "red", "tags": ["p", "q"], "price": 1.5, "new": True, "at": "2026-01-31"},
        {"id": IDS[0], "colour": None, "tags": [], "price": None, "new": None, "at": None},
        {"id": IDS[4], "colour": "blue", "tags": ["q"], "price": -3, "new": False, "at": None},
        {"id": "no item", "colour": "green", "tags": ["r"], "price": 9, "new": True, "at": None},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row | {"name": "x"}) for row in rows))
    done = scripts.run(
        "export/item_attributes.py",
        *(f"--bundle={bundle}", f"--item_table={tmp_path / 't.jsonl'}", "--item_column=id"),
        "--time_columns=at",
    )
    assert done.returncode == 0, done.stderr
    done = scripts.run(SCRIPT, f"--bundle={bundle}", f"--items={tmp_path / 'i.parquet'}")
    assert done.returncode == 0, done.stderr
    items = pl.read_parquet(tmp_path / "i.parquet")
    assert items["item_id"].to_list() == IDS
    assert items["name"].to_list() == NAMES
    of_item = dict(zip(IDS, items.iter_rows(named=True), strict=True))
    wanted = {
        "colour": ["red", None, "blue", None],
        "tags": [["p", "q"], None, ["q"], None],
        "price": [1.5, None, -3.0, None],
        "new": [True, None, False, None],
        "at": [datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC), None, None, None],
        "attribute_name": ["x", "x", "x", None],
    }
    for name, values in wanted.items():
        assert [of_item[item][name] for item in (IDS[9], IDS[0], IDS[4], IDS[1])] == values, name


def test_the_inner_product_is_the_score_and_its_order_the_retrievers(bundle):
    retriever = Retriever.open(bundle)
    [(columns, vectors)] = vector_blocks.item_blocks(retriever.catalogue)
    rows = [vector_blocks.HistoryRow("", "a", HISTORIES["a"])]
    [(_, of_user)] = vector_blocks.user_blocks(retriever._tower, rows)
    scores = vectors @ of_user[0]
    order = np.argsort(-scores)[:10]
    [answer] = retriever.recommend([HISTORIES["a"]], 10, exclude_seen=False)
    assert [columns["item_id"][row] for row in order] == answer.items
    np.testing.assert_allclose(scores[order], answer.scores, rtol=1e-5)


def test_blocks_join_to_one_file(bundle, histories, tmp_path, monkeypatch):
    whole = list(vector_blocks.item_blocks(Retriever.open(bundle).catalogue))
    monkeypatch.setattr(vector_blocks, "ITEMS_TOGETHER", 7)
    path = tmp_path / "i.parquet"
    with VectorWriter(path, overwrite=False, npy=True, about={}) as writer:
        blocks = list(vector_blocks.item_blocks(Retriever.open(bundle).catalogue))
        for columns, vectors in blocks:
            writer.write(columns, vectors)
    assert len(blocks) == 8
    frame = pl.read_parquet(path)
    assert frame["item_id"].to_list() == whole[0][0]["item_id"]
    np.testing.assert_array_equal(frame["vector"].to_numpy(), whole[0][1])
    np.testing.assert_array_equal(np.load(tmp_path / "i.npy"), whole[0][1])


def test_several_vectors_a_user(tmp_path):
    table = toy.embeddings(12, 4)
    tower = toy.MeanTower(4, num_vectors=2)
    ids = toy.item_ids(12)
    model = Model(table, tower, table[1:], ids, 3)
    queries = np.ones((3, 2, 4), np.float32)
    options = IndexOptions(method="exact")
    publish(tmp_path / "b", model, queries=queries, warm_up_histories=[], options=options)
    retriever = Retriever.open(tmp_path / "b")
    rows = [vector_blocks.HistoryRow("", user, history) for user, history in (("a", ids[:2]), ("b", []))]
    [(columns, vectors)] = vector_blocks.user_blocks(retriever._tower, rows)
    assert columns["user_id"] == ["a", "a", "b", "b"]
    assert columns["interest"].tolist() == [0, 1, 0, 1]
    assert columns["num_known"].tolist() == [2, 2, 0, 0]
    assert vectors.shape == (4, 4) and not vectors[2:].any()
    [answer] = retriever.recommend([ids[:2]], 12, exclude_seen=False)
    best = {item: max(vectors[0] @ row, vectors[1] @ row) for item, row in zip(ids, table[1:], strict=True)}
    assert answer.items == sorted(best, key=lambda item: -best[item])


def test_of_a_run(plain_run, tmp_path):
    run = cr.load_run(plain_run)
    done = scripts.run(
        SCRIPT,
        f"--run={run.directory}",
        f"--items={tmp_path / 'i.parquet'}",
        f"--users={tmp_path / 'u.parquet'}",
        "--split=validation",
    )
    assert done.returncode == 0, done.stderr
    items, users = pl.read_parquet(tmp_path / "i.parquet"), pl.read_parquet(tmp_path / "u.parquet")
    theirs = run.item_vectors()
    assert items["item_id"].to_list() == theirs["item_id"].to_list()
    np.testing.assert_allclose(items["vector"].to_numpy(), theirs["vector"].to_numpy(), rtol=1e-6)
    ids, sequences = run.dataset.item_ids(), run.dataset.read("validation")
    histories = {}
    for user, sequence in zip(sequences.user_ids, sequences.rows(), strict=True):
        if len(sequence) > 1:
            history = sequence[: max(1, 8 * len(sequence) // 10)]
            histories[user] = [ids[index - 1] for index in history]
    wanted = run.user_vectors(histories)
    assert users["user_id"].to_list() == list(histories)
    np.testing.assert_allclose(users["vector"].to_numpy(), wanted["vector"].to_numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ([], ["Give either --bundle=DIR or --run=DIR"]),
        (["--bundle=b", "--run=r", "--items=i.parquet"], ["Give either"]),
        (["--bundle=b"], ["Give --items=OUT.parquet"]),
        (["--bundle=b", "--users=u.parquet"], ["--users needs --histories=FILES"]),
        (["--bundle=b", "--items=i.parquet", "--histories=h.jsonl"], ["--histories are of --users"]),
        (["--bundle=b", "--items=i.parquet", "--split=train"], ["--split has no effect here"]),
        (["--bundle=b", "--items=i.csv"], ["'.csv'; vectors are written as .parquet"]),
        (["--bundle=b", "--items=i.parquet"], ["b is not a bundle"]),
        (["--run=r", "--items=i.parquet", "--users=i.parquet"], ["give two files"]),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, arguments, messages):
    scripts.assert_refused(scripts.run(SCRIPT, *arguments, cwd=tmp_path), *messages)
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked_and_nothing_half_written(bundle, tmp_path):
    (tmp_path / "i.npy").write_text("mine")
    arguments = (SCRIPT, f"--bundle={bundle}", f"--items={tmp_path / 'i.parquet'}", "--npy")
    scripts.assert_refused(scripts.run(*arguments), "i.npy exists", "--overwrite")
    with (
        pytest.raises(RuntimeError),
        VectorWriter(tmp_path / "x.parquet", overwrite=False, npy=True, about={}) as writer,
    ):
        writer.write({"item_id": ["a"]}, np.ones((1, 3), np.float32))
        raise RuntimeError
    assert {path.name for path in tmp_path.iterdir()} == {"i.npy"}
    assert scripts.run(*arguments, "--overwrite").returncode == 0
    assert len(np.load(tmp_path / "i.npy")) == len(IDS)
    with pytest.raises(BundleError, match="exists"):
        VectorWriter(tmp_path / "i.parquet", overwrite=False, npy=False, about={})

"""The command as a user runs it, in processes of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from export.publication import Model
from export.publish import publish
from tests.export import toy
from tests.export.model_server import ModelServer, over_grpc

ROOT = Path(__file__).parents[2]
NUM_ITEMS, DIMENSION, MAX_HISTORY = 50, 6, 4
IDS = toy.item_ids(NUM_ITEMS)
TABLE = toy.embeddings(NUM_ITEMS, DIMENSION)
TOWER = toy.MeanTower(DIMENSION)

# Runs the script as `python pipelines/retrieve.py` does, then tells what it had imported.
AND_THEN_LIST_MODULES = """
import runpy, sys
try:
    runpy.run_path("pipelines/retrieve.py", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
roots = {name.split(".")[0] for name in sys.modules}
print("imported:", sorted(roots & {"causerec_tf", "keras", "tf_keras", "tensorflow", "scann"}))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    place = tmp_path_factory.mktemp("retrieve") / "bundle"
    names = [f"Name of {item}" for item in IDS]
    model = Model(TABLE, TOWER, TABLE[1:], IDS, MAX_HISTORY, names)
    queries = np.random.default_rng(0).normal(size=(9, DIMENSION)).astype(np.float32)
    publish(place, model, queries=queries, warm_up_histories=[])
    return place


def run(*arguments, code=None):
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, *(("-c", code) if code else ("pipelines/retrieve.py",)), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def expected(history, k):
    known = [IDS.index(item) + 1 for item in history if item in IDS]
    if not known:
        return IDS[:k]
    last = known[-MAX_HISTORY:]
    vector = np.asarray(TOWER(tf.constant(TABLE[[last]]), tf.ones([1, len(last)], tf.bool)))[0]
    best = np.argsort(-(TABLE[1:] @ vector))
    return [IDS[row] for row in best if row + 1 not in known][:k]


def test_from_json_lines_without_the_training_library_or_keras(bundle, tmp_path):
    histories = {"u1": [IDS[3], "never seen", IDS[9]], "7": [], "u3": IDS[10:30]}
    with (tmp_path / "h.jsonl").open("w") as file:
        for user, history in histories.items():
            file.write(json.dumps({"user_id": user, "history": history}) + "\n")
    output = tmp_path / "out.jsonl"
    done = run(
        f"--bundle={bundle}",
        f"--input={tmp_path}/*.jsonl",
        f"--output={output}",
        "--k=10",
        "--show=2",
        "--explain",
        code=AND_THEN_LIST_MODULES,
    )
    assert done.returncode == 0, done.stderr
    assert "imported: ['scann', 'tensorflow']" in done.stdout
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert {row["user_id"]: row["items"] for row in rows} == {
        user: expected(history, 10) for user, history in histories.items()
    }
    assert [row["num_unknown"] for row in rows] == [1, 0, 0]
    assert [row["fallback"] for row in rows] == [False, True, False]
    assert f"Name of {expected(histories['u1'], 1)[0]}" in done.stdout
    assert "leans most on" in done.stdout
    assert "the most popular items" in done.stdout
    assert "user u3" not in done.stdout
    assert "3 users" in done.stdout
    assert "1 unknown items" in done.stdout


def test_from_parquet_to_parquet_with_categories_by_turns(bundle, tmp_path):
    category = {item: "even" if row % 2 else "odd" for row, item in enumerate(IDS)}
    lines = [f'"{item}",{name}\n' for item, name in category.items()]
    (tmp_path / "categories.csv").write_text("".join(lines))
    frame = pl.DataFrame({"who": [1, 2], "what": [f"{IDS[12]}|{IDS[13]}", None]})
    frame.write_parquet(tmp_path / "h.parquet")
    output = tmp_path / "out.parquet"
    output.write_text("an older file")
    done = run(
        f"--bundle={bundle}",
        f"--input={tmp_path}/h.parquet",
        f"--output={output}",
        f"--k={NUM_ITEMS}",
        "--user_column=who",
        "--history_column=what",
        "--history_separator=|",
        "--noexclude_seen",
        "--overwrite",
        "--diversity=1000",
        f"--item_categories={tmp_path}/categories.csv",
    )
    assert done.returncode == 0, done.stderr
    rows = pl.read_parquet(output).to_dicts()
    assert [row["user_id"] for row in rows] == ["1", "2"]
    assert all(sorted(row["items"]) == sorted(IDS) for row in rows)
    # Two by two: of each pair one is of either category, the better one first.
    of_first = [category[item] for item in rows[0]["items"]]
    assert all(set(pair) == {"even", "odd"} for pair in zip(of_first[::2], of_first[1::2], strict=True))


def test_with_the_tower_on_a_server(bundle, tmp_path):
    histories = {"u1": [IDS[3], "never seen", IDS[9]], "u2": []}
    with (tmp_path / "h.jsonl").open("w") as file:
        for user, history in histories.items():
            file.write(json.dumps({"user_id": user, "history": history}) + "\n")
    output = tmp_path / "out.jsonl"
    files = [f"--bundle={bundle}", f"--input={tmp_path}/h.jsonl", f"--output={output}", "--k=10"]
    with over_grpc(ModelServer(bundle / "user_tower" / "1")) as address:
        done = run(*files, f"--tower_address={address}")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["items"] for row in rows] == [expected(history, 10) for history in histories.values()]
    done = run(*files, f"--tower_address={address}", "--overwrite")  # it has stopped
    assert done.returncode == 1
    assert f"The tower on {address} does not answer: UNAVAILABLE" in done.stderr
    assert len(output.read_text().splitlines()) == 2


GOOD = '{"user_id": "u", "history": ["a"]}\n'


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (GOOD, ["--k=0"], "flag --k=0"),
        (GOOD, ["--k=51"], "it must be from 1 to 50"),
        (GOOD, ["--output={}/taken.jsonl"], "--overwrite to replace it"),
        (GOOD, ["--output={}/out.xml"], ".jsonl or .parquet"),
        (GOOD, ["--input={}/nothing*"], "No file matches"),
        (GOOD, ["--bundle={}"], "is not a bundle"),
        (GOOD, ["--explain"], "--show=N"),
        (GOOD, ["--diversity=1"], "--item_categories; give both"),
        (GOOD, ["--tower_address=nonsense"], "wanted host:port"),
        (GOOD, ["--tok=5"], "Unknown command line flag 'tok'"),
        (GOOD + "oops\n", [], "h.jsonl, line 2: not JSON"),
        ("", [], "holds no history"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(bundle, tmp_path, content, flags, message):
    (tmp_path / "h.jsonl").write_text(content)
    (tmp_path / "taken.jsonl").write_text("precious")
    before = toy.files_of(tmp_path)
    defaults = [
        f"--bundle={bundle}",
        f"--input={tmp_path}/h.jsonl",
        f"--output={tmp_path}/out.jsonl",
        "--k=5",
    ]
    done = run(*defaults, *(flag.format(tmp_path) for flag in flags))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert toy.files_of(tmp_path) == before
    assert (tmp_path / "taken.jsonl").read_text() == "precious"

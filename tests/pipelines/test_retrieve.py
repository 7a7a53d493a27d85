"""The command as a user runs it, in processes of its own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from export.batch.unfinished import unfinished_beside
from export.publishing.publication import Model
from export.publishing.publish import publish
from export.retriever import Retriever
from tests.export import toy
from tests.export.model_server import ModelServer, over_grpc
from tests.pipelines import scripts

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


def run(*arguments):
    return scripts.run("pipelines/retrieve.py", *arguments, cwd=ROOT)


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
    flags = [f"--bundle={bundle}", f"--input={tmp_path}/*.jsonl", f"--output={output}"]
    done = subprocess.run(
        [sys.executable, "-c", AND_THEN_LIST_MODULES, *flags, "--k=10", "--show=2", "--explain"],
        cwd=ROOT,
        env=scripts.environment(),
        capture_output=True,
        text=True,
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
    # One of three has a history without anything known.
    assert "note: many items of these histories are not in the catalogue" in done.stdout


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


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([], id="one"),
        pytest.param(["--jobs=1"], id="shards"),
        pytest.param(["--runner=DirectRunner"], id="beam", marks=pytest.mark.long),
    ],
)
def test_categories_of_none_of_the_items_are_refused_and_those_of_few_get_a_note(bundle, tmp_path, more):
    if "--runner=DirectRunner" in more:
        pytest.importorskip("apache_beam", reason="Apache Beam is not installed")
    (tmp_path / "h.jsonl").write_text(json.dumps({"user_id": "u", "history": IDS[:3]}))
    (tmp_path / "c.csv").write_text(f"item,category\n{IDS[20].upper()},a\n")
    output = tmp_path / ("out/" if more else "out.jsonl")
    flags = [f"--bundle={bundle}", f"--input={tmp_path}/h.jsonl", f"--output={output}{'/' if more else ''}"]
    flags += ["--diversity=1", f"--item_categories={tmp_path}/c.csv", *more]
    scripts.assert_refused(
        run(*flags),
        f"c.csv has a category for none of the 50 items: it has ids such as {IDS[20].upper()!r}, and no line"
        f" for {IDS[20]!r}",
        code=2,
    )
    assert not output.exists()
    (tmp_path / "c.csv").write_text(f"item,category\n{IDS[20]},a\n")
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    assert "c.csv: 1 of 50 items have a category\nnote: these are few; " in done.stdout


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


def write_shards(directory, count, users):
    """Files of histories, and user -> history."""
    histories = {}
    random = np.random.default_rng(1)
    for shard in range(count):
        rows = {f"u{shard}-{user}": random.choice(IDS, 3).tolist() for user in range(users)}
        path = directory / f"day={shard}" / "part.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(
            "".join(json.dumps({"user_id": user, "history": one}) + "\n" for user, one in rows.items())
        )
        histories |= rows
    return histories


def test_a_directory_of_shards_by_two_processes_and_the_same_command_again(bundle, tmp_path):
    histories = write_shards(tmp_path / "in", 3, 5)
    (tmp_path / "in" / "day=1" / "part.jsonl").write_text("")
    flags = [f"--bundle={bundle}", f"--input={tmp_path}/in/*/*.jsonl", f"--output={tmp_path}/out/", "--k=4"]
    done = run(*flags, "--jobs=2")
    assert done.returncode == 0, done.stderr
    shards = sorted((tmp_path / "out").glob("day=*/*"))
    assert [str(path.relative_to(tmp_path / "out")) for path in shards] == [
        f"day={shard}/part.parquet" for shard in range(3)
    ]
    found = {row["user_id"]: row["items"] for path in shards for row in pl.read_parquet(path).to_dicts()}
    wanted = {user: expected(one, 4) for user, one in histories.items() if not user.startswith("u1-")}
    assert found == wanted
    assert pl.read_parquet(shards[1]).is_empty()
    assert "3 shards written" in done.stdout
    assert "10 users (" in done.stdout and "40 recommended items (" in done.stdout
    before = {path: path.stat().st_mtime_ns for path in shards}
    again = run(*flags)
    assert again.returncode == 0, again.stderr
    assert "3 of 3 shards are there already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in shards} == before
    other = run(*flags[:-1], "--k=5")
    assert other.returncode == 2
    assert "begun with k 4, and now it is 5" in other.stderr


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.long)])
def test_what_cannot_be_answered_ends_every_process_and_leaves_nothing(bundle, tmp_path, jobs):
    write_shards(tmp_path / "in", 2, 2)
    for path in (tmp_path / "in").rglob("*.jsonl"):
        path.write_text("oops\n")
    flags = [
        f"--bundle={bundle}",
        f"--input={tmp_path}/in/*/*.jsonl",
        f"--output={tmp_path}/out/",
        f"--jobs={jobs}",
    ]
    done = run(*flags)
    assert done.returncode == 2, done.stderr
    assert "part.jsonl, line 1: not JSON" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_k_beyond_the_catalogue_gives_all_there_is_and_says_so(bundle, tmp_path):
    histories = {"u1": IDS[:3], "u2": IDS[:-1], "u3": []}
    lines = [json.dumps({"user_id": user, "history": one}) + "\n" for user, one in histories.items()]
    (tmp_path / "h.jsonl").write_text("".join(lines))
    flags = [f"--bundle={bundle}", f"--input={tmp_path}/h.jsonl"]

    def answered(output, *more):
        done = run(*flags, f"--output={tmp_path}/{output}", *more)
        assert done.returncode == 0, done.stderr
        path = tmp_path / output
        read = path if path.is_file() else path / "h.jsonl"
        rows = [json.loads(line) for line in read.read_text(encoding="utf-8").splitlines()]
        return [row["items"] for row in rows], done.stdout

    items, said = answered("all.jsonl", "--k=51", "--show=1", "--explain")
    assert items == [expected(history, 51) for history in histories.values()]
    assert [len(one) for one in items] == [47, 1, 50]
    assert "note: 3 of 3 users got fewer than --k=51 items: the catalogue has no more that are not" in said
    assert "share of the top 47 that changes" in said
    # Near the catalogue's size it is the history that shortens a list.
    items, said = answered("shards/", "--k=48", "--format=jsonl", "--jobs=1")
    assert [len(one) for one in items] == [47, 1, 48]
    assert "note: 2 of 3 users got fewer than --k=48 items" in said and "--noexclude_seen" in said
    items, said = answered("kept.jsonl", "--k=50", "--noexclude_seen", "--show=2", "--explain")
    assert [sorted(one) for one in items] == [sorted(IDS)] * 3
    assert "note: " not in said.replace("note: many items of these", "")


@pytest.mark.parametrize("file_format", [pytest.param("parquet", marks=pytest.mark.long), "jsonl"])
def test_by_beam_the_answers_are_those_of_the_local_way(bundle, tmp_path, file_format):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'causerec_tf[beam]'")
    histories = write_shards(tmp_path / "in", 2, 40)
    with (tmp_path / "in" / "day=0" / "part.jsonl").open("a") as file:
        file.write('{"user_id": "u\\u2028", "history": ["never seen"]}\nnot JSON\n')
        file.write(json.dumps({"user_id": "most", "history": IDS[:45]}) + "\n")
    with (tmp_path / "in" / "day=1" / "part.jsonl").open("a") as file:
        file.write("not JSON\n" * 8)
    flags = [f"--bundle={bundle}", f"--input={tmp_path}/in/*/*.jsonl", "--k=7", f"--format={file_format}"]
    flags.append("--on_bad_row=skip")
    local = run(*flags, f"--output={tmp_path}/local/", "--jobs=1")
    assert local.returncode == 0, local.stderr
    by_beam = run(*flags, f"--output={tmp_path}/beam/", "--runner=DirectRunner")
    assert by_beam.returncode == 0, by_beam.stderr

    def rows(folder):
        read = pl.read_parquet if file_format == "parquet" else pl.read_ndjson
        frame = pl.concat(read(path) for path in (tmp_path / folder).rglob(f"*.{file_format}"))
        return {row.pop("user_id"): row for row in frame.to_dicts()}

    found, wanted = rows("beam"), rows("local")
    assert set(found) == set(wanted) == {*histories, "u\u2028", "most"}
    for user, row in found.items():
        assert row["scores"] == pytest.approx(wanted[user].pop("scores"), rel=1e-6)
        del row["scores"]
        assert row == wanted[user]
    assert not [path for path in (tmp_path / "beam").iterdir() if path.suffix != f".{file_format}"]

    assert "part.jsonl, line 42: not JSON" in by_beam.stdout
    assert by_beam.stdout.count("skipped: ") == local.stdout.count("skipped: ") == 5
    assert "9 bad rows skipped" in by_beam.stdout and "82 users (" in by_beam.stdout
    assert "note: 1 of 82 users got fewer than --k=7 items" in by_beam.stdout
    assert ", 572 recommended items (" in by_beam.stdout and ", 1 users answered with" in by_beam.stdout
    if file_format == "parquet":
        done = run(*flags[:-1], f"--output={tmp_path}/not/", "--runner=DirectRunner")
        assert done.returncode == 2, done.stderr
        assert "error: " in done.stderr and "part.jsonl, line 42: not JSON" in done.stderr
        assert not (tmp_path / "not").exists()


def test_by_beam_a_second_job_for_the_same_output_leaves_the_first_its_work(bundle, tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'causerec_tf[beam]'")
    write_shards(tmp_path / "in", 1, 1)
    flags = [f"--bundle={bundle}", f"--input={tmp_path}/in/*/*.jsonl", f"--output={tmp_path}/out/", "--k=5"]
    with unfinished_beside(tmp_path / "out") as work:
        (work / "shard").write_text("of the first")
        scripts.assert_refused(run(*flags, "--runner=DirectRunner"), "Another process is at work on")
        assert (work / "shard").read_text() == "of the first"


def processes_of(word, command=""):
    """Every process whose environment has a word in it, and its command line another."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (("environ", word), ("cmdline", command))
            if entry.name.isdigit() and all(one.encode() in (entry / at).read_bytes() for at, one in words):
                found.add(int(entry.name))
    return found


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="it looks for processes in /proc")
def test_killed_again_and_again_it_leaves_whole_shards_no_process_and_ends_as_if_undisturbed(
    bundle, tmp_path
):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    histories = write_shards(tmp_path / "in", 12, 3_000)
    command = [sys.executable, "pipelines/retrieve.py", f"--bundle={copy}", "--jobs=2", "--k=10"]
    command += [f"--input={tmp_path}/in/*/*.jsonl", f"--output={tmp_path}/out/", "--format=parquet"]
    mark = uuid.uuid4().hex
    environment = os.environ | {"CAUSEREC_TEST": mark}
    random = np.random.default_rng(2)
    kills = 0
    for attempt in range(40):
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            assert process.wait(random.uniform(1.0, 4.0 + attempt)) == 0, process.stderr.read().decode()
            break
        except subprocess.TimeoutExpired:
            # By turns one of those that answer, where there is one yet, and the one that started them.
            answering = sorted(processes_of(mark, "spawn_main")) if attempt % 2 == 0 else []
            with contextlib.suppress(ProcessLookupError):
                os.kill([process.pid, *answering][-1], signal.SIGKILL)
            if process.wait(300) == 0:
                break
            kills += 1
        finally:
            process.kill()
            process.wait()
        limit = time.monotonic() + 300
        while processes_of(mark):
            assert time.monotonic() < limit, "a process stayed behind"
            time.sleep(0.1)
        for path in (tmp_path / "out").glob("*/*.parquet"):
            assert len(pl.read_parquet(path)) == 3_000
        if kills == 2:  # the version in use goes away, were it not held
            names = [path.name for path in (copy / "item_index").iterdir()]
            table = toy.embeddings(NUM_ITEMS, DIMENSION, seed=5)
            queries = np.random.default_rng(0).normal(size=(9, DIMENSION)).astype(np.float32)
            model = Model(table, toy.MeanTower(DIMENSION, seed=5), table[1:], IDS, MAX_HISTORY)
            publish(copy, model, queries=queries, warm_up_histories=[], keep=1)
            assert not any((copy / "item_index" / name).exists() for name in names)
    else:
        pytest.fail("it never came to its end")
    assert kills >= 2
    rows = pl.concat(pl.read_parquet(path) for path in (tmp_path / "out").glob("*/*.parquet"))
    assert len(rows) == len(histories) == 36_000
    assert rows["version"].n_unique() == 1
    sample = rows.sample(200, seed=0).to_dicts()
    if rows["version"][0] == Retriever.open(bundle).version:
        assert all(row["items"] == expected(histories[row["user_id"]], 10) for row in sample)
    assert sorted(path.name for path in (tmp_path / "out" / ".retrieval").iterdir()) == [
        "lock",
        "manifest.json",
    ]


GOOD = '{"user_id": "u", "history": ["a"]}\n'


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (GOOD, ["--k=0"], "flag --k=0"),
        (GOOD, ["--output={}/taken.jsonl"], "--overwrite to replace it"),
        (GOOD, ["--output={0}/h.jsonl", "--overwrite"], "would replace the input"),
        (GOOD, ["--output={0}/../{0.name}/h.jsonl", "--overwrite"], "would replace the input"),
        (GOOD, ["--input={0}/link.jsonl", "--output={0}/h.jsonl", "--overwrite"], "would replace the input"),
        (GOOD, ["--output={}/out.xml"], ".jsonl or .parquet"),
        (GOOD, ["--input={}/nothing*"], "No file matches"),
        (GOOD, ["--bundle={}"], "is not a bundle"),
        (GOOD, ["--explain"], "--show=N"),
        (GOOD, ["--diversity=1"], "--category_column need each other"),
        (GOOD, ["--diversity=inf", "--item_categories=c.csv"], "--diversity=inf: wanted a finite number"),
        (GOOD, ["--show=-1"], "flag --show=-1"),
        (GOOD, ["--input={}"], "is a directory: name its files"),
        (GOOD, ["--tower_address=nonsense"], "wanted host:port"),
        (GOOD, ["--jobs=2"], "is for a directory of shards"),
        (GOOD, ["--output={}/out/", "--show=1"], "does not go with a directory"),
        (GOOD, ["--beam_options=--streaming"], "have no effect with --runner=local"),
        (GOOD, ["--runner=DirectRunner", "--jobs=2"], "--jobs does not go with --runner"),
        (GOOD, ["--runner=DirectRunner", "--output={}"], "is a new or an empty directory"),
        (GOOD, ["--output={}/"], "holds files of something else"),
        (GOOD, ["--tok=5"], "Unknown command line flag 'tok'"),
        (GOOD + "oops\n", [], "h.jsonl, line 2: not JSON"),
        ("", [], "holds no history"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(bundle, tmp_path, content, flags, message):
    (tmp_path / "h.jsonl").write_text(content)
    (tmp_path / "taken.jsonl").write_text("precious")
    (tmp_path / "link.jsonl").symlink_to("h.jsonl")
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
    assert (tmp_path / "h.jsonl").read_text() == content
    assert (tmp_path / "taken.jsonl").read_text() == "precious"

"""The script as a user runs it: outputs, exit codes, errors in plain words."""

import gzip
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests import reference_data
from tests.pipelines import scripts

SCRIPT = pathlib.Path(__file__).parents[2] / "pipelines" / "prepare.py"
DATA = pathlib.Path(os.environ.get("CAUSEREC_DATA", SCRIPT.parents[2] / "shared" / "data"))
LOG = "user_id,item_id,timestamp\n" + "".join(
    f"u{user},i{(user * step) % 17},{step}\n" for user in range(40) for step in range(1, 6)
)


def run(*arguments):
    return scripts.run(SCRIPT, *arguments, timeout=300)


def info_of(directory):
    return json.loads((directory / "dataset.json").read_text(encoding="utf-8"))


@pytest.fixture(name="log")
def fixture_log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_a_log_becomes_a_dataset_and_again_with_the_same_bytes(tmp_path, log):
    names = tmp_path / "names.csv"
    names.write_text("id,title\ni0,Nought\n")
    output = tmp_path / "a"
    flags = [f"--input={log}", f"--item_names={names}", "--num_shards=2", f"--output={output}"]
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    few = "names.csv: 1 of 17 items have a name\nnote: these are few; it has no line for 'i"
    for part in ("200 read, skipped: none", "fingerprint", "40", "17", "1 to 5, as given", few):
        assert part in done.stdout
    info = info_of(output)
    assert info["source"] == {"kind": "log", "files": ["log.csv"], "rows_read": 200, "rows_skipped": {}}
    ids = (output / "items.txt").read_text().split("\n")
    assert (output / "item_names.txt").read_text().split("\n")[ids.index("i0")] == "Nought"

    first = {path.name: path.read_bytes() for path in output.iterdir()}
    done = run(*flags)
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert run(*flags, "--overwrite").returncode == 0
    assert {path.name: path.read_bytes() for path in output.iterdir()} == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "log.csv", "names.csv"]


def test_without_input_a_world_is_generated_and_said_so(tmp_path):
    done = run(f"--output={tmp_path / 'world'}")
    assert done.returncode == 0, done.stderr
    assert "no --input: generating a world" in done.stdout
    info = info_of(tmp_path / "world")
    assert info["num_items"] == 1200
    assert sum(info["counts"]["users"].values()) == 6000
    assert ": " in (tmp_path / "world" / "item_names.txt").read_text()


def test_filters_seed_and_skipped_rows(tmp_path, log):
    log.write_text(LOG + "u1,,9\nu2,i2,soon\nrare,i1,1\nu1,i1,1\nu3,i3,1\nu3,i3,1\n")
    flags = [f"--input={log}", f"--output={tmp_path / 'a'}", "--min_user_count=2", "--split_seed=7"]
    done = run(*flags)
    assert done.returncode == 2
    assert "log.csv, line 202: column 'item_id' is empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    done = run(*flags, "--on_bad_row=skip")
    assert done.returncode == 0, done.stderr
    assert "skipped: 1 with no item id, 1 with no readable time" in done.stdout
    assert "3 with user, item and time of an earlier one" in done.stdout
    info = info_of(tmp_path / "a")
    assert (sum(info["counts"]["users"].values()), info["split_seed"]) == (40, 7)
    assert info["filters"] == {"min_user_count": 2, "min_item_count": 1}


def test_suspicious_ids_are_counted_with_an_example_and_change_nothing(tmp_path, log):
    marred = (
        LOG.replace("u3,", "NULL,").replace(",i1,", ",8.90123E+12,")
        + "u4,i2 ,7\nu5,i3.0,8\n12.0,x,9\n12,x,9\n"
    )
    log.write_text(marred)
    done = run(f"--input={log}", f"--output={tmp_path / 'a'}")
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    rows = marred.count(",8.90123E+12,")
    twin = "looks like another but for blanks or '.0'"
    assert notes == [
        f"note: 1 {text}. Kept as written."
        for text in (
            "user id looks like a missing value, such as 'NULL' (5 rows)",
            f"user id {twin}, such as '12.0' beside '12' (1 row)",
            f"item id {twin}, such as 'i2 ' beside 'i2' (1 row)",
            f"item id looks like a number that a spreadsheet has cut, such as '8.90123E+12' ({rows} rows)",
        )
    ]
    assert len(info_of(tmp_path / "a")["source"]["suspicious_ids"]) == 4
    assert {"i2 ", "i2", "i3.0"} <= set((tmp_path / "a" / "items.txt").read_text().split("\n"))


def test_the_protocol_is_asked_for_by_flags_and_told(tmp_path, log):
    log.write_text(LOG + "u3,new,6\n" + "u1,i1,7\n" * 3)
    flags = [f"--input={log}", f"--output={tmp_path / 'a'}", "--protocol=time", "--test_from=5"]
    done = run(*flags, "--test_target=last", "--validation_from=q.5")
    assert done.returncode == 0, done.stderr
    said = "protocol        time_last, validation from 3 (q.5), test from 5 (5)"
    for part in (
        said,
        "validation              40",
        "all                     40          18           204",
        "evaluated       40 validation, 40 test users",
        "note: 0 test users and 1 items among the targets (1 of them) are not in training.",
    ):
        assert part in done.stdout
    assert info_of(tmp_path / "a")["protocol"]["test_target"] == "last"


def test_published_test_lists_are_read_as_the_training_lists_are(tmp_path):
    (tmp_path / "train.txt").write_text("0 5 6 7 8\n1 5 6\n2 9\n")
    (tmp_path / "test.txt").write_text("1 8\n0 9 6\n3 5\n")
    flags = [f"--input={tmp_path / 'train.txt'}", "--format=item_lists", f"--output={tmp_path / 'a'}"]
    done = run(*flags, "--protocol=given", f"--given_test={tmp_path / 'test.txt'}")
    assert done.returncode == 0, done.stderr
    info = info_of(tmp_path / "a")
    assert (info["source"]["files"], info["source"]["test_files"]) == (["train.txt"], ["test.txt"])
    assert info["counts"]["users"] == {"train": 3, "validation": 1, "test": 3}
    assert info["counts"]["evaluation_users"] == {"validation": 1, "test": 2}
    assert "9 % of the events are returns to an item the user had before" in done.stdout


def test_returns_are_told_of_any_log(tmp_path, log):
    """Each user has one item five times, at different times: no repeat, and four of five events a return."""
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"u{n % 8},i{n % 8},{n}\n" for n in range(40)))
    done = run(f"--input={log}", f"--output={tmp_path / 'a'}")
    assert done.returncode == 0, done.stderr
    assert "returns         80 % of the events are returns to an item the user had before" in done.stdout
    assert "repeats         0 with user, item and time of an earlier one" in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--test_from=3"], "test_from=3 has no effect with protocol=users: it acts with protocol=time"),
        (["--protocol=time"], "protocol=time needs test_from"),
        (["--protocol=given"], "protocol=given needs given_test"),
        (["--protocol=none", "--split_seed=3"], "split_seed=3 has no effect with protocol=none"),
        (["--protocol=none", "--given_test=x.csv"], "given_test=... has no effect with protocol=none"),
        (["--protocol=time", "--test_from=99"], "test_from=99 leaves no event from it on"),
    ],
)
def test_flags_of_the_protocol_without_effect_are_refused(tmp_path, log, flags, said):
    done = run(f"--input={log}", f"--output={tmp_path / 'a'}", *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_help_has_the_protocol_in_a_group_of_its_own():
    done = run("--help")
    assert done.returncode == 0
    assert "given_test" in done.stdout[done.stdout.index("protocol settings") :]


@pytest.mark.parametrize(
    ("users", "advice"), [(2, "take a larger log."), (4, "take a larger log or another --split_seed.")]
)
def test_what_fills_an_empty_split_is_advised(tmp_path, log, users, advice):
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"u{user},i,1\n" for user in range(users)))
    done = run(f"--input={log}", f"--output={tmp_path / 'a'}")
    assert done.returncode == 0, done.stderr
    places = {reference_data.split_and_shard(f"u{user}", 0, 1)[0] for user in range(users)}
    empty = [split for place, split in enumerate(("train", "validation", "test")) if place not in places]
    assert f"note: no user fell into {' and '.join(empty)}: {advice}" in done.stdout


def test_other_times_and_none(tmp_path, log):
    log.write_text("user_id,item_id,timestamp\nu1,a,31/12/2012 10:00\nu1,b,30/12/2012 10:00\n")
    done = run(f"--input={log}", f"--output={tmp_path / 'a'}", "--time_format=%d/%m/%Y %H:%M")
    assert done.returncode == 0, done.stderr
    assert "2012-12-30 10:00:00 to 2012-12-31 10:00:00 UTC" in done.stdout
    log.write_text("user_id,item_id\nu1,a\nu1,b\n")
    done = run(f"--input={log}", f"--output={tmp_path / 'b'}", "--order=file")
    assert done.returncode == 0, done.stderr
    assert "0 to 1, position in the log" in done.stdout
    assert info_of(tmp_path / "b")["time_unit"] == "position in the log"


def test_item_lists_with_original_ids_the_last_events_and_a_share(tmp_path):
    (tmp_path / "train.txt").write_text("".join(f"{user} 0 1 2\n" for user in range(60)))
    (tmp_path / "test.txt").write_text("".join(f"{user} {3 + user % 2}\n" for user in range(60)))
    (tmp_path / "item_list.txt").write_text("org_id remap_id\n" + "".join(f"b{n} {n}\n" for n in range(5)))
    done = run(
        f"--input={tmp_path / 'train.txt'},{tmp_path / 'test.txt'}",
        "--format=item_lists",
        f"--original_item_ids={tmp_path / 'item_list.txt'}",
        "--max_user_count=2",
        "--training_share=0.5",
        f"--output={tmp_path / 'a'}",
    )
    assert done.returncode == 0, done.stderr
    info = info_of(tmp_path / "a")
    assert info["filters"] == {
        "min_user_count": 1,
        "min_item_count": 1,
        "max_user_count": 2,
        "training_share": 0.5,
    }
    places = [reference_data.split_and_shard(str(user), 0, 1)[0] for user in range(60)]
    users = info["counts"]["users"]
    assert (users["validation"], users["test"]) == (places.count(1), places.count(2))
    assert 0 < users["train"] < places.count(0)
    assert sum(info["counts"]["interactions"].values()) == 2 * sum(users.values())
    assert sorted((tmp_path / "a" / "items.txt").read_text().split()) == ["b2", "b3", "b4"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--input=LOG", "--format=comirec", "--user_column=a"],
            "settles the columns. Leave --user_column out",
        ),
        (["--input=LOG", "--format=item_lists"], "line 1: column 1 holds 'user_id,item_id,timestamp'"),
        (["--input=LOG,tfds:movielens/1m-ratings"], "tfds:NAME stands alone"),
        (["--input=LOG", "--training_share=0"], "training_share is 0.0; it must be above 0"),
        (["--input="], "--input is empty: name the log's files, or leave it out"),
        (["--input=none-*.csv"], "no file matches 'none-*.csv'"),
        (["--input=LOG", "--user_column=who"], "no column 'who'. Columns found: 'user_id', 'item_id'"),
        (["--input=LOG", "--min_user_count=6"], "no user is left of 200 interactions"),
        (["--input=LOG", "--min_user_count=0"], "min_user_count"),
        (["--input=LOG", "--columns=user,item"], "must name each of user, item and time once"),
        (["--input=LOG", "--order=file", "--time_column=when"], "--order=file reads no times"),
        (["--input=LOG", "--order=file", "--time_format=%d"], "order=file reads no times"),
        (["--input=LOG", "--format=comirec", "--order=file"], "settles the columns. Leave --order out"),
        (["--input=LOG", "--time_format="], "time_format '' is empty; wanted one such as"),
        (["--input=LOG", "--item_names=none.csv"], "none.csv cannot be read"),
        (["--input=LOG", "--item_names=LOG"], "log.csv has a name for none of the 17 items: it has ids such"),
        (["--input=LOG", "--misspelt=1"], "misspelt"),
        (["--input=LOG", "--format=xml"], "format"),
        (["--input=LOG", "--beam_options=--x=1"], "--beam_options have no effect with --runner=local"),
        (["--runner=DirectRunner"], "--runner=DirectRunner needs a log"),
        (
            ["--input=LOG", "--format=item_lists", "--runner=DirectRunner"],
            "--format=item_lists does not go with --runner=DirectRunner. Say --runner=local",
        ),
        (["--input=tfds:movielens/1m-ratings", "--runner=FlinkRunner"], "tfds:NAME does not go with"),
        (
            ["--input=LOG", "--original_item_ids=a", "--runner=DirectRunner"],
            "--original_item_ids does not go",
        ),
        (["--input=LOG", "stray"], "unexpected argument 'stray'"),
    ],
)
def test_bad_input_ends_with_two_and_plain_words(tmp_path, log, flags, message):
    flags = [flag.replace("LOG", str(log)) for flag in flags]
    done = run(*flags, f"--output={tmp_path / 'a'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_no_output_is_named():
    done = run()
    assert done.returncode == 2
    assert "--output" in done.stderr


@pytest.mark.long
def test_a_polite_kill_while_writing_leaves_nothing(tmp_path):
    lines = (f"u{n % 60_000},i{n % 997},{n}\n" for n in range(600_000))
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "".join(lines))
    (tmp_path / "out").mkdir()
    command = [sys.executable, str(SCRIPT), f"--input={log}", f"--output={tmp_path / 'out' / 'a'}"]
    process = subprocess.Popen([*command, "--num_shards=64"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "out").glob(".a.unfinished/new/*.tfrecord*")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 143
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("file_format", ["amazon_reviews", "comirec"])
def test_published_formats_by_beam_give_the_same_files(tmp_path, file_format):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'causerec_tf[beam]'")
    rows = [(f"u{n % 60}", f"i{n * n % 23}", n % 400) for n in range(900)]
    keys = ("reviewerID", "asin", "unixReviewTime")
    lines = [json.dumps(dict(zip(keys, row, strict=True)) | {"overall": 5.0}) for row in rows]
    if file_format == "comirec":
        lines = [",".join(map(str, row)) for row in rows]
    text = "".join(line + "\n" for line in lines).encode()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text[: text.index(b"\n") * 300]))
    (tmp_path / "b.txt").write_bytes(text)
    files = {}
    for runner in ("local", "DirectRunner"):
        done = run(
            f"--input={tmp_path / 'a.json.gz'},{tmp_path / 'b.txt'}",
            f"--format={file_format}",
            f"--runner={runner}",
            "--on_bad_row=skip",
            "--min_item_count=5",
            "--max_user_count=9",
            "--training_share=0.5",
            f"--output={tmp_path / runner}",
        )
        assert done.returncode == 0, done.stderr
        files[runner] = {path.name: path.read_bytes() for path in (tmp_path / runner).iterdir()}
    assert files["local"] == files["DirectRunner"]


@pytest.mark.long
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; name it with CAUSEREC_DATA")
def test_movielens_goes_through_by_flags_alone(tmp_path):
    done = run(
        f"--input={DATA / 'ml100k' / 'ml-100k.inter.gz'}",
        "--format=tsv",
        "--user_column=user_id:token",
        "--item_column=item_id:token",
        "--time_column=timestamp:float",
        f"--item_names={DATA / 'ml100k' / 'items.tsv.gz'}",
        f"--output={tmp_path / 'ml100k'}",
    )
    assert done.returncode == 0, done.stderr
    counts = info_of(tmp_path / "ml100k")["counts"]
    assert sum(counts["users"].values()) == 943
    assert sum(counts["interactions"].values()) == 100_000
    assert "Star Wars" in (tmp_path / "ml100k" / "item_names.txt").read_text().split("\n")[:5]


@pytest.mark.long
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; name it with CAUSEREC_DATA")
def test_yelp_has_its_published_counts(tmp_path):
    done = run(
        f"--input={DATA / 'yelp2018' / 'interactions.tsv.gz'}",
        "--columns=user,item,time",
        f"--output={tmp_path / 'yelp2018'}",
    )
    assert done.returncode == 0, done.stderr
    counts = info_of(tmp_path / "yelp2018")["counts"]
    assert sum(counts["users"].values()) == 31_668
    assert sum(counts["interactions"].values()) == 1_561_406


def test_a_schema_and_its_tables(tmp_path, log):
    schema = tmp_path / "schema.toml"
    schema.write_text(
        '[[column]]\nname = "brand"\nowner = "item"\nkind = "categorical"\n'
        '[[column]]\nname = "age"\nowner = "user"\nkind = "numeric"\n'
    )
    rows = "".join(f"i{one},b{one % 3}\n" for one in range(20))
    (tmp_path / "items.csv").write_text("sku,brand\n" + rows)
    (tmp_path / "users.csv").write_text("user_id,age\nu1,30\nu2,old\n")
    flags = [f"--input={log}", f"--output={tmp_path / 'a'}", f"--schema={schema}", "--item_table_id=sku"]
    flags += [f"--item_table={tmp_path / 'items.csv'}", f"--user_table={tmp_path / 'users.csv'}"]
    done = run(*flags)
    assert done.returncode == 2
    assert "users.csv, line 3: column 'age' holds 'old'. user/age is numeric: wanted a number" in done.stderr
    assert not (tmp_path / "a").exists()
    done = run(*flags, "--on_bad_row=skip")
    assert done.returncode == 0, done.stderr
    for part in (
        "features        item: brand (categorical); user: age (numeric)",
        "item table      20 rows; 17 of 17 items have one, 3 are of no item of the log",
        "user table      2 rows; 2 of 40 users have one, 0 are of no user of the log",
        "; values that cannot be read and count as missing: 1 of user/age",
    ):
        assert part in done.stdout
    brands = (tmp_path / "a" / "features" / "item.brand.txt").read_text().split()
    assert sorted(brands) == ["b0", "b1", "b2"]
    done = run("--generated_features", f"--input={log}", f"--output={tmp_path / 'b'}")
    assert done.returncode == 2 and "--generated_features with --input" in done.stderr
    done = run(f"--input={log}", f"--output={tmp_path / 'b'}", f"--item_table={tmp_path / 'items.csv'}")
    assert done.returncode == 2 and "item_table has no effect" in done.stderr

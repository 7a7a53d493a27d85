"""The script as a user runs it: the histories are the sequences of the dataset, as retrieval reads them."""

import random

import polars as pl
import pytest

from causerec_tf.data.sequences import SPLITS, open_dataset
from export.batch.history_files import Columns, read_histories
from tests import reference_data
from tests.pipelines import scripts

SCRIPT = "pipelines/histories.py"
COLUMNS = ["--user_column=who", "--item_column=what", "--time_column=when"]


@pytest.fixture(name="log")
def fixture_log(tmp_path):
    """Ties, repeats and ids of all kinds, in two files; a glob of them."""
    (tmp_path / "log").mkdir()
    rows = reference_data.odd_rows(random.Random(4))
    for name, part in (("a.csv", rows[::2]), ("b.csv", rows[1::2])):
        frame = pl.DataFrame(part, schema=["who", "what", "when"], orient="row")
        frame.write_csv(tmp_path / "log" / name, quote_style="always")
    return str(tmp_path / "log" / "*.csv")


def read(path):
    rows = read_histories([path], Columns())
    return {row.user_id: row.history for row in rows}


def sequences_of(directory):
    dataset = open_dataset(directory)
    ids = dataset.item_ids()
    found = {}
    for split in SPLITS:
        users = dataset.read(split)
        for user, items in zip(users.user_ids, users.rows(), strict=True):
            found[user] = [ids[item - 1] for item in items]
    return found


def test_a_history_is_the_sequence_of_the_dataset(tmp_path, log):
    done = scripts.run("pipelines/prepare.py", f"--input={log}", *COLUMNS, f"--output={tmp_path / 'shop'}")
    assert done.returncode == 0, done.stderr
    sequences = sequences_of(tmp_path / "shop")
    assert max(map(len, sequences.values())) > 20
    for name in ("new/histories.jsonl", "histories.parquet"):
        done = scripts.run(SCRIPT, f"--input={log}", *COLUMNS, f"--output={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        assert read(tmp_path / name) == sequences
        events = sum(map(len, sequences.values()))
        for part in (
            f"{events} read, skipped: none",
            "-3 to 6, as given",
            f"\nusers           {len(sequences)}\n",
        ):
            assert part in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["histories.parquet", "log", "new", "shop"]


def test_the_last_items_of_some_users_and_rows_that_are_skipped(tmp_path):
    log, users, output = tmp_path / "log.tsv", tmp_path / "users.txt", tmp_path / "histories.jsonl"
    log.write_text("b\tx\t3\nb\ty\t1\nb\tz\t2\na\tx\t1\nc\tx\tsoon\n")
    users.write_text("b\nnew\n")
    output.write_text("before")
    done = scripts.run(
        SCRIPT,
        f"--input={log}",
        "--columns=user,item,time",
        "--on_bad_row=skip",
        "--max_history=2",
        f"--users={users}",
        f"--output={output}",
        "--overwrite",
    )
    assert done.returncode == 0, done.stderr
    assert read(output) == {"b": ["z", "x"], "new": []}
    assert "5 read, skipped: 1 with no readable time" in done.stdout
    assert "users           2, 1 of them without any item in the log" in done.stdout


def test_marked_parts_of_a_spark_job_with_suspicious_ids_and_times_of_bigquery(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    for name in ("_SUCCESS", "part-0.csv"):
        (folder / name).write_text("")
    lines = [
        "u1,b,2024-05-06 07:08:10.5 UTC",
        "u1,\\N,2024-05-06 07:08:09 UTC",
        "u1,a,2024-05-06 07:08:09 UTC",
    ]
    (folder / "part-1.csv").write_text("\ufeffuser_id,item_id,timestamp\n\ufeff" + "\n\ufeff".join(lines))
    done = scripts.run(SCRIPT, f"--input={folder}/*", f"--output={tmp_path / 'h.jsonl'}")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "h.jsonl") == {"u1": ["\\N", "a", "b"]}
    assert done.stdout.endswith(
        "note: 1 item id looks like a missing value, such as '\\\\N' (1 row). Kept as written.\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--output=h.jsonl", "--input"),
        ("--input= --output=h.jsonl", "--input is empty: name the log's files"),
        ("--input=log.jsonl", "--output"),
        ("--input=log.jsonl --output=h.csv", "ends in '.csv'; histories are written to .jsonl or .parquet"),
        ("--input=log.jsonl --output=log.jsonl", "exists: choose another --output, or add --overwrite"),
        ("--input=*.jsonl --output=log.jsonl --overwrite", "log.jsonl would replace a file that is read"),
        ("--input=log.jsonl --output=d.jsonl --overwrite", "d.jsonl is a directory"),
        ("--input=log.jsonl --output=log.jsonl/h.jsonl", "log.jsonl is a file. Choose another --output"),
        ("--input=log.jsonl --output=h.jsonl --users=none.txt", "none.txt cannot be read"),
        ("--input=log.jsonl --output=h.jsonl --max_history=0", "max_history"),
        ("--input=log.jsonl --output=h.jsonl --item_column=sku", "no column 'sku'"),
    ],
)
def test_bad_input_ends_with_two_and_plain_words(tmp_path, flags, message):
    (tmp_path / "log.jsonl").write_text('{"user_id": 1, "item_id": 2, "timestamp": 3}\n')
    (tmp_path / "d.jsonl").mkdir()
    done = scripts.run(SCRIPT, *flags.split(), cwd=tmp_path)
    scripts.assert_refused(done, message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl", "log.jsonl"]

"""The script that writes a first schema: what it guesses of values, and that preparation takes it."""

import json

import polars as pl
import pytest

import causerec_tf as cr
from causerec_tf.data.columns.schema_guess import guess_columns
from causerec_tf.schema import read_schema
from tests.pipelines import scripts

SCRIPT = "pipelines/guess_schema.py"
ROWS = 400


def numbers(function):
    return [function(number) for number in range(ROWS)]


COLUMNS = {
    "brand": (numbers(lambda n: f"b{n % 9}"), "categorical", {}),
    "flag": (numbers(lambda n: n % 2), "categorical", {}),
    "is new": (numbers(lambda n: n % 2 == 0), "categorical", {}),
    "code": (numbers(lambda n: f"00{n % 40}"), "categorical", {}),
    "price": (numbers(lambda n: f"{n}.50" if n % 3 else ""), "numeric", {}),
    "stock": (numbers(lambda n: n), "numeric", {}),
    "genres": (numbers(lambda n: f"g{n % 7}|g{n % 5}|h{n % 3}"), "multi", {"separator": "|", "length": 3}),
    "words": (numbers(lambda n: f"w{n % 7} x{n % 5} y{n % 3}"), "multi", {"separator": " ", "length": 3}),
    "tags": (numbers(lambda n: [f"t{n % 7}"] * (n % 3)), "multi", {"length": 2}),
    "json": (numbers(lambda n: json.dumps([f"t{n % 7}", "all"])), "multi", {"length": 2}),
    "title": (numbers(lambda n: f"The {n} blue kettles of no. {n * 7}"), "text", {}),
    "vector": (numbers(lambda n: [0.5 * n, 1.0, 2.0]), "embedding", {"size": 3}),
    "written": (numbers(lambda n: f"{n / 8} -1.5 2e-3 4"), "embedding", {"size": 4}),
    "serial": (numbers(lambda n: f"x{n}"), None, {}),
    "made": (numbers(lambda n: f"2024-01-{n % 28 + 1:02d}"), None, {}),
    "nothing": ([None] * ROWS, None, {}),
    "same": (["a"] * ROWS, None, {}),
}


@pytest.mark.parametrize("source", COLUMNS)
def test_kinds_are_told_by_the_values(source):
    values, kind, entries = COLUMNS[source]
    table = pl.DataFrame({"id": range(ROWS), source: values})
    (guess,) = guess_columns("item", table, ["id"])
    assert (guess.column.kind if guess.column else None) == kind, guess
    assert {name: getattr(guess.column, name) for name in entries} == entries
    if kind:
        assert guess.column.source == source
    assert guess.why


def test_names_are_made_of_what_stands_in_the_files():
    table = pl.DataFrame(
        {name: ["a", "b"] * 10 for name in ("release year:token", "1st", "release-year", "ü")}
    )
    names = [guess.column.name for guess in guess_columns("item", table, [])]
    assert names == ["release_year", "column_1st", "release_year_2", "column"]


def test_the_script_writes_a_schema_that_preparation_takes(tmp_path):
    items = pl.DataFrame({"item_id": range(ROWS)} | {name: values for name, (values, *_) in COLUMNS.items()})
    items.write_ndjson(tmp_path / "items.jsonl")
    users = pl.DataFrame({"id": range(100), "age": [20 + number % 50 for number in range(100)]})
    users.write_csv(tmp_path / "users.csv")
    log = pl.DataFrame(
        {
            "user_id": numbers(lambda n: n % 100),
            "item_id": range(ROWS),
            "timestamp": range(ROWS),
            "rating": numbers(lambda n: n % 5),
            "note": numbers(lambda n: f"some longer words of {n}"),
        }
    )
    log.write_csv(tmp_path / "log.csv")
    flags = [
        f"--input={tmp_path / 'log.csv'}",
        f"--item_table={tmp_path / 'items.jsonl'}",
        f"--user_table={tmp_path / 'users.csv'}",
        "--user_table_id=id",
        f"--output={tmp_path / 'schema.toml'}",
    ]
    done = scripts.run(SCRIPT, *flags)
    assert done.returncode == 0, done.stderr
    assert "events have categorical and numeric columns" in done.stdout
    schema = read_schema(tmp_path / "schema.toml")
    kinds = {column.key: column.kind for column in schema.columns}
    assert kinds["user/age"] == kinds["event/rating"] == "numeric"
    assert {name for name, (_, kind, _) in COLUMNS.items() if kind} == {
        column.source for column in schema.of("item")
    }
    made = cr.prepare(
        tmp_path / "log.csv",
        tmp_path / "made",
        schema=tmp_path / "schema.toml",
        item_table=tmp_path / "items.jsonl",
        user_table=tmp_path / "users.csv",
        user_table_id="id",
    )
    assert made.item_features()["genres"].shape == (ROWS + 1, 3)
    done = scripts.run(SCRIPT, *flags)
    assert done.returncode == 2 and "schema.toml exists: choose another --output" in done.stderr


def test_what_cannot_be_looked_at_is_said(tmp_path):
    (tmp_path / "items.csv").write_text("sku,brand\n1,a\n")
    (tmp_path / "none.csv").write_text("item_id,brand\n")
    output = f"--output={tmp_path / 'schema.toml'}"
    for flags, message in (
        ([], "there is nothing to look at"),
        ([f"--item_table={tmp_path / 'items.csv'}"], "no column 'item_id'. Columns found: 'sku', 'brand'"),
        ([f"--item_table={tmp_path / 'none.csv'}"], "no rows to look at"),
        ([f"--input={tmp_path / 'items.csv'}"], "the log has no column 'user_id'"),
    ):
        done = scripts.run(SCRIPT, *flags, output)
        assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "schema.toml").exists()

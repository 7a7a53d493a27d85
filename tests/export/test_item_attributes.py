"""The scripts around filters: attributes into a bundle, recommendations with filters out of it."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from export.publishing.publication import Model
from export.publishing.publish import publish
from tests.export import toy
from tests.pipelines import scripts

ROOT = Path(__file__).parents[2]
NUM_ITEMS, DIMENSION = 40, 6
IDS = [f"item-{number}" for number in range(NUM_ITEMS)]
TABLE = toy.embeddings(NUM_ITEMS, DIMENSION)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A bundle with attributes, written from a table; and histories, every user with a filter of his own."""
    place = tmp_path_factory.mktemp("filters")
    model = Model(TABLE, toy.MeanTower(DIMENSION), TABLE[1:], IDS, 4, None)
    queries = np.random.default_rng(0).normal(size=(9, DIMENSION)).astype(np.float32)
    publish(place / "bundle", model, queries=queries, warm_up_histories=[])
    rows = [{"sku": item, "price": n % 10, "tags": "x|y" if n % 2 else "x"} for n, item in enumerate(IDS)]
    pl.DataFrame([*rows[5:], {"sku": "elsewhere", "price": 1, "tags": "z"}]).write_csv(place / "items.csv")
    filters = [{"price": {"lt": 5}}, {}, {"tags": "y"}]
    lines = [{"user_id": f"u{n}", "history": [IDS[n]], "only": one} for n, one in enumerate(filters)]
    (place / "histories.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return place


def flags_of_table(place, **changes):
    flags = {"bundle": place / "bundle", "item_table": place / "items.csv", "item_column": "sku"} | changes
    return [f"--{name}={value}" for name, value in flags.items()]


def test_a_table_becomes_attributes_that_batch_reads(place, tmp_path):
    done = scripts.run("export/item_attributes.py", *flags_of_table(place), "--multi_columns=tags", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "price: numeric" in done.stdout and "tags: multi" in done.stdout
    assert "35 of 40 items of the catalogue have attributes; 1 items of the table are" in done.stdout
    assert f"{place}/bundle/item_attributes/1 is used by every version" in done.stdout
    (place / "bundle" / "unavailable.txt").write_text("item-6\n")
    (tmp_path / "deny.txt").write_text("item-8\nitem-5\n")
    (tmp_path / "allow.txt").write_text("".join(f"{item}\n" for item in IDS[:30]))
    output = tmp_path / "top.jsonl"
    done = scripts.run(
        "pipelines/retrieve.py",
        f"--bundle={place}/bundle",
        f"--input={place}/histories.jsonl",
        f"--output={output}",
        '--filter={"price": {"ge": 2}}',
        "--filter_column=only",
        f"--allow={tmp_path}/allow.txt",
        f"--deny={tmp_path}/deny.txt",
        "--k=50",
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    answers = {row["user_id"]: row for row in map(json.loads, output.read_text().splitlines())}
    held = [n for n in range(5, 30) if n % 10 >= 2 and n not in (5, 6, 8)]
    wanted = {"u0": [n for n in held if n % 10 < 5], "u1": held, "u2": [n for n in held if n % 2]}
    for user, numbers in wanted.items():
        assert sorted(answers[user]["items"]) == sorted(IDS[n] for n in numbers), user
        assert answers[user]["scores"] == sorted(answers[user]["scores"], reverse=True)
        assert answers[user]["plan"] == "exact"


@pytest.mark.parametrize(
    ("script", "flag", "message"),
    [
        ("table", "--item_column=price", "item 11: '5' is there twice"),
        ("table", "--columns=colour", "has no column 'colour'; it has 'sku', 'price', 'tags'"),
        ("table", "--multi_separator=", "--multi_separator is empty"),
        ("retrieve", "--filter=price<3", "The filter 'price<3' is not JSON"),
        ("retrieve", '--filter={"colour": "red"}', "The items have no attribute 'colour'"),
        ("retrieve", "--filter_column=none", "wanted an object with 'none'"),
        ("retrieve", "--allow=none.txt", "none.txt cannot be read"),
    ],
)
def test_what_cannot_be_used_is_told(place, tmp_path, script, flag, message):
    if script == "table":
        done = scripts.run("export/item_attributes.py", *flags_of_table(place), flag, cwd=ROOT)
    else:
        flags = [f"--bundle={place}/bundle", f"--input={place}/histories.jsonl"]
        done = scripts.run("pipelines/retrieve.py", *flags, f"--output={tmp_path}/o.jsonl", flag, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr

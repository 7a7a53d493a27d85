"""Tables of items: read, fitted on training events, stored, and read back; held to a slow twin."""

import gzip
import json
import math
import re
from collections import Counter

import numpy as np
import polars as pl
import pytest

import causerec_tf as cr
from causerec_tf.data.sequences import open_dataset
from causerec_tf.errors import InputError

rng = np.random.default_rng(11)
USERS = np.repeat(np.arange(60), 6)
LOG = pl.DataFrame(
    {
        "user_id": USERS,
        "item_id": rng.integers(20, size=len(USERS)).tolist(),
        "timestamp": np.tile(np.arange(6), 60),
    }
).with_columns(pl.format("i{}", "item_id").alias("item_id"))
# Items 0 to 17 have a row; 18 and 19 have none, and 30 is of no item of the log.
NUMBERS = [*range(18), 30]
ROWS = [
    {
        "item_id": f"i{number}",
        "brand": None if number == 4 else ["Ä", "b", "a", "zz"][number % 4],
        "tags": None if number == 5 else [f"t{number % 3}", f"t{number % 5}", "all", f"t{number % 3}"],
        "price": None if number == 6 else 2.5 * number,
        "title": "" if number == 7 else f"Blue-Kettle №{number}, the BLUE one: Ñandú & Größe",
        "vector": None if number == 8 else [number / 4, -1.0, 0.5],
    }
    for number in NUMBERS
]
SCHEMA = [
    {"name": "brand", "owner": "item", "kind": "categorical", "size": 3},
    {"name": "labels", "owner": "item", "kind": "multi", "column": "tags", "length": 3, "size": 4},
    {"name": "price", "owner": "item", "kind": "numeric"},
    {"name": "title", "owner": "item", "kind": "text", "size": 50, "length": 5},
    {"name": "vector", "owner": "item", "kind": "embedding", "size": 3},
]


def write_table(folder, kind, rows=ROWS):
    path = folder / f"items.{kind}"
    if kind == "parquet":
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
        return path
    if kind.startswith("jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        mark = "," if kind.startswith("csv") else "\t"
        lines = [mark.join(rows[0])]
        for row in rows:
            cells = [
                "" if value is None else "|".join(map(str, value)) if isinstance(value, list) else str(value)
                for value in row.values()
            ]
            lines.append(mark.join(f'"{cell}"' if "," in cell and mark == "," else cell for cell in cells))
        text = "\n".join(lines) + "\n"
    raw = text.encode("utf-8")
    path.write_bytes(gzip.compress(raw) if kind.endswith(".gz") else raw)
    return path


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    table = pl.DataFrame(ROWS, infer_schema_length=None)
    return cr.prepare(LOG, folder / "world", num_shards=2, schema=SCHEMA, item_table=table)


def training_counts(dataset):
    """How many training events each item has, by its id."""
    ids = dataset.item_ids()
    return Counter(ids[item - 1] for item in dataset.read("train").items)


def ranked(values, size):
    return sorted(values, key=lambda value: (-values[value], value.encode()))[:size]


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_whatever_holds_the_table_gives_the_same_values(dataset, tmp_path, kind):
    path = write_table(tmp_path, kind)
    made = cr.prepare(LOG, tmp_path / "made", num_shards=2, schema=SCHEMA, item_table=path)
    assert made.fingerprint == dataset.fingerprint
    made.verify()


def test_the_values_are_those_of_a_twin(dataset):
    counts, rows = training_counts(dataset), {row["item_id"]: row for row in ROWS}
    brands, tags = Counter(), Counter()
    for item, count in counts.items():
        row = rows.get(item, {})
        if row.get("brand"):
            brands[row["brand"]] += count
        for tag in list(dict.fromkeys(row.get("tags") or []))[:3]:
            tags[tag] += count
    brands, tags = ranked(brands, 3), ranked(tags, 4)
    fitted = {one.column.name: one for one in dataset.fitted_columns("item")}
    assert fitted["brand"].vocabulary.read_text(encoding="utf-8").splitlines() == brands
    assert fitted["labels"].vocabulary.read_text(encoding="utf-8").splitlines() == tags
    assert (fitted["brand"].num_values, fitted["labels"].num_values) == (3, 4)

    prices = [
        rows[item]["price"]
        for item, count in counts.items()
        if rows.get(item, {}).get("price") is not None
        for _ in range(count)
    ]
    mean = math.fsum(prices) / len(prices)
    std = math.sqrt(math.fsum((price - mean) ** 2 for price in prices) / len(prices))
    assert fitted["price"].mean == pytest.approx(mean, rel=1e-12)
    assert fitted["price"].std == pytest.approx(std, rel=1e-12)

    found = dataset.item_features()
    assert {name: (value.dtype, value.shape) for name, value in found.items()} == {
        "brand": (np.int32, (21,)),
        "labels": (np.int32, (21, 3)),
        "price": (np.float32, (21,)),
        "title": (np.int32, (21, 5)),
        "vector": (np.float32, (21, 3)),
    }
    for index, item in enumerate(["", *dataset.item_ids()]):
        row = rows.get(item, {})
        brand = row.get("brand")
        assert found["brand"][index] == (
            0 if not brand else brands.index(brand) + 2 if brand in brands else 1
        )
        distinct = list(dict.fromkeys(row.get("tags") or []))[:3]
        wanted = list(dict.fromkeys(tags.index(tag) + 2 if tag in tags else 1 for tag in distinct))
        assert found["labels"][index].tolist() == wanted + [0] * (3 - len(wanted))
        price = row.get("price")
        np.testing.assert_array_equal(found["price"][index], np.float32(np.nan if price is None else price))
        assert found["vector"][index].tolist() == (row.get("vector") or [0, 0, 0])


def test_text_is_small_words_hashed_distinct_and_cut(dataset):
    import tensorflow as tf

    found, rows = dataset.item_features()["title"], {row["item_id"]: row for row in ROWS}
    for index, item in enumerate(dataset.item_ids(), start=1):
        # `\w` without `_` is letters and digits, and the sign for "number" is neither.
        words = re.findall(r"[^\W_]+", rows.get(item, {}).get("title", "").lower())
        hashed = [int(tf.strings.to_hash_bucket_fast(word, 50)) + 1 for word in words]
        wanted = list(dict.fromkeys(hashed))[:5]
        assert found[index].tolist() == wanted + [0] * (5 - len(wanted))


def test_nothing_of_validation_and_test_is_fitted(dataset, tmp_path):
    trained = set(training_counts(dataset))
    in_training = set(dataset.read("train").user_ids)
    # An item that held-out users alone touch, with a value and a price of its own.
    held_out = LOG.filter(~pl.col("user_id").cast(pl.String).is_in(list(in_training)))
    first = held_out.row(0, named=True) | {"item_id": "i31", "timestamp": 99}
    more = pl.concat([LOG, pl.DataFrame([first], schema=LOG.schema)])
    rows = [*ROWS, ROWS[0] | {"item_id": "i31", "brand": "held out", "tags": ["held"], "price": 1e6}]
    made = cr.prepare(
        more,
        tmp_path / "made",
        num_shards=2,
        schema=SCHEMA,
        item_table=pl.DataFrame(rows, infer_schema_length=None),
    )
    assert "i31" in made.item_ids() and "i31" not in trained
    for one, before in zip(made.fitted_columns("item"), dataset.fitted_columns("item"), strict=True):
        assert (one.mean, one.std, one.num_values) == (before.mean, before.std, before.num_values)
        if one.vocabulary:
            assert one.vocabulary.read_bytes() == before.vocabulary.read_bytes()
    assert made.item_features()["brand"][made.item_ids().index("i31") + 1] == 1


def test_what_the_dataset_says_of_schema_and_table(dataset):
    info = dataset.info
    assert info["format_version"] == 3
    assert info["source"]["tables"] == {
        "item": {"rows": 19, "ids": 20, "without_row": 2, "not_in_log": 1, "files": []}
    }
    assert [one["fitted"].keys() for one in info["schema"]] == [
        {"num_values"}, {"num_values"}, {"mean", "std"}, set(), set(),
    ]  # fmt: skip
    assert [file["file"] for file in info["files"]] == [
        "items.txt", "features/item.brand.txt", "features/item.labels.txt", "item_features.parquet",
    ]  # fmt: skip
    assert dataset.schema == open_dataset(dataset.directory).schema
    assert [column.name for column in dataset.schema.of("item")] == [entry["name"] for entry in SCHEMA]
    stored = pl.read_parquet(dataset.directory / "item_features.parquet")
    assert stored.schema == {
        "brand": pl.Int32,
        "labels": pl.List(pl.Int32),
        "price": pl.Float32,
        "title": pl.List(pl.Int32),
        "vector": pl.List(pl.Float32),
    }
    assert stored["price"].null_count() == 3


def test_a_schema_changes_the_fingerprint_and_nothing_else(dataset, tmp_path):
    plain = cr.prepare(LOG, tmp_path / "plain", num_shards=2)
    assert plain.fingerprint != dataset.fingerprint
    assert plain.info["format_version"] == 1 and not plain.schema and plain.item_features() == {}
    for name in ["items.txt", *(shard["file"] for shard in plain.info["shards"]["train"])]:
        assert (plain.directory / name).read_bytes() == (dataset.directory / name).read_bytes()
    other = [SCHEMA[0] | {"missing": "none"}]
    made = [
        cr.prepare(
            LOG, tmp_path / str(place), num_shards=2, schema=columns, item_table=pl.DataFrame(ROWS[:4])
        )
        for place, columns in enumerate(([SCHEMA[0]], other))
    ]
    assert made[0].fingerprint != made[1].fingerprint
    assert set(made[1].item_features()["brand"][1:].tolist()) & {0} == set()
    assert 0 in made[0].item_features()["brand"][1:]


def test_a_changed_file_is_found(dataset, tmp_path):
    made = cr.prepare(
        LOG, tmp_path / "made", schema=SCHEMA, item_table=pl.DataFrame(ROWS, infer_schema_length=None)
    )
    table = made.directory / "item_features.parquet"
    whole = table.read_bytes()
    for content, message in ((whole[:-9], "is damaged"), (b"x" * len(whole), "is damaged")):
        table.write_bytes(content)
        with pytest.raises(InputError, match=message):
            made.item_features()
    pl.read_parquet(whole).head(3).write_parquet(table)
    with pytest.raises(InputError, match="is damaged: got 3 rows, wanted 20"):
        made.item_features()
    table.write_bytes(whole)
    path = made.directory / "features" / "item.brand.txt"
    path.write_bytes(path.read_bytes().replace(b"b", b"c"))
    with pytest.raises(InputError, match=r"item\.brand\.txt is damaged: its checksum"):
        open_dataset(made.directory).verify()


def table(**columns):
    return pl.DataFrame({"item_id": ["i1", "i2"]} | columns)


BRAND, TAGS, PRICE, TITLE, VECTOR = SCHEMA


@pytest.mark.parametrize(
    ("column", "rows", "message"),
    [
        (BRAND, {"maker": ["a", "b"]}, r"has no column 'brand'. Columns found: 'item_id', 'maker'.*`column`"),
        (BRAND, {"brand": [["a"], ["b"]]}, r"'brand' is of type List.String., and item/brand is categorical"),
        (BRAND, {"brand": ["a", "b\nc"]}, r"row 1: column 'brand' holds 'b\\nc', with a line break"),
        (TAGS, {"tags": [{"a": 1}, {"a": 2}]}, r"of type Struct.*multi: wanted lists"),
        (PRICE, {"price": ["1", "cheap"]}, r"row 1: column 'price' holds 'cheap'. item/price is numeric"),
        (PRICE, {"price": [1.0, float("inf")]}, r"row 1: column 'price' holds inf.*finite number"),
        (PRICE, {"price": [1.0, 1e39]}, r"row 1: column 'price' holds 1e\+39.*float32"),
        (TITLE, {"title": [[1], [2]]}, r"of type List.Int64., and item/title is text"),
        (VECTOR, {"vector": [[1.0, 2, 3], [1.0, 2]]}, r"row 1: .* holds a vector of 2 numbers.*wanted 3"),
        (
            VECTOR,
            {"vector": [[1.0, 2, 3], [1.0, 2, math.nan]]},
            r"row 1: .*\[1.0, 2.0, nan\].*finite numbers",
        ),
        (VECTOR, {"vector": ["1 2 3", "1 2 x"]}, r"row 1: .*\['1', '2', 'x'\].*finite numbers"),
        (VECTOR, {"vector": [1.0, 2.0]}, r"of type Float64, and item/vector is embedding"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, column, rows, message):
    with pytest.raises(InputError, match=message):
        cr.prepare(LOG, tmp_path / "made", schema=[column], item_table=table(**rows))
    assert not (tmp_path / "made").exists()


def test_bad_values_are_left_out_and_counted_where_that_is_asked_for(tmp_path):
    made = cr.prepare(
        LOG,
        tmp_path / "made",
        schema=[PRICE, VECTOR],
        item_table=table(price=["7", "cheap"], vector=["1,2,3", "[1, 2]"]),
        on_bad_row="skip",
    )
    assert made.info["source"]["tables"]["item"]["unreadable"] == {"item/price": 1, "item/vector": 1}
    one, two = (made.item_ids().index(item) + 1 for item in ("i1", "i2"))
    found = made.item_features()
    assert found["price"][one] == 7 and np.isnan(found["price"][two])
    assert found["vector"][[one, two]].tolist() == [[1, 2, 3], [0, 0, 0]]
    (price,) = (fitted for fitted in made.fitted_columns("item") if fitted.column.kind == "numeric")
    assert (price.mean, price.std) == (7, 1)  # one value: nothing to divide by


def test_an_item_twice_an_empty_id_and_a_table_too_few_or_too_many(tmp_path):
    (tmp_path / "a.csv").write_text("item_id,brand\ni1,x\ni2,y\n")
    (tmp_path / "b.csv").write_text("item_id,brand\ni3,x\n\ni2,z\n")
    with pytest.raises(InputError, match=r"b.csv, line 4: the item 'i2' has a row above already"):
        cr.prepare(LOG, tmp_path / "made", schema=[BRAND], item_table=str(tmp_path / "*.csv"))
    (tmp_path / "a.csv").write_text("item_id,brand\n,x\n")
    with pytest.raises(InputError, match=r"a.csv, line 2: column 'item_id' is empty"):
        cr.prepare(LOG, tmp_path / "made", schema=[BRAND], item_table=tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("item_id,brand\n")
    with pytest.raises(InputError, match=r"a.csv: no rows"):
        cr.prepare(LOG, tmp_path / "made", schema=[BRAND], item_table=tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"schema has item/brand, and there is no table of items"):
        cr.prepare(LOG, tmp_path / "made", schema=[BRAND])
    with pytest.raises(InputError, match="item_table has no effect"):
        cr.prepare(LOG, tmp_path / "made", item_table=table(brand=["a", "b"]))
    with pytest.raises(InputError, match=r"has no column 'sku'.*item_table_id"):
        cr.prepare(
            LOG, tmp_path / "made", schema=[BRAND], item_table=table(brand=["a", "b"]), item_table_id="sku"
        )


def test_a_category_of_very_many_values_keeps_the_most_frequent(tmp_path):
    many = 100_000
    log = pl.DataFrame(
        {"user_id": np.arange(many) // 4, "item_id": np.arange(many), "timestamp": np.arange(many)}
    )
    values = np.where(np.arange(many) % 10 == 0, "often", np.arange(many).astype(str))
    made = cr.prepare(
        log,
        tmp_path / "made",
        schema=[BRAND | {"size": 1000}],
        item_table=pl.DataFrame({"item_id": np.arange(many), "brand": values}),
    )
    (fitted,) = made.fitted_columns("item")
    lines = fitted.vocabulary.read_text().splitlines()
    assert fitted.num_values == len(lines) == 1000
    assert lines[0] == "often" and lines[1:] == sorted(lines[1:])
    codes = made.item_features()["brand"]
    assert (codes == 2).sum() == many / 10 and (codes == 1).sum() > many / 2
    assert codes.max() == 1001


def test_numbers_of_pandas_and_lists_in_brackets_are_read_as_meant(tmp_path):
    made = cr.prepare(
        LOG,
        tmp_path / "made",
        schema=[BRAND | {"size": 10}, TAGS | {"size": 10}],
        item_table=table(brand=[1995.0, math.nan], tags=['["x", "y"]', "[x|z]"]),
    )
    of = {
        fitted.column.name: fitted.vocabulary.read_text().splitlines()
        for fitted in made.fitted_columns("item")
    }
    assert of["brand"] == ["1995"]
    assert sorted(of["labels"]) == ["[x", "x", "y", "z]"]

"""Filters beside a twin that looks at one item at a time."""

import json

import numpy as np
import polars as pl
import pytest

from export.filters import passing_rows
from export.filters.expression import MOST_COMPARISONS, MOST_DEPTH, MOST_VALUES, parse_filter
from export.filters.item_table import read_item_table
from export.filters.stored_attributes import ItemAttributes
from export.store.bundle_errors import BundleError, FilterError
from tests.export.filters.twin import moment, passes

NUM_ITEMS = 400


def generated(seed=0):
    """Items with values of every kind, some of them missing, ids in no order."""
    rng = np.random.default_rng(seed)
    items = {}
    for number in rng.permutation(NUM_ITEMS).tolist():
        tags = rng.choice(["x", "y", "z", "é"], rng.integers(4), replace=False).tolist()
        values = {
            "category": str(rng.choice(["a", "b", "c", "7"])),
            "tags": tags or None,
            "price": float(np.round(rng.gamma(2, 10), 1)),
            "new": bool(rng.random() < 0.3),
            "since": moment(f"20{rng.integers(20, 26)}-0{rng.integers(1, 10)}-11"),
        }
        items[f"item {number}"] = {
            name: None if rng.random() < 0.1 else value for name, value in values.items()
        }
    return items


ITEMS = generated()


def table_of(items, order):
    """The attributes by the rows of a catalogue, through a file as a user has it."""
    frame = pl.DataFrame(
        {
            "id": list(items),
            "category": [one["category"] for one in items.values()],
            "tags": [one["tags"] for one in items.values()],
            "price": [one["price"] for one in items.values()],
            "new": [one["new"] for one in items.values()],
            "since": [one["since"] for one in items.values()],
        }
    ).with_columns(pl.from_epoch(pl.col("since").cast(pl.Int64)))
    return frame, order


@pytest.fixture(scope="module")
def attributes(tmp_path_factory):
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    table_of(ITEMS, None)[0].write_parquet(path)
    return read_item_table(path, "id")


@pytest.fixture(scope="module", params=["as it is", "always listed", "never listed"])
def table(request, attributes):
    """Whichever way rows are found; the catalogue lacks some items and has others without attributes."""
    share = {"as it is": 1 / 8, "always listed": 2.0, "never listed": -1.0}[request.param]
    patch = pytest.MonkeyPatch()
    patch.setattr(passing_rows, "_LISTED_SHARE", share)
    yield attributes.by_row(ORDER)
    patch.undo()


ORDER = [*sorted(ITEMS)[50:], "no attributes", "none either"]

FILTERS = [
    {"category": "a"},
    {"category": ["a", 7, "nothing has it"]},
    {"category": []},
    {"category": {"missing": True}},
    {"category": {"missing": False}, "price": {"lt": 12.5}},
    {"category": {"all": ["a"]}},
    {"category": {"all": ["a", "b"]}},
    {"tags": "x"},
    {"tags": ["x", "é"]},
    {"tags": {"all": ["x", "y"]}},
    {"tags": {"all": ["x", "nothing has it"]}},
    {"tags": {"missing": True}},
    {"price": {"ge": 10, "lt": 20}},
    {"price": {"gt": 10.0, "le": 20.5}},
    {"price": {"gt": 50, "lt": 2}},
    {"price": [float(ITEMS["item 0"]["price"] or 3), 5.5, 9]},
    {"price": {"missing": True}},
    {"price": {"missing": False, "gt": 60}},
    {"new": True},
    {"new": [True, False]},
    {"new": {"missing": True}},
    {"since": {"ge": "2022-05-01", "lt": "2023-03-11"}},
    {"since": "2021-03-11"},
    {"since": {"gt": moment("2024-01-01")}},
    {"not": {"category": "a"}},
    {"not": {"not": {"category": "a"}}},
    {"any": [{"category": "a", "new": True}, {"price": {"lt": 3}}, {"tags": {"all": ["z", "y"]}}]},
    {"all": [{"category": ["a", "b"]}, {"not": {"new": True}}], "price": {"gt": 5}},
    {"any": [{"category": "nothing has it"}, {"price": {"lt": -1}}]},
]


@pytest.mark.parametrize("wanted", FILTERS, ids=json.dumps)
def test_passes_as_the_twin_does(table, wanted):
    expected = [row for row, item in enumerate(ORDER) if passes(ITEMS.get(item, {}), wanted)]
    found = table.passing(parse_filter(wanted))
    assert found.count == len(expected)
    assert sorted(found.rows.tolist()) == expected
    places = np.arange(len(ORDER))
    assert np.flatnonzero(found.contains(places)).tolist() == expected


def test_generated_filters_pass_as_the_twin_does(table):
    rng = np.random.default_rng(1)

    def drawn(depth):
        if depth and rng.random() < 0.5:
            word = str(rng.choice(["all", "any", "not"]))
            parts = [drawn(depth - 1) for _ in range(rng.integers(1, 4))]
            return {word: parts[0] if word == "not" else parts}
        return dict(FILTERS[rng.integers(len(FILTERS))])

    for _ in range(150):
        wanted = drawn(3)
        try:
            expression = parse_filter(wanted)
        except FilterError:
            continue  # too large
        expected = [row for row, item in enumerate(ORDER) if passes(ITEMS.get(item, {}), wanted)]
        found = table.passing(expression)
        asked = rng.integers(-1, len(ORDER), (2, 60))
        is_expected = [[row in set(expected) for row in part] for part in asked.tolist()]
        assert found.contains(asked).tolist() == is_expected, wanted
        assert sorted(found.rows.tolist()) == expected, wanted
        assert found.at_most >= len(expected) and found.at_most >= found.estimate >= 0
        if found.listing is not None:
            places = np.concatenate([np.arange(*one) for one in found.listing.places] or [np.zeros(0, int)])
            assert len(places) == found.listing.length
            assert set(expected) <= set(found.listing.order[places].tolist()), wanted
        if len(ORDER) <= passing_rows._SAMPLE and found.at_most < len(ORDER):
            assert found.estimate >= min(found.at_most, len(expected)), wanted


def test_an_empty_filter_is_none():
    assert parse_filter(None) is None
    assert parse_filter({}) is None


def nested(depth):
    return {"a": 1} if depth == 1 else {"not": nested(depth - 1)}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([], r"filter: got \[\]; wanted an object"),
        ("a", "filter: got 'a'; wanted an object"),
        ({"all": {}}, r"filter\.all: got \{\}; wanted a list of objects"),
        ({"any": []}, r"filter\.any: got \[\]; wanted a list of objects"),
        ({"any": [{}]}, r"filter\.any\[0\]: got \{\}; wanted an object"),
        ({"not": [{"a": 1}]}, r"filter\.not: got .*; wanted an object"),
        ({"price": {"below": 3}}, r"filter\.price: got 'below'; wanted one of the operators in, all, lt"),
        ({"price": {}}, r"filter\.price: got \{\}; wanted one of the operators"),
        ({"price": {"lt": 3, "le": 3}}, "has lt and le; give one of them"),
        ({"price": {"lt": None}}, r"filter\.price\.lt: got None; wanted a string, a finite number"),
        ({"price": {"lt": float("nan")}}, "got nan; wanted a string, a finite number"),
        ({"price": [[1]]}, r"got \[1\]; wanted a string"),
        ({"price": {"in": 3}}, r"filter\.price\.in: got 3; wanted a list"),
        ({"price": {"missing": 1}}, "got 1; wanted true or false"),
        (nested(MOST_DEPTH + 1), f"at most {MOST_DEPTH} deep"),
        ({"a": ["x"] * (MOST_VALUES + 1)}, "more than the 1,000 values"),
        ({"any": [{"a": 1}] * (MOST_COMPARISONS + 1)}, f"more than the {MOST_COMPARISONS} comparisons"),
    ],
)
def test_what_is_no_filter_is_refused_by_its_place(wanted, message):
    with pytest.raises(FilterError, match=message):
        parse_filter(wanted)
    assert parse_filter(nested(MOST_DEPTH)) is not None


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"colour": "red"}, "no attribute 'colour'; they have 'category', 'tags', 'price', 'new', 'since'"),
        ({"any": [{"new": True}, {"not": {"colour": "red"}}]}, "no attribute 'colour'"),
        ({"category": {"lt": 3}}, "category: is category; lt, le, gt and ge compare numbers"),
        ({"category": True}, "category: got True; it is category, wanted strings or integers"),
        ({"category": 1.5}, "category: got 1.5"),
        ({"new": "true"}, "new: got 'true'; it is boolean, wanted true or false"),
        ({"new": 1}, "new: got 1; it is boolean"),
        ({"price": "cheap"}, "price: got 'cheap'; it is numeric, wanted a number"),
        ({"price": True}, "price: got True"),
        ({"price": 10**400}, "price: got 1000"),
        ({"price": {"all": [1]}}, "price: is numeric; all compares"),
        ({"since": "yesterday"}, "since: got 'yesterday'; it is time, wanted a time such as"),
        ({"since": {"lt": False}}, "since: got False"),
    ],
)
def test_a_filter_that_does_not_fit_the_columns_is_refused(table, wanted, message):
    for one in (wanted, {"not": wanted}, {"any": [{"new": True}, wanted]}):
        with pytest.raises(FilterError, match=message):
            table.passing(parse_filter(one))


def test_attributes_survive_being_written_and_notice_damage(attributes, tmp_path):
    place = tmp_path / "bundle" / "item_attributes" / "1"
    attributes.save(place)
    read = ItemAttributes.load(place)
    for wanted in FILTERS:
        expression = parse_filter(wanted)
        found = read.by_row(ORDER).passing(expression).rows
        assert set(found.tolist()) == set(attributes.by_row(ORDER).passing(expression).rows.tolist())
    for path in sorted(place.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(BundleError):
            ItemAttributes.load(place)
        path.write_bytes(whole)


ROWS = [
    {"id": 7, "brand": "é", "tags": "x|y", "price": 1.5, "new": True, "since": "2024-02-01"},
    {"id": 8, "brand": "", "tags": "", "price": None, "new": None, "since": None},
    {"id": 9, "brand": "b", "tags": "y", "price": -2, "new": False, "since": "2025-02-01"},
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "csv.gz"])
def test_tables_of_every_format_are_read_alike(tmp_path, kind):
    frame = pl.DataFrame(ROWS)
    path = tmp_path / f"items.{kind}"
    if kind == "parquet":
        frame.write_parquet(path)
    elif kind == "jsonl":
        frame.write_ndjson(path)
    else:
        text = frame.write_csv(separator="\t", quote_style="never") if kind == "tsv" else frame.write_csv()
        if kind.endswith("gz"):
            import gzip

            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
    table = read_item_table(path, "id", multi=["tags"], time=["since"]).by_row(["9", "8", "7"])
    for wanted, rows in (
        ({"brand": "é"}, [2]),
        ({"brand": {"missing": True}}, [1]),
        ({"tags": "y"}, [0, 2]),
        ({"tags": {"all": ["x", "y"]}}, [2]),
        ({"tags": {"missing": True}}, [1]),
        ({"price": {"lt": 1.5}}, [0]),
        ({"price": {"missing": True}}, [1]),
        ({"new": False}, [0]),
        ({"since": {"lt": "2025-01-01"}}, [2]),
    ):
        assert sorted(table.passing(parse_filter(wanted)).rows.tolist()) == rows, wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,price\n1,2\n1,3\n", "item 2: '1' is there twice"),
        ("id,price\n1,2\n,3\n", "item 2: None is no id"),
        ("item,price\n1,2\n", "has no column 'id'; it has 'item', 'price'"),
        ("id,not\n1,2\n", "'not' is a word of filters"),
        ("id\n1\n", "has 0 columns beside 'id'"),
        ("id,price\n", "holds no items"),
        ("id,price\n1.5,2\n", "is Float64; wanted ids, strings or integers"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, text, message):
    path = tmp_path / "items.csv"
    path.write_text(text)
    with pytest.raises(BundleError, match=message):
        read_item_table(path, "id")

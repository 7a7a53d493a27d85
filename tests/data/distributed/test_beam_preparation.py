"""The preparation on Apache Beam gives what the local one gives, file by file and byte by byte."""

import gzip
import io
import itertools
import json
import os
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from causerec_tf.data.columns.features_of_log import read_features
from causerec_tf.data.distributed import blocks, ranges
from causerec_tf.data.logs import interactions
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.data.logs.suspicious_ids import as_recorded, suspicions_of
from causerec_tf.data.preparation import prepare
from causerec_tf.data.sequences import SPLITS, open_dataset
from causerec_tf.data.splits import split_sequences
from causerec_tf.data.splits.filters import Filters, apply_filters
from causerec_tf.data.splits.protocol_settings import ProtocolSettings
from causerec_tf.data.writing.sequence_writer import write_dataset
from causerec_tf.errors import InputError
from causerec_tf.schema import schema_of
from tests import reference_data

DATA = Path(os.environ.get("CAUSEREC_DATA", Path(__file__).parents[4] / "shared" / "data"))
YELP = DATA / "yelp2018" / "interactions.tsv.gz"
ROLES = {"user": "user_id", "item": "item_id", "time": "timestamp"}
HEADER = "user_id,item_id,timestamp\n"
FILTERS = [Filters(), Filters(4, 9), Filters(max_user_count=5, training_share=0.6), Filters(4, 6, 7, 0.5)]


def by_beam(
    directory,
    patterns,
    *,
    features=None,
    filters=FILTERS[0],
    protocol=None,
    test_patterns=(),
    num_shards=8,
    range_bytes,
    told=lambda ids, returns: None,
    **log,
):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'causerec_tf[beam]'")
    from causerec_tf.data.distributed.beam_preparation import prepare

    return prepare(
        patterns,
        LogSettings(**log),
        str(directory),
        filters=filters,
        protocol=protocol,
        test_patterns=test_patterns,
        split_seed=0,
        num_shards=num_shards,
        item_names=None,
        features=features,
        overwrite=False,
        on_ordered=told,
        range_bytes=range_bytes,
        runner="DirectRunner",
    )


def locally(directory, patterns, *, filters=FILTERS[0], num_shards=8, **settings):
    log = interactions.read_log(patterns, LogSettings(**settings))
    events = apply_filters(log.events, filters, 0)
    source = {"kind": "log", "files": list(log.files)}
    source |= {"rows_read": log.rows_read, "rows_skipped": log.skipped}
    source |= as_recorded(suspicions_of(log.events))
    about = {"time_unit": log.time_unit, "filters": filters.description()}
    about |= {"split_seed": 0, "source": source}
    sequences = split_sequences.build_sequences(events, split_seed=0, num_shards=num_shards)
    write_dataset(sequences, directory, num_shards=num_shards, about=about)


def assert_same(one, other):
    files = sorted(path.name for path in one.iterdir())
    assert files == sorted(path.name for path in other.iterdir())
    for name in files:
        if (one / name).is_file():
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def awkward_log(folder):
    """Ties, repeats, one-event users, ids of all kinds, bad rows; plain, quoted, packed, JSON and Parquet."""
    rows = reference_data.odd_rows(random.Random(3))
    plain = [row for row in rows if not set('",\x85\u2028') & set(row[0] + row[1])]
    fifth = len(rows) // 5
    (folder / "a.csv").write_text(
        HEADER
        + "".join(f"{user},{item},{moment}\n" for user, item, moment in plain)
        + "one,x,1,too many\n,y,3\nother,x,soon\n\n,,\nlast,y,2",
        encoding="utf-8",
    )
    frame = pl.DataFrame(rows[:fifth], schema=list(ROLES.values()), orient="row")
    frame.write_csv(folder / "b.csv", quote_style="always")
    lines = [json.dumps(dict(zip(ROLES.values(), row, strict=True))) for row in rows[fifth : 2 * fifth]]
    lines += ['{"item_id": 5}', "{broken", '{"user_id": 1.5, "item_id": 5, "timestamp": 1}']
    (folder / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[::-1]).encode("utf-8")))
    text = "\t".join(ROLES.values()) + "\n" + "".join(f"{u}\t{i}\t{t}\n" for u, i, t in rows[2 * fifth :])
    (folder / "d.tsv.gz").write_bytes(gzip.compress(text.encode("utf-8")))
    frame.write_parquet(folder / "e.parquet")
    return [str(folder / "*.*")]


def assert_an_awkward_log_gives_the_same_files(tmp_path, filters, range_bytes):
    (tmp_path / "log").mkdir()
    patterns = awkward_log(tmp_path / "log")
    settings = {"on_bad_row": "skip", "num_shards": 2, "filters": filters}
    info = by_beam(tmp_path / "beam", patterns, range_bytes=range_bytes, **settings)
    locally(tmp_path / "local", patterns, **settings)
    assert_same(tmp_path / "beam", tmp_path / "local")
    assert info["source"]["rows_skipped"] == {
        "a line that cannot be read": 6,
        "no user id": 3,
        "no readable time": 1,
    }
    assert info == open_dataset(tmp_path / "beam").info
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beam", "local", "log"]


def test_an_awkward_log_gives_the_same_files(tmp_path):
    assert_an_awkward_log_gives_the_same_files(tmp_path, FILTERS[-1], 2500)


PROTOCOLS = {
    "leave_one_out": ProtocolSettings("leave_one_out"),
    "time_last": ProtocolSettings("time", test_from="q.7", validation_from="q.5", test_target="last"),
    "time_all": ProtocolSettings("time", test_from="2024-03-02T12:00", validation_from="q.4"),
    "given": ProtocolSettings("given"),
    "none": ProtocolSettings("none"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_gives_the_same_files(tmp_path, name):
    """Ties at the cuts, users of one event, and, where they are given, test lists with earlier times."""
    draw = random.Random(name)
    days = [f"2024-03-0{draw.randint(1, 4)}T{draw.randint(0, 23):02}:00" for _ in range(12)]
    for part in ("a.csv", "b.tsv", "test.csv"):
        mark = part[-3].replace("c", ",").replace("t", "\t")
        rows = [
            (f"u{draw.randint(0, 30)}", f"i{int(draw.paretovariate(0.7)) % 40}", draw.choice(days))
            for _ in range(90)
        ]
        lines = [ROLES.values(), *rows, (f"only in {part}", "x", days[0])]
        (tmp_path / part).write_text("".join(mark.join(line) + "\n" for line in lines))
    patterns, test_patterns = [str(tmp_path / "[ab].*")], []
    if name == "given":
        test_patterns = [str(tmp_path / "test.csv")]
    how = {"protocol": PROTOCOLS[name], "num_shards": 3, "filters": Filters(min_item_count=2)}
    told = []
    info = by_beam(
        tmp_path / "beam",
        patterns,
        test_patterns=test_patterns,
        range_bytes=700,
        told=lambda vocabulary, returns: told.append(returns),
        **how,
    )
    log = interactions.read_log(patterns, LogSettings(), test_patterns)
    dataset = prepare(log, tmp_path / "local", **how)
    assert_same(tmp_path / "beam", tmp_path / "local")
    assert info == dataset.info
    assert info["source"].get("test_files") == (["test.csv"] if name == "given" else None)
    assert told == [info["counts"]["log"]["returns"]]
    assert told[0] > 20


def test_features_of_items_give_the_same_files(tmp_path):
    rows = random.Random(5).choices(reference_data.odd_rows(random.Random(3)), k=400)
    rows = [row for row in rows if not set('",\x85\u2028\x1c') & set(row[0] + row[1])]
    log = tmp_path / "log.csv"
    log.write_text(HEADER + "".join(f"{user},{item},{1_700_000_000 + at}\n" for user, item, at in rows))
    items = sorted({row[1] for row in rows})[2:]
    table = pl.DataFrame(
        {
            "item_id": items,
            "kind": [f"k{len(item) % 3}" for item in items],
            "price": [len(item) / 3 for item in items],
            "title": [f"about {item}" for item in items],
        }
    )
    kinds = {"kind": "categorical", "price": "numeric", "title": "text"}
    columns = [{"name": name, "owner": "item", "kind": kind} for name, kind in kinds.items()]
    columns.append({"name": "hour", "owner": "request", "kind": "hour"})
    features = read_features(schema_of(columns), {"item": (table, "item_id")})
    prepare(
        interactions.read_log([str(log)], LogSettings()),
        tmp_path / "local",
        protocol=ProtocolSettings("leave_one_out"),
        features=features,
    )
    by_beam(
        tmp_path / "beam",
        [str(log)],
        protocol=ProtocolSettings("leave_one_out"),
        features=features,
        range_bytes=2000,
    )
    for name in ("", "features"):
        assert_same(tmp_path / "local" / name, tmp_path / "beam" / name)
    open_dataset(tmp_path / "beam").verify()
    other = read_features(schema_of([{"name": "stars", "owner": "event", "kind": "numeric"}]), {})
    with pytest.raises(
        InputError, match="event/stars: --runner=DirectRunner reads columns of items and of times"
    ):
        by_beam(tmp_path / "x", [str(log)], features=other, range_bytes=2000)


@pytest.mark.parametrize(
    ("moments", "share"), [([3], 9), ([5, 5, 5, 9], 5), (list(range(-9000, 9000, 7)), 3)]
)
def test_times_are_counted_in_parts_without_a_gap(moments, share):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'causerec_tf[beam]'")
    from causerec_tf.data.distributed import cuts

    first, last = min(moments), max(moments)
    counts = cuts.count_times(np.array(moments), first, last, 16)
    width = cuts.width_of_bins(first, last, 16)
    wanted = [
        sum(first + place * width <= moment < first + (place + 1) * width for moment in moments)
        for place in range(16)
    ]
    assert counts.tolist() == wanted
    assert sum(wanted) == len(moments)
    ends = np.iinfo(np.int64)
    extreme = cuts.count_times(np.array([ends.min, 0, ends.max]), ends.min, ends.max, 4)
    assert extreme.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("test_lists", "said"),
    [
        pytest.param("", r"test.csv: no rows", marks=pytest.mark.long),
        ("u1,,3\n", r"test.csv: 1 rows, none of them usable"),
        (None, "a.csv is named as"),
    ],
)
def test_test_lists_that_cannot_be_used_are_refused_alike(tmp_path, test_lists, said):
    (tmp_path / "a.csv").write_text(HEADER + "u1,a,1\nu1,b,2\n")
    (tmp_path / "test.csv").write_text(HEADER + (test_lists or ""))
    patterns = [str(tmp_path / "a.csv")]
    test_patterns = patterns if test_lists is None else [str(tmp_path / "test.csv")]
    with pytest.raises(InputError, match=said):
        interactions.read_log(patterns, LogSettings(on_bad_row="skip"), test_patterns)
    given = {"protocol": ProtocolSettings("given"), "test_patterns": test_patterns}
    with pytest.raises(InputError, match=said):
        by_beam(tmp_path / "made", patterns, range_bytes=100, num_shards=1, on_bad_row="skip", **given)
    assert not (tmp_path / "made").exists()


@pytest.mark.long
@pytest.mark.parametrize("filters", FILTERS)
def test_an_awkward_log_in_many_ranges_gives_the_same_files(tmp_path, filters):
    assert_an_awkward_log_gives_the_same_files(tmp_path, filters, 900)


@pytest.mark.long
def test_times_of_several_notations_are_one(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "".join(f"u{n % 7},i{n % 5},{n}\n" for n in range(90)))
    # The decimal that makes a file decimal stands in its last range.
    (tmp_path / "b.csv").write_text(
        HEADER + "".join(f"u{n % 7},j{n % 3},{n}\n" for n in range(90)) + "u1,i1,7.5\n"
    )
    info = by_beam(tmp_path / "beam", [str(tmp_path / "*.csv")], range_bytes=300, num_shards=1)
    locally(tmp_path / "local", [str(tmp_path / "*.csv")], num_shards=1)
    assert_same(tmp_path / "beam", tmp_path / "local")
    assert info["time_unit"].startswith("microseconds")


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "message", "settings"),
    [
        (HEADER + "a,x,1\n" * 200 + "b,,2\n", "line 202: column 'item_id' is empty", {}),
        (HEADER + "a,x,1\n" * 200 + "b,x,2,3\n", "line 202: the row has 4 fields", {}),
        ("user_id,item_id\na,x\n", "no column 'timestamp'", {}),
        (HEADER, "no rows; a log needs at least one", {}),
        (" \n", "no rows; a log needs at least one", {}),
        (HEADER + "a,x,1\n", "no user is left of 1 interactions", {"filters": Filters(2)}),
        (
            HEADER + "a,x,1\n",
            "no user is left with training_share=1e-09",
            {"filters": Filters(1, 1, 1, 1e-9)},
        ),
    ],
)
def test_bad_input_is_named_as_the_local_way_names_it(tmp_path, text, message, settings):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        by_beam(tmp_path / "beam", [str(tmp_path / "log.csv")], range_bytes=500, num_shards=1, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def a_marred_log(folder):
    """Parts without rows of every kind, marks, markers, suspicious ids."""
    folder.mkdir()
    for name in ("_SUCCESS", "a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.parquet"):
        (folder / name).write_text("")
    (folder / "b.csv").write_text(HEADER)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b""))
    (folder / "c.csv.gz").write_bytes(gzip.compress(b"\n"))
    pl.DataFrame({"user_id": []}).write_parquet(folder / "b.parquet")
    words = ("NULL", "7", "7.0", "\\N", "8 ", "8", "1.2E+15", "9 ")
    lines = [f"u{n % 9},{words[n % 8]},2024-05-06 07:08:{n:02d} UTC\n" for n in range(40)]
    (folder / "d.csv").write_text(HEADER + "\ufeff".join(lines), encoding="utf-8")
    lines = [f"{words[n % 8]}\ti{n % 3}\t2024-05-06 07:09:{n:02d} +0000\n" for n in range(40)]
    text = HEADER.replace(",", "\t") + "".join(lines)
    (folder / "e.tsv").write_text("\ufeff" + "\ufeff".join(text.splitlines(True)), encoding="utf-8")
    return [str(folder / "*")]


@pytest.mark.long
def test_a_marred_log_gives_the_same_files_and_counts(tmp_path):
    patterns = a_marred_log(tmp_path / "log")
    info = by_beam(tmp_path / "beam", patterns, range_bytes=300, num_shards=1)
    locally(tmp_path / "local", patterns, num_shards=1)
    assert_same(tmp_path / "beam", tmp_path / "local")
    assert info["source"]["rows_read"] == 80
    assert {key: found["ids"] for key, found in by_kind(info).items()} == {
        (role, reason): ids
        for role in ("user", "item")
        for reason, ids in (("missing", 2), ("spelling", 2), ("scientific", 1))
    }
    assert by_kind(info)["item", "spelling"]["example"] == ["7.0", "7"]
    assert by_kind(info)["user", "missing"]["rows"] == 10


def by_kind(info):
    return {(found["role"], found["reason"]): found for found in info["source"]["suspicious_ids"]}


@pytest.mark.long
def test_a_log_without_times_gives_the_same_files(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    rows = [(f"u{n * n % 11}", f"i{n % 7}" if n % 10 else "") for n in range(200)]
    text = "user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows[:150])
    (folder / "a.csv").write_text(text + "u1,i1,too many\n")
    (folder / "b.csv").write_text('item_id,user_id\n"i1",u1\n' + "i2,u1\n" * 50)
    frame = pl.DataFrame(rows[150:], schema=["user_id", "item_id"], orient="row")
    frame.write_ndjson(folder / "c.jsonl")
    settings = {"order": "file", "on_bad_row": "skip", "num_shards": 1}
    info = by_beam(tmp_path / "beam", [f"{folder}/*"], range_bytes=400, **settings)
    locally(tmp_path / "local", [f"{folder}/*"], **settings)
    assert_same(tmp_path / "beam", tmp_path / "local")
    assert (info["time_unit"], info["first_time"], info["last_time"]) == ("position in the log", 0, 230)


@pytest.mark.long
def test_times_of_a_format_give_the_same_files(tmp_path):
    lines = [f"u{n % 7},i{n % 5},{n % 28 + 1:02d}/02/2012 10:00 +0100\n" for n in range(90)]
    (tmp_path / "a.csv").write_text(HEADER + "".join(lines))
    settings = {"time_format": "%d/%m/%Y %H:%M %z", "num_shards": 1}
    info = by_beam(tmp_path / "beam", [str(tmp_path / "a.csv")], range_bytes=300, **settings)
    locally(tmp_path / "local", [str(tmp_path / "a.csv")], **settings)
    assert_same(tmp_path / "beam", tmp_path / "local")
    assert info["first_time"] == 1_328_086_800_000_000


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("log.csv", (HEADER + "a,x,1\n" * 99).encode("utf-16"), {}),
        ("log.jsonl", b'{"user_id": 1, "item_id": 1, "timestamp": 1}\r' * 99, {}),
        ("log.csv", b"sep=;\n" + HEADER.encode() + b"a,x,1\n" * 99, {}),
        ("log.csv", b"", {}),
        ("_log.csv", HEADER.encode() + b"a,x,1\n", {}),
        ("log.csv", HEADER.encode(), {"time_format": "%Y-%m-%d %H"}),
        ("log.csv", b"who,what\n", {}),
        ("log.csv", HEADER.encode() + b"a,x,1.71498E+12\n" * 99, {}),
        pytest.param(
            *("log.csv", HEADER.encode() + b"a,x,9/9/2012\n" * 99, {"time_format": "%d/%m/%y"}),
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_is_not_read_is_refused_in_the_words_of_the_local_way(tmp_path, name, content, settings):
    (tmp_path / name).write_bytes(content)
    patterns = [str(tmp_path / "*")]
    with pytest.raises(InputError) as by_one:
        locally(tmp_path / "local", patterns, **settings)
    with pytest.raises(InputError) as by_many:
        by_beam(tmp_path / "beam", patterns, range_bytes=200, num_shards=1, **settings)
    assert str(by_many.value) == str(by_one.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_column_too_coarse_is_refused_in_the_words_of_the_local_way(tmp_path):
    moments = pl.Series([1_714_978_941, 1_714_979_000]).cast(pl.Float32)
    frame = pl.DataFrame({"user_id": "u", "item_id": "i", "timestamp": moments})
    frame.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InputError, match="Float32, which is too coarse for 1714978944") as by_one:
        locally(tmp_path / "local", [str(tmp_path / "*")])
    with pytest.raises(InputError) as by_many:
        by_beam(tmp_path / "beam", [str(tmp_path / "*")], range_bytes=200, num_shards=1)
    assert str(by_many.value) == str(by_one.value)


def test_mixed_units_of_time_are_refused_in_the_words_of_the_local_way(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "u,x,1700000000\n" * 30)
    (tmp_path / "b.csv").write_text(HEADER + "u,y,1700000000000\n" * 30 + "u,y,1600000000\n")
    patterns = [str(tmp_path / "*.csv")]
    with pytest.raises(InputError, match=r"31 look like seconds .*a\.csv.* 30 look like .*b\.csv") as by_one:
        locally(tmp_path / "local", patterns)
    with pytest.raises(InputError) as by_many:
        by_beam(tmp_path / "beam", patterns, range_bytes=200, num_shards=1)
    assert str(by_many.value) == str(by_one.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]


@pytest.mark.parametrize(
    ("range_bytes", "end"),
    [
        *(pytest.param(1, end, marks=pytest.mark.long) for end in ("", "\n")),
        *((size, end) for size in (7, 40, 1000) for end in ("", "\n")),
    ],
)
def test_ranges_own_every_line_once(range_bytes, end):
    body = "".join(f"user{n},item{n},{n}\n\n" for n in range(10)).strip() + end
    raw = ("\n\r\n" + HEADER + body).encode()
    whole = ranges.Range(0, "log.csv", "csv", None, 0, None)
    parts = ranges.split_file(whole, io.BytesIO(raw), len(raw), range_bytes)
    read = [
        ranges.read_range(part, io.BytesIO(raw), LogSettings(), "integer").events.rows() for part in parts
    ]
    assert list(itertools.chain(*read)) == [(f"user{n}", f"item{n}", n) for n in range(10)]
    lines = [ranges.survey_range(part, io.BytesIO(raw), LogSettings()).lines for part in parts]
    assert sum(lines) == raw.count(b"\n")


def test_whoever_is_told_the_vocabulary_can_still_refuse_it(tmp_path):
    (tmp_path / "log.csv").write_text(HEADER + "u1,a,1\nu1,b,2\nu2,b,1\nu2,b,2\n")
    told = []

    def refuse(vocabulary, returns):
        told.append((sorted(vocabulary), returns))
        raise InputError("names of none of these")

    with pytest.raises(InputError, match="names of none of these"):
        by_beam(tmp_path / "made", [str(tmp_path / "log.csv")], range_bytes=100, num_shards=1, told=refuse)
    assert told == [(["a", "b"], 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_a_file_under_several_names_is_found_once(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'causerec_tf[beam]'")
    from causerec_tf.data.distributed import storage

    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("")
    (tmp_path / "c.csv").symlink_to("a.csv")
    patterns = ["b.csv", "*.csv", str(tmp_path / "a.csv"), f"../{tmp_path.name}/b.csv"]
    assert storage.find(patterns) == ["b.csv", "a.csv"]


def test_a_bucket_holds_whole_users_of_one_shard():
    users = [f"user{number}" for number in range(500)]
    buckets = blocks.bucket_of(users, 5, 3, 4, by_users=True)
    places = {user: reference_data.split_and_shard(user, 5, 3) for user in users}
    for user, bucket in zip(users, buckets.tolist(), strict=True):
        assert divmod(bucket // 4, 3) == places[user]
    of_all_splits = blocks.bucket_of(users, 5, 3, 4, by_users=False).tolist()
    assert [bucket // 4 for bucket in of_all_splits] == [shard for _, shard in places.values()]
    assert len(set(buckets.tolist())) > len(SPLITS) * 3 * 2


@pytest.mark.long
@pytest.mark.skipif(not YELP.is_file(), reason=f"no {YELP}; CAUSEREC_DATA names the folder of data")
@pytest.mark.parametrize("filters", [Filters(), Filters(30, 40, 100, 0.5)])
def test_yelp_gives_the_same_files(tmp_path, filters):
    settings = {"columns": ["user", "item", "time"], "filters": filters}
    by_beam(tmp_path / "beam", [str(YELP)], range_bytes=4 << 20, **settings)
    locally(tmp_path / "local", [str(YELP)], **settings)
    assert_same(tmp_path / "beam", tmp_path / "local")

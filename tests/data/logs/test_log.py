"""Reading logs: every format gives the same rows, and every fault is named by its place."""

import datetime
import gzip
import json

import polars as pl
import pytest

from causerec_tf.data.logs import interactions, json_lines, times
from causerec_tf.data.logs.item_names import read_item_names
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.errors import InputError

HEADER = "user_id,item_id,timestamp\n"
ROWS = [("b", "-1", 3), ("0", "x y", 1), ("ü", "日本", 1), ("b", "-1", 3), ("a", "q", -2)]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def read(path, content, **options):
    return interactions.read_log([write(path, content)], LogSettings(**options))


def fails(match, path, content, **options):
    with pytest.raises(InputError, match=match):
        read(path, content, **options)


def delimited(separator, header=True):
    lines = [separator.join(map(str, row)) for row in ROWS]
    if header:
        lines.insert(0, separator.join(("user_id", "item_id", "timestamp")))
    return "\n".join(lines) + "\n"


def rows_as_json():
    keys = ("user_id", "item_id", "timestamp")
    return "".join(json.dumps(dict(zip(keys, row, strict=True)) | {"more": [1, {}]}) + "\n" for row in ROWS)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.jsonl", "log.ndjson", "log.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name, packed):
    if name.endswith(".parquet"):
        users, items, moments = zip(*ROWS, strict=True)
        frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": moments})
        frame.write_parquet(tmp_path / name)
        content = (tmp_path / name).read_bytes()
    else:
        text = {"csv": delimited(","), "tsv": delimited("\t")}.get(name[-3:], rows_as_json())
        content = text.encode("utf-8")
    path = tmp_path / (name + ".gz" if packed else name)
    log = read(path, gzip.compress(content) if packed else content)
    assert log.events.rows() == ROWS
    assert log.events.schema == {"user": pl.String, "item": pl.String, "time": pl.Int64}
    assert (log.time_unit, log.rows_read, log.skipped) == (times.AS_GIVEN, 5, {})
    assert log.files == (path.name,)


def test_integer_ids_are_their_decimal_text_in_every_format(tmp_path):
    frame = pl.DataFrame({"user_id": [0, -7], "item_id": [10**15, 5], "timestamp": [1, 2]})
    wanted = [("0", "1000000000000000", 1), ("-7", "5", 2)]
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_ndjson(tmp_path / "a.jsonl")
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        assert interactions.read_log([str(tmp_path / name)], LogSettings()).events.rows() == wanted


def test_files_without_a_header_name_their_columns_by_flag(tmp_path):
    text = "a\tx\t4.5\t10\nb\ty\t3\t11\n"
    columns = ["user", "item", "rating", "time"]
    log = read(tmp_path / "a.tsv", text, columns=columns)
    assert log.events.rows() == [("a", "x", 10), ("b", "y", 11)]
    swapped = ["time", "item", "rating", "user"]
    log = read(tmp_path / "b.tsv", "7\tx\t4\ta\n", columns=swapped)
    assert log.events.rows() == [("a", "x", 7)]


def test_typed_header_and_unknown_extension_by_flags(tmp_path):
    text = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n"
    log = read(
        tmp_path / "ml-100k.inter",
        text,
        file_format="tsv",
        user_column="user_id:token",
        item_column="item_id:token",
        time_column="timestamp:float",
    )
    assert log.events.rows() == [("196", "242", 881250949)]


def test_quotes_byte_order_mark_blank_lines_and_windows_line_ends(tmp_path):
    text = '\ufeffuser_id,item_id,timestamp\r\n"a ""b""","x, y",1\r\n\r\n\r\nc,d,2'
    assert read(tmp_path / "a.csv", text).events.rows() == [('a "b"', "x, y", 1), ("c", "d", 2)]
    text = 'user_id\titem_id\ttimestamp\n"a\tb"c\t1\n'
    assert read(tmp_path / "a.tsv", text).events.rows() == [('"a', 'b"c', 1)]


def test_globs_are_read_in_sorted_order_and_no_file_twice(tmp_path):
    for name, user in (("10.csv", "third"), ("02.csv", "second"), ("01.csv", "first")):
        write(tmp_path / name, f"{HEADER}{user},x,5\n")
    patterns = [str(tmp_path / "*.csv"), str(tmp_path / "01.csv")]
    log = interactions.read_log(patterns, LogSettings())
    assert log.events["user"].to_list() == ["first", "second", "third"]
    assert log.files == ("01.csv", "02.csv", "10.csv")


def test_a_file_under_several_names_is_read_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name, f"{HEADER}{name},x,5\n")
    (tmp_path / "c.csv").symlink_to("a.csv")
    log = interactions.read_log(
        ["b.csv", "*.csv", str(tmp_path / "a.csv"), f"../{tmp_path.name}/b.csv"], LogSettings()
    )
    assert log.events["user"].to_list() == ["b.csv", "a.csv"]
    assert log.files == ("b.csv", "a.csv")


def test_a_name_with_glob_characters_is_still_a_file(tmp_path):
    assert len(read(tmp_path / "a[1].csv", HEADER + "a,x,5\n").events) == 1


def test_integer_and_decimal_files_share_microseconds(tmp_path):
    write(tmp_path / "a.csv", HEADER + "a,x,2\n")
    write(tmp_path / "b.csv", HEADER + "a,y,2.5\n")
    log = interactions.read_log([str(tmp_path / "*.csv")], LogSettings())
    assert log.events["time"].to_list() == [2_000_000, 2_500_000]
    assert log.time_unit == times.MICROSECONDS
    write(tmp_path / "large.csv", HEADER + "a,y,1700000000000000\n")
    with pytest.raises(InputError, match=r"large\.csv holds the time 17.*, which cannot be seconds"):
        interactions.read_log([str(tmp_path / "*.csv")], LogSettings())
    (tmp_path / "large.csv").unlink()
    write(tmp_path / "c.csv", HEADER + "a,y,2020-01-01\n")
    with pytest.raises(InputError, match=r"a.csv holds times as numbers, .*c.csv as dates"):
        interactions.read_log([str(tmp_path / "*.csv")], LogSettings())


BAD_ROWS = [
    ("a,x,1\nb,y,2,3\nc,z,3\n", "line 3: the row has 4 fields, where 3 were wanted"),
    (b"a,x,1\nb\xff,y,2\nc,z,3\n", "line 3: the row is not UTF-8"),
    ('a,x,1\nb,"y,2\nc,z,3\n', "line 3: the row is not readable as CSV"),
    ('a,x,1\n5" pipe,y,2\nc,z,3\n', "line 3: the row has a quote inside a field"),
    ("a,x,1\nb,,2\nc,z,3\n", "line 3: column 'item_id' is empty"),
    ("a,x,1\n,y,2\nc,z,3\n", "line 3: column 'user_id' is empty"),
    ("a,x,1\n,,\nc,z,3\n", "line 3: the row has nothing but separators"),
    ('a,x,1\n\n"",\nc,z,3\n', "line 4: the row has nothing but separators"),
    ("a,x,1\nb,y\nc,z,3\n", "line 3: column 'timestamp' is empty"),
    ("a,x,1\nb,y,soon\nc,z,3\n", "line 3: column 'timestamp' holds 'soon'"),
    ('a,x,1\n\n\n"b",y,soon\nc,z,3\n', "line 5: column 'timestamp' holds 'soon'"),
    ("a,x,1\nb,y,2020-01-01\nc,z,3\n", "line 3: column 'timestamp' holds '2020-01-01'"),
]


@pytest.mark.parametrize(("body", "message"), BAD_ROWS)
def test_a_bad_row_is_named_or_left_out_and_counted(tmp_path, body, message):
    content = HEADER.encode() + (body if isinstance(body, bytes) else body.encode())
    fails(rf"log\.csv, {message}.*--on_bad_row=skip", tmp_path / "log.csv", content)
    log = read(tmp_path / "log.csv", content, on_bad_row="skip")
    assert log.events.rows() == [("a", "x", 1), ("c", "z", 3)]
    assert log.rows_read == 3
    assert sum(log.skipped.values()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id": "b", "item', "line 2: the row is not JSON"),
        ('{"user_id": "b", "item_id": 1, "timestamp": NaN}', "line 2: the row is not JSON"),
        ('["b", "y", 2]', "line 2: the row is not a JSON object"),
        ('{"user_id": "b", "timestamp": 2}', "line 2: column 'item_id' is empty"),
        ('{"user_id": null, "item_id": 1, "timestamp": 2}', "line 2: column 'user_id' is empty"),
        (
            '{"user_id": 1.0, "item_id": 1, "timestamp": 2}',
            "line 2: the row holds 1.0 in column 'user_id'; wanted",
        ),
        (
            '{"user_id": 1e5, "item_id": 1, "timestamp": 2}',
            "line 2: the row holds 100000.0 in column 'user_id'",
        ),
        ('{"item_id":true, "user_id":"b", "timestamp": 2}', "line 2: the row holds true in column 'item_id'"),
        (
            '{"user_id": "b", "item_id" :\t[1], "timestamp": 2}',
            r"line 2: the row holds \[1\] in column 'item_id'",
        ),
        (
            '{"user_id": {"a": 1}, "item_id": 1, "timestamp": 2}',
            r"line 2: the row holds {\"a\": 1} in column",
        ),
    ],
)
def test_a_bad_json_line_is_named_or_left_out(tmp_path, line, message):
    good = '{{"user_id": "{}", "item_id": 5, "timestamp": 1}}\n'
    content = good.format("a") + line + "\n" + good.format("c")
    fails(rf"log\.jsonl, {message}", tmp_path / "log.jsonl", content)
    log = read(tmp_path / "log.jsonl", content, on_bad_row="skip")
    assert log.events.rows() == [("a", "5", 1), ("c", "5", 1)]
    assert sum(log.skipped.values()) == 1


def test_what_looks_like_a_bad_json_id_elsewhere_is_none(tmp_path):
    rows = [
        {"user_id": "1.5", "item_id": "[x]", "timestamp": 1, "more": {"item_id": 1.5}},
        {"user_id": 'a "item_id": true', "item_id": -7, "timestamp": 2.5, "rating": 4.5},
    ]
    log = read(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [row[:2] for row in log.events.rows()] == [("1.5", "[x]"), ('a "item_id": true', "-7")]


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_in_many_blocks_are_read_and_counted_as_one_file(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", 100)
    lines = [f'{{"user_id": "u{n}", "item_id": {n % 7}, "timestamp": {n}}}' for n in range(50)]
    lines[20] = ""
    lines[30] = '{"user_id": 0.5, "item_id": 1, "timestamp": 2}'
    lines[40] = '{"user_id": "late", "item_id": 1, "timestamp": "soon"}'
    content = "\ufeff" + "\n".join(lines)
    path = tmp_path / "log.jsonl"
    content = gzip.compress(content.encode()) if packed else content.encode()
    fails("line 31: the row holds 0.5", path, content)
    log = read(path, content, on_bad_row="skip")
    good = [n for n in range(50) if n not in (20, 30, 40)]
    assert log.events.rows() == [(f"u{n}", str(n % 7), n) for n in good]
    assert log.rows_read == 49
    assert log.skipped == {"a line that cannot be read": 1, "no readable time": 1}
    lines[30] = lines[0]
    fails("line 41: column 'timestamp' holds 'soon'", path, "\n".join(lines))


def test_a_bad_parquet_row_is_named(tmp_path):
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": ["x", None], "timestamp": [1, 2]})
    frame.write_parquet(path)
    with pytest.raises(InputError, match=r"log\.parquet, row 2: column 'item_id' is empty"):
        interactions.read_log([str(path)], LogSettings())


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
@pytest.mark.parametrize("break_", ["\n", "\r", "\r\n", "\0"])
def test_an_id_with_a_line_break_is_always_an_error(tmp_path, break_, on_bad_row):
    line = json.dumps({"user_id": "a", "item_id": f"x{break_}y", "timestamp": 1})
    fails("line 1: the id .* holds a line break", tmp_path / "a.jsonl", line, on_bad_row=on_bad_row)
    text = f'{HEADER}a,"x{break_}y",1\n'
    fails("line 2: the id .* holds a line break", tmp_path / "a.csv", text, on_bad_row=on_bad_row)


def test_half_a_surrogate_pair_is_an_error(tmp_path):
    line = r'{"user_id": "x\ud800", "item_id": 1, "timestamp": 2}'
    fails("line 1: the id .* holds a line break or NUL", tmp_path / "a.jsonl", line)


def test_lines_keep_their_numbers_when_others_are_left_out(tmp_path):
    text = HEADER + 'a,x,1,too long\nb,"y\nz",1\n'
    fails("line 3: the id", tmp_path / "a.csv", text, on_bad_row="skip")


def test_files_that_cannot_be_used(tmp_path):
    fails("no rows", tmp_path / "a.csv", "")
    fails("no rows", tmp_path / "a.jsonl", "\n \n")
    fails("no rows", tmp_path / "a.csv", HEADER)
    skip = {"on_bad_row": "skip"}
    fails("1 rows, none of them usable", tmp_path / "a.csv", HEADER + "a,,\n", **skip)
    fails("Columns found: 'user', 'item'", tmp_path / "a.csv", "user,item\na,b\n")
    fails("seems to be separated by ';'", tmp_path / "a.csv", "user_id;item_id;timestamp\na;x;1\n")
    fails("no column 'item_id'", tmp_path / "a.jsonl", '{"user_id": 1, "timestamp": 1}\n')
    fails(r"extension '.txt' .* Say --format=csv\|tsv", tmp_path / "a.txt.gz", "x")
    fails(r"extension '.json' .* Say --format", tmp_path / "a.json", "[]")
    fails("not a Parquet file", tmp_path / "a.parquet", "junk")
    for name in ("a.csv.gz", "a.jsonl.gz"):
        fails("cannot be read", tmp_path / name, gzip.compress(HEADER.encode() * 99)[:40])
    with pytest.raises(InputError, match="is a directory: name its files"):
        interactions.read_log([str(tmp_path)], LogSettings())
    with pytest.raises(InputError, match="no file matches"):
        interactions.read_log([str(tmp_path / "none-*.csv")], LogSettings())


def test_columns_that_cannot_be_used(tmp_path):
    path = tmp_path / "a.csv"
    fails("must name each of user, item and time once", path, "a,b\n", columns=["user", "item"])
    columns = ["user", "item", "x", "x", "time"]
    fails("name a column twice", path, "a,b\n", columns=columns)
    columns = ["user", "item", "rating", "time"]
    fails("3 columns in its first row, but --columns names 4", path, "a,b,1\n", columns=columns)
    fails("If this is a header", path, HEADER, columns=["user", "item", "time"])
    columns = ["user", "item", "time"]
    fails("this is jsonl", tmp_path / "a.jsonl", "{}", columns=columns)
    fails("user, item and time need different columns", path, HEADER, user_column="item_id")
    frame = pl.DataFrame({"user_id": [0.5], "item_id": ["x"], "timestamp": [1]})
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="type Float64; ids are text or integers"):
        interactions.read_log([str(tmp_path / "a.parquet")], LogSettings())
    frame = frame.with_columns(user_id=pl.lit("u"), timestamp=pl.lit(datetime.time(1)))
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="type Time; times are numbers"):
        interactions.read_log([str(tmp_path / "a.parquet")], LogSettings())


def test_item_names(tmp_path):
    path = tmp_path / "items.tsv.gz"
    text = 'item_id:token\ttitle\tyear\n1\tToy "Story"\t1995\n2\tHeat\n1\tagain\t2000\n3\n'
    write(path, gzip.compress(text.encode()))
    names = read_item_names(path)
    assert (names["1"], names["2"], "3" in names) == ('Toy "Story"', "Heat", False)
    write(tmp_path / "items.csv", '7,"Two\nlines, one name"\n')
    assert read_item_names(tmp_path / "items.csv") == {"7": "Two\nlines, one name"}
    write(tmp_path / "one.csv", "7\n8\n")
    with pytest.raises(InputError, match="wanted two: item id and name"):
        read_item_names(tmp_path / "one.csv")
    write(tmp_path / "names.jsonl", "{}")
    with pytest.raises(InputError, match="read from csv or tsv"):
        read_item_names(tmp_path / "names.jsonl")

"""Logs as other programs leave them: parts without rows, marks and markers, lossy columns, no times."""

import gzip
import io
from datetime import UTC, datetime

import polars as pl
import pytest

from causerec_tf.data.logs import times
from causerec_tf.data.logs.interactions import read_log
from causerec_tf.data.logs.item_names import read_item_names
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.data.logs.user_histories import read_user_ids
from causerec_tf.data.public.item_lists import read_item_lists
from causerec_tf.data.public.original_ids import read_original_ids
from causerec_tf.errors import InputError

HEADER = "user_id,item_id,timestamp\n"
JSON = '{"user_id": "u2", "item_id": "i2", "timestamp": 2}\n'


def parquet(frame):
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


NO_ROWS = {
    "a.csv": b"",
    "b.csv": HEADER.encode(),
    "c.csv": b"\xef\xbb\xbf\r\n \n",
    "a.csv.gz": gzip.compress(b""),
    "b.csv.gz": b"",
    "a.tsv": b"\n\n",
    "a.jsonl": b"",
    "b.jsonl": b"\n \n",
    "a.jsonl.gz": gzip.compress(b"\n"),
    "a.parquet": parquet(pl.DataFrame({"user_id": [], "item_id": [], "timestamp": []})),
    "b.parquet": parquet(pl.DataFrame({"user_id": [0.5], "timestamp": [False]}).clear()),
    "c.parquet": b"",
}


def write_all(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [str(folder / "*")]


def read(folder, files, **settings):
    return read_log(write_all(folder, files), LogSettings(**settings))


def test_a_part_without_rows_is_no_rows(tmp_path):
    log = read(tmp_path / "log", NO_ROWS | {"z.csv": HEADER + "u1,i1,1\n", "z.jsonl": JSON})
    assert log.events.rows() == [("u1", "i1", 1), ("u2", "i2", 2)]
    assert (log.rows_read, log.skipped, len(log.files)) == (2, {}, len(NO_ROWS) + 2)


@pytest.mark.parametrize("name", NO_ROWS)
def test_a_log_without_rows_is_an_error(tmp_path, name):
    with pytest.raises(InputError, match=r"no rows; a log needs at least one"):
        read(tmp_path / "log", {name: NO_ROWS[name]})


def test_of_many_files_without_rows_a_few_are_named(tmp_path):
    with pytest.raises(InputError, match=r"4\.csv and 3 more: no rows"):
        read(tmp_path / "log", {f"{number}.csv": b"" for number in range(8)})


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz"])
def test_without_a_header_a_blank_part_is_no_rows_too(tmp_path, name):
    separator = "," if "csv" in name else "\t"
    text = separator.join(("u1", "i1", "1"))
    log = read(tmp_path / "log", {name: b"", "b" + name[1:]: text}, columns=["user", "item", "time"])
    assert log.events.rows() == [("u1", "i1", 1)]


def test_item_lists_of_which_some_are_empty(tmp_path):
    patterns = write_all(tmp_path / "log", {"_SUCCESS": "", "a.txt": "", "b.txt": "1 5 3\n", "c.txt": "\n"})
    assert read_item_lists(patterns, on_bad_row="error").events.rows() == [("1", "5", 0), ("1", "3", 1)]


def test_what_spark_writes_beside_its_data_is_left_out(tmp_path):
    part = HEADER + "u1,i1,1\n"
    folder = tmp_path / "_log"  # what the pattern itself has is meant
    write_all(folder, {"_SUCCESS": "", "._SUCCESS.crc": "crc", "part-0.csv": part, "_part-1.csv": part})
    write_all(folder / "_temporary", {"part-2.csv": part})
    for pattern in ("*", "part*", "*.csv"):
        assert read_log([f"{folder}/{pattern}"], LogSettings()).files == ("part-0.csv",)
    with pytest.raises(InputError, match=r"'.*/\*/\*' matches nothing but names .*part-2.csv'"):
        read_log([f"{folder}/*/*"], LogSettings())
    for named in (f"{folder}/_part-*", f"{folder}/_part-1.csv", f"{folder}/_temporary/*"):
        assert read_log([named], LogSettings()).rows_read == 1


MARK = "\ufeff"
MARKED_JSON = "".join(f'{MARK}{{"user_id":"u1","item_id":"i{n}","timestamp":{n}}}\n' for n in (1, 2))


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", f"{MARK}u1,i1,1\n{MARK}{MARK}u1,i2,2\n", ["user", "item", "time"]),
        ("a.csv", f"{MARK}{HEADER}u1,i1,1\n{MARK}\n{MARK}u1,i2,2\n", None),
        ("a.tsv", f"{MARK}u1\ti1\t1\r\n{MARK}u1\ti2\t2\r\n", ["user", "item", "time"]),
        ("a.jsonl", MARKED_JSON, None),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_mark_at_the_start_of_any_line_is_none_of_its_text(tmp_path, name, text, columns, packed):
    content = text.encode()
    files = {name + ".gz": gzip.compress(content)} if packed else {name: content}
    assert read(tmp_path / "log", files, columns=columns).events.rows() == [("u1", "i1", 1), ("u1", "i2", 2)]


def test_marks_in_lists_of_items_of_users_and_of_original_ids(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(f"{MARK}1 5\n{MARK}2 6\n", encoding="utf-8")
    assert read_item_lists([str(path)], on_bad_row="error").events.rows() == [("1", "5", 0), ("2", "6", 0)]
    assert read_user_ids(path).to_list() == ["1 5", "2 6"]
    assert read_original_ids(path) == {"5": "1", "6": "2"}


LINES = "user_id,item_id,timestamp\nu1,i1,1\nu1,i2,2\n"


def foreign(text):
    """Text in ways of writing that are not read."""
    return [
        (text.encode("utf-16"), r"is UTF-16; wanted UTF-8\. Convert it with `iconv"),
        (text.encode("utf-16-le"), "is UTF-16; wanted UTF-8"),
        (text.encode("utf-16-be"), "is UTF-16; wanted UTF-8"),
        (text.replace("\n", "\r").encode(), r"ends its lines with a bare CR.*`tr '\\r' '\\n'`"),
        (b"sep=,\r\n" + text.encode(), "begins with a line 'sep='.* Remove it"),
        (b'\xef\xbb\xbf"sep=;"\n' + text.encode(), "begins with a line 'sep='"),
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.jsonl"])
@pytest.mark.parametrize("number", range(6))
def test_what_is_not_read_is_named_as_what_it_is(tmp_path, name, number):
    text = JSON * 2 if "json" in name else LINES
    content, message = foreign(text)[number]
    content = gzip.compress(content) if name.endswith(".gz") else content
    for settings in ({}, {"on_bad_row": "skip"}):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_log([str(tmp_path / name)], LogSettings(**settings))


@pytest.mark.parametrize("number", range(6))
def test_nor_is_it_in_the_other_files(tmp_path, number):
    content, message = foreign("1 5\n2 6\n")[number]
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    readers = (
        read_user_ids,
        read_original_ids,
        read_item_names,
        lambda path: read_item_lists([str(path)], on_bad_row="skip"),
    )
    for reader in readers:
        with pytest.raises(InputError, match=message):
            reader(path)


def test_item_names_that_are_empty(tmp_path):
    (tmp_path / "names.csv").write_text("\n")
    with pytest.raises(InputError, match="is empty; wanted two columns"):
        read_item_names(tmp_path / "names.csv")


def lossy(moments, dtype, **settings):
    frame = pl.DataFrame({"user_id": "u", "item_id": "i", "timestamp": pl.Series(moments).cast(dtype)})
    return {"log.parquet": parquet(frame)}, settings


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
@pytest.mark.parametrize(
    ("moments", "dtype"),
    [
        ([1_714_978_941, 1_714_979_000], pl.Float32),
        ([None, 5, -16_777_218], pl.Float32),
        ([2050.0], pl.Float16),
    ],
)
def test_a_column_too_coarse_for_its_times_is_refused(tmp_path, moments, dtype, on_bad_row):
    files, settings = lossy(moments, dtype, on_bad_row=on_bad_row)
    message = r"log\.parquet: column 'timestamp' is of type Float(16|32), which is too coarse .*as integers"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "log", files, **settings)


@pytest.mark.parametrize(
    ("moments", "dtype"),
    [([1.5, 16_777_216.0], pl.Float32), ([2048.0], pl.Float16), ([1_714_978_941.5, 1e10], pl.Float64)],
)
def test_a_column_that_holds_its_times_is_read(tmp_path, moments, dtype):
    files, settings = lossy(moments, dtype)
    wanted = [round(moment * 1_000_000) for moment in moments]
    assert read(tmp_path / "log", files, **settings).events["time"].to_list() == wanted


def test_integers_beyond_what_a_double_holds_are_refused(tmp_path):
    files, settings = lossy([1_714_978_941_123_456_789], pl.Float64)
    message = r"row 1: column 'timestamp' holds 1\.71\S+, which is not read .* write finer units as integers"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "log", files, **settings)


@pytest.mark.parametrize("text", ["1.71498E+12", "1.7e9", "17.1498E+11", "2E+12", "-1.5e+10"])
def test_times_that_a_spreadsheet_has_cut_are_refused(tmp_path, text):
    (tmp_path / "log.csv").write_text(f"{HEADER}u,a,{text}\nu,b,1714980000000\n")
    message = r"log\.csv, line 2: column 'timestamp' holds .* digits a spreadsheet has cut"
    with pytest.raises(InputError, match=message):
        read_log([str(tmp_path / "log.csv")], LogSettings())
    log = read_log([str(tmp_path / "log.csv")], LogSettings(on_bad_row="skip"))
    # The whole number beside it stays one: it has not become decimal seconds.
    assert log.events.rows() == [("u", "b", 1_714_980_000_000)]
    assert (log.time_unit, log.skipped) == (times.AS_GIVEN, {"no readable time": 1})


@pytest.mark.parametrize(("text", "seconds"), [("1e3", 1_000), ("1.714978941e+09", 1_714_978_941)])
def test_scientific_notation_with_all_digits_is_read(tmp_path, text, seconds):
    log = read(tmp_path / "log", {"a.csv": f"{HEADER}u,a,{text}\n"})
    assert log.events["time"].to_list() == [seconds * 1_000_000]


@pytest.mark.parametrize(
    ("time_format", "text", "wanted"),
    [
        ("%d/%m/%Y", " 03/04/2012 ", datetime(2012, 4, 3, tzinfo=UTC)),
        ("%d.%m.%y %H:%M", "03.04.12 18:05", datetime(2012, 4, 3, 18, 5, tzinfo=UTC)),
        ("%m/%d/%Y %I:%M:%S %p", "04/03/2012 06:05:07 PM", datetime(2012, 4, 3, 18, 5, 7, tzinfo=UTC)),
        ("%d/%b/%Y:%H:%M:%S %z", "03/Apr/2012:18:05:07 -0130", datetime(2012, 4, 3, 19, 35, 7, tzinfo=UTC)),
        ("%a %b %d %H:%M %z %Y", "Tue Apr 03 18:05 +0000 2012", datetime(2012, 4, 3, 18, 5, tzinfo=UTC)),
        ("%Y%m%d", "20120403", datetime(2012, 4, 3, tzinfo=UTC)),
    ],
)
def test_other_times_are_read_by_their_format(tmp_path, time_format, text, wanted):
    log = read(tmp_path / "log", {"a.csv": f"{HEADER}u,a,{text}\n"}, time_format=time_format)
    assert log.events["time"].to_list() == [int(wanted.timestamp()) * 1_000_000]
    assert log.time_unit == times.MICROSECONDS


def test_a_time_that_is_not_of_the_format_is_a_bad_row(tmp_path):
    files = {"a.csv": f"{HEADER}u,a,31/12/2012\nu,b,2012-12-31\nu,c,32/12/2012\n"}
    message = r"line 3: column 'timestamp' holds '2012-12-31', which is not read .* --time_format='%d/%m/%Y'"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "log", files, time_format="%d/%m/%Y")
    log = read_log([f"{tmp_path}/log/*"], LogSettings(time_format="%d/%m/%Y", on_bad_row="skip"))
    assert (log.events["item"].to_list(), log.skipped) == (["a"], {"no readable time": 2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time_format": ""}, "time_format '' is empty"),
        ({"time_format": "%d/%m/%Y %H:%M %Z"}, "has %Z, but the name of a zone"),
        ({"time_format": "%Y-%m-%d %H"}, "cannot be used: .*specify both hour and minute"),
        ({"time_format": "%Y", "order": "file"}, "order=file reads no times"),
        ({"columns": ["user", "item"]}, r"must name each of user, item and time once.*--order=file"),
        ({"columns": ["user", "time"], "order": "file"}, r"must name each of user and item once"),
        ({"item_column": "user_id", "order": "file"}, r"user and item need different columns"),
        ({"time_column": "when"}, r"no column 'when'.*for a log without times, --order=file"),
    ],
)
def test_settings_of_times_that_cannot_be_used(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / "log", {"a.csv": LINES}, **settings)


def test_a_format_of_times_reads_text_alone(tmp_path):
    files, _ = lossy([20_120_403], pl.Int64)
    with pytest.raises(InputError, match="is of type Int64; --time_format reads text"):
        read(tmp_path / "log", files, time_format="%Y%m%d")


def test_in_a_log_without_times_the_order_of_its_rows_is_the_time(tmp_path):
    files = {
        "1.csv": "user_id,item_id\nu1,c\nu1,a\n",
        "2.jsonl": '{"user_id":"u2","item_id":"b"}\n{"user_id":"u1"}\n{"user_id":"u1","item_id":"b"}\n',
        "3.csv": "user_id,item_id,timestamp\nu2,a,soon\n",
        "4.parquet": parquet(pl.DataFrame({"user_id": ["u1"], "item_id": ["d"]})),
    }
    log = read(tmp_path / "log", files, order="file", on_bad_row="skip")
    assert log.events.rows() == [
        ("u1", "c", 0),
        ("u1", "a", 1),
        ("u2", "b", 2),
        ("u1", "b", 3),
        ("u2", "a", 4),
        ("u1", "d", 5),
    ]
    assert (log.time_unit, log.rows_read) == ("position in the log", 7)
    assert log.skipped == {"no item id": 1}
    log = read(
        tmp_path / "bare", {"a.csv": "u1,3,b\nu2,1,a\n"}, order="file", columns=["user", "time", "item"]
    )
    assert log.events.rows() == [("u1", "b", 0), ("u2", "a", 1)]


def test_an_extension_that_tells_nothing_brings_up_every_format(tmp_path):
    with pytest.raises(
        InputError, match=r"--format=csv\|tsv\|jsonl\|parquet, or .*item_lists\|amazon_reviews\|comirec"
    ):
        read(tmp_path / "log", {"train.txt": "1 2 3\n"})

import gzip
import json

import polars as pl
import pytest

from export.batch.history_files import Columns, expand, read_histories
from export.batch.recommendation_files import RecommendationWriter
from export.store import text_files
from export.store.bundle_errors import BundleError
from export.towers.answers import Recommendation

ROWS = [("u1", ["a", "é", "3"]), ("2", []), ("u3", ["x"])]
JSON_LINES = (
    '{"user_id": "u1", "history": ["a", "é", 3], "more": 1}\n\n'
    '{"user_id": 2, "history": []}\n{"user_id": "u3", "history": "x"}\n'
)
CSV = "more,user_id,history\n1,u1,a é 3\n2,2,\n3,u3, x \n"


def read(path, columns=None, **arguments):
    rows = read_histories(expand([str(path)]), columns or Columns(), **arguments)
    return [(row.user_id, row.history) for row in rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("h.jsonl", JSON_LINES.encode()),
        ("h.JSONL", b"\xef\xbb\xbf" + JSON_LINES.encode()),
        ("h.jsonl.gz", gzip.compress(JSON_LINES.encode(), mtime=0)),
        ("h.csv", CSV.encode()),
        ("h.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("h.tsv", CSV.replace(",", "\t").encode()),
    ],
)
def test_text_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    seen = []
    assert read(tmp_path / name, on_progress=seen.append) == ROWS
    assert sum(seen) == len(content)


def test_a_quote_in_a_tab_separated_file_is_a_quote(tmp_path):
    lines = ["user_id\thistory", "ok1\ti1", 'u2\t"12 i1', "u3\ti2", 'u4\ti3"', '"u5"\t"i4"']
    (tmp_path / "h.tsv").write_text("\n".join(lines) + "\n")
    assert read(tmp_path / "h.tsv") == [
        ("ok1", ["i1"]),
        ("u2", ['"12', "i1"]),
        ("u3", ["i2"]),
        ("u4", ['i3"']),
        ('"u5"', ['"i4"']),
    ]


def test_parquet_with_lists_and_with_strings(tmp_path):
    users = ["u1", "2", "u3", "u4"]
    lists = pl.DataFrame({"user_id": users, "history": [["a", "é", "3"], [], ["x"], None]})
    lists.write_parquet(tmp_path / "l.parquet")
    strings = pl.DataFrame({"user_id": users, "history": ["a é 3", "", "x", None]})
    strings.write_parquet(tmp_path / "s.parquet")
    numbers = pl.DataFrame({"user_id": [1, 2], "history": [[-5, 0], [7]]})
    numbers.write_parquet(tmp_path / "n.parquet")
    assert read(tmp_path / "l.parquet") == [*ROWS, ("u4", [])]
    assert read(tmp_path / "s.parquet") == [*ROWS, ("u4", [])]
    assert read(tmp_path / "n.parquet") == [("1", ["-5", "0"]), ("2", ["7"])]


def test_names_like_patterns_are_those_of_files(tmp_path):
    for name, user in (("h[1].parquet", "of the file"), ("h1.parquet", "of another")):
        pl.DataFrame({"user_id": [user], "history": [["a"]]}).write_parquet(tmp_path / name)
    assert read(tmp_path / "h[1].parquet") == [("of the file", ["a"])]
    output = tmp_path / "run[1]" / "out[*].parquet"
    with RecommendationWriter(output, overwrite=False) as writer:
        writer.write(["u1"], [recommendation("a")])
        writer.write(["u2"], [recommendation("b")])
    assert pl.read_parquet(output, glob=False)["user_id"].to_list() == ["u1", "u2"]


def test_a_long_parquet_file_keeps_its_order(tmp_path):
    frame = pl.DataFrame({"user_id": range(20_001), "history": [["a"]] * 20_001})
    frame.write_parquet(tmp_path / "h.parquet", row_group_size=7_000)
    assert [int(user) for user, _ in read(tmp_path / "h.parquet")] == list(range(20_001))


NO_ROWS = {
    "a.jsonl": b"",
    "b.jsonl": b"\xef\xbb\xbf\n \n",
    "a.csv": b"",
    "b.csv": b"\n\n",
    "c.csv": b"user_id,history\n",
    "a.csv.gz": b"",
    "b.csv.gz": gzip.compress(b"", mtime=0),
    "a.tsv": b" \n",
    "a.parquet": b"",
}


def test_a_part_without_rows_holds_no_history(tmp_path):
    for name, content in NO_ROWS.items():
        (tmp_path / name).write_bytes(content)
    pl.DataFrame({"user_id": []}).write_parquet(tmp_path / "b.parquet")
    (tmp_path / "z.csv").write_bytes(b"\n\nuser_id,history\nu1,a b\n")
    assert read(tmp_path / "*") == [("u1", ["a", "b"])]
    for name in NO_ROWS:
        assert read(tmp_path / name) == []


def test_what_spark_writes_beside_its_data_is_left_out(tmp_path):
    folder = tmp_path / "_histories"  # what the pattern itself has is meant
    (folder / "_temporary").mkdir(parents=True)
    for name in ("_SUCCESS", "._SUCCESS.crc", ".part-0.csv.crc", "part-0.csv", "_p.csv", "_temporary/p.csv"):
        (folder / name).write_text("user_id,history\nu1,a\n")
    for pattern in ("*", "**/*.csv"):
        assert expand([f"{folder}/{pattern}"]) == [folder / "part-0.csv"]
    for named in ("_p*", "_p.csv", "_temporary/*"):
        assert len(expand([f"{folder}/{named}"])) == 1
    with pytest.raises(BundleError, match="matches nothing but names that begin with '_'"):
        expand([f"{folder}/*/*"])


@pytest.mark.parametrize("packed", [False, True])
def test_a_mark_at_the_start_of_any_line_is_none_of_its_text(tmp_path, packed):
    mark, suffix = "\ufeff", ".gz" if packed else ""
    rows = ('{"user_id": "u1", "history": ["a"]}', '{"user_id": "u2", "history": ["b"]}')
    for name, lines in (("h.jsonl", rows), ("h.csv", ("user_id,history", "u1,a", "u2,b"))):
        content = "".join(f"{mark}{line}\n" for line in (*lines[:-1], mark + lines[-1])).encode()
        (tmp_path / (name + suffix)).write_bytes(gzip.compress(content) if packed else content)
        assert read(tmp_path / (name + suffix)) == [("u1", ["a"]), ("u2", ["b"])]


@pytest.mark.parametrize("name", ["h.csv", "h.csv.gz", "h.tsv", "h.jsonl"])
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda text: text.encode("utf-16"), "is UTF-16; wanted UTF-8"),
        (lambda text: text.encode("utf-16-le"), "is UTF-16; wanted UTF-8"),
        (lambda text: text.encode("utf-16-be"), "is UTF-16; wanted UTF-8"),
        (lambda text: text.replace("\n", "\r").encode(), "ends its lines with a bare CR"),
        (lambda text: b"\xef\xbb\xbfsep=,\r\n" + text.encode(), "begins with a line 'sep='"),
    ],
)
def test_what_is_not_read_is_named_as_what_it_is(tmp_path, name, made, message):
    content = made("user_id,history\nu1,a\n" if "sv" in name else JSON_LINES)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    for on_bad_row in (None, lambda _error: None):
        with pytest.raises(BundleError, match=message):
            read(tmp_path / name, on_bad_row=on_bad_row)


def test_columns_and_separator_are_named(tmp_path):
    (tmp_path / "h.csv").write_text('who,what\nu1,"a b|c"\n')
    assert read(tmp_path / "h.csv", Columns("who", "what", "|")) == [("u1", ["a b", "c"])]


def test_globs_go_by_name(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in expand([str(tmp_path / "*.jsonl")])] == ["a.jsonl", "b.jsonl"]
    with pytest.raises(BundleError, match="No file matches"):
        expand([str(tmp_path / "*.csv")])
    with pytest.raises(BundleError, match="rename or convert"):
        expand([str(tmp_path / "*")])


def test_a_file_that_several_patterns_match_is_read_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        (tmp_path / name).write_text("")
    (tmp_path / "d.jsonl").symlink_to("a.jsonl")
    found = expand(["b.jsonl", "*.jsonl", str(tmp_path / "[ab].jsonl"), f"../{tmp_path.name}/c.jsonl"])
    assert list(map(str, found)) == ["b.jsonl", "a.jsonl", "c.jsonl"]


def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "x[1].jsonl").write_text("")
    assert expand([str(tmp_path / "x[1].jsonl")]) == [tmp_path / "x[1].jsonl"]
    (tmp_path / "x1.jsonl").write_text("")
    assert expand([str(tmp_path / "x[1].jsonl")]) == [tmp_path / "x[1].jsonl"]
    assert expand([str(tmp_path / "x[12].jsonl")]) == [tmp_path / "x1.jsonl"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [([""], "an empty name"), (["h.jsonl", ""], "an empty name"), ([], "an empty name")]
    + [([name], f"'{name}' is a directory: name its files") for name in (".", "/", "..")]
    + [(["h/**.csv"], r"(is no pattern of files|No file matches)")],  # by the version of Python
)
def test_patterns_without_a_name(tmp_path, monkeypatch, patterns, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h.jsonl").write_text("")
    with pytest.raises(BundleError, match=message):
        expand(patterns)


BAD_LINES = [
    ("{", "not JSON"),
    ("[1]", "wanted an object with 'user_id' and 'history'"),
    ('{"user_id": "u"}', "wanted an object with 'history'"),
    ('{"user_id": null, "history": []}', "None is not an id"),
    ('{"user_id": true, "history": []}', "True is not an id"),
    ('{"user_id": "u", "history": 5}', "wanted a list"),
    ('{"user_id": "u", "history": {"a": 1}}', "wanted a list"),
    ('{"user_id": "u", "history": ["a", null]}', "None is not an id"),
    ('{"user_id": "u", "history": [["a"]]}', r"\['a'\] is not an id"),
    ('{"user_id": "u", "history": [1.5]}', "1.5 is not an id"),
    ('{"user_id": "\\ud83d", "history": ["a"]}', r"'\\ud83d' is not an id; half a surrogate pair"),
    ('{"user_id": "u", "history": ["\\ud83d"]}', r"'\\ud83d' is not an id; half a surrogate pair"),
    (b'{"user_id": "\xff", "history": ["a"]}', "not UTF-8"),
    (b'{"user_id": "u", "history": ["a"], "more": "\xff"}', "not UTF-8"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_bad_row_is_an_error_of_that_row(tmp_path, line, message):
    good = '{"user_id": "u", "history": ["a"]}\n'
    path = tmp_path / "h.jsonl"
    line = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(good.encode() + line + b"\n" + good.encode())
    with pytest.raises(BundleError, match=rf"h\.jsonl, line 2.*{message}"):
        read(path)
    skipped = []
    assert read(path, on_bad_row=skipped.append) == [("u", ["a"])] * 2
    assert len(skipped) == 1


BAD_RECORDS = [
    (b"1,u2,a,b", "4 cells, where the header has 3"),
    (b'1,u2,"i1" i2', "not readable as CSV"),
    (b"1,u2,i1\ri2", "not readable as CSV"),
    (b"1,u\xff,i1", "not UTF-8"),
    (b"\xff,u2,i1", "not UTF-8"),
    ('1,u2,"é'.encode(), "not readable as CSV"),  # it opens a quote that nothing closes
]


@pytest.mark.parametrize(("line", "message"), BAD_RECORDS)
def test_a_bad_record_costs_no_other_row(tmp_path, line, message):
    path = tmp_path / "h.csv"
    many = "".join(f"1,v{number},é\n" for number in range(3)).encode()
    path.write_bytes(b'more,user_id,history\n1,u1,"a\nb"\n' + line + b"\n" + many + line + b"\n" + many[:8])
    with pytest.raises(BundleError, match=rf"h\.csv, line 4: {message}"):
        read(path)
    skipped = []
    good = [("u1", ["a\nb"]), *((f"v{number}", ["é"]) for number in (0, 1, 2, 0))]
    assert read(path, on_bad_row=skipped.append) == good
    assert [str(error).split(": ")[0] for error in skipped] == [f"{path}, line {n}" for n in (4, 8)]


def test_an_open_quote_does_not_hold_the_rest_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_MOST_RECORD_BYTES", 1_000)
    users = [f"v{number}" for number in range(10_000)]
    path = tmp_path / "h.csv"
    path.write_text('user_id,history\nu1,a\nu2,"b\n' + "".join(f"{user},c\n" for user in users))
    skipped, progress = [], []
    rows = read(path, on_bad_row=skipped.append, on_progress=progress.append)
    assert rows == [("u1", ["a"]), *((user, ["c"]) for user in users)]
    assert [str(error) for error in skipped] == [
        f"{path}, line 3: not readable as CSV (no end within 1,000 bytes; is a quote open?)."
    ]
    assert max(progress) < 1_100 and sum(progress) == path.stat().st_size
    with pytest.raises(BundleError, match=r"line 3: .*no end within 1,000 bytes"):
        read(path)


def test_of_many_bad_records_each_is_one(tmp_path):
    (tmp_path / "h.csv").write_text("user_id,history\n" + 'u,"i1" i2\n' * 20_000 + "u1,a")
    skipped = []
    assert read(tmp_path / "h.csv", on_bad_row=skipped.append) == [("u1", ["a"])]
    assert len(skipped) == 20_000


def test_a_bad_row_of_a_table(tmp_path):
    (tmp_path / "h.csv").write_text("user_id,history\nu1,a\nu2,a,b\n")
    with pytest.raises(BundleError, match="line 3: 3 cells, where the header has 2"):
        read(tmp_path / "h.csv")
    pl.DataFrame({"user_id": ["a", None], "history": [["x"], ["y"]]}).write_parquet(tmp_path / "h.parquet")
    with pytest.raises(BundleError, match="row 2: None is not an id"):
        read(tmp_path / "h.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("h.csv", b"user,history\n", "no column 'user_id'; it has 'user', 'history'"),
        ("h.csv", b"x\n", "no column 'user_id' and 'history'"),
        ("h.csv", b'user_id,"history\nu1,a\n', "line 1: not readable as CSV"),
        ("h.csv", b"user_id,history,\xff\nu1,a,b\n", "line 1: not UTF-8"),
        ("h.jsonl.gz", gzip.compress(JSON_LINES.encode(), mtime=0)[:-9], "cannot be read"),
        ("h.jsonl.gz", JSON_LINES.encode(), "cannot be read"),
        ("h.jsonl.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "cannot be read"),
        ("h.parquet", b"PAR1 but not really PAR1", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for on_bad_row in (None, lambda _error: None):
        with pytest.raises(BundleError, match=message):
            read(tmp_path / name, on_bad_row=on_bad_row)


def recommendation(*items):
    return Recommendation(list(items), [1.5] * len(items), 2, not items, "v")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_written_in_batches_it_is_one_file(tmp_path, suffix):
    path = tmp_path / "made" / f"out{suffix}"
    with RecommendationWriter(path, overwrite=False) as writer:
        writer.write(["u1", "u2"], [recommendation("a", "é"), recommendation()])
        writer.write(["u3"], [recommendation("c")])
        assert not path.exists()
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    if suffix == ".parquet":
        rows = pl.read_parquet(path).to_dicts()
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["user_id"] for row in rows] == ["u1", "u2", "u3"]
    assert rows[0] == {
        "user_id": "u1",
        "items": ["a", "é"],
        "scores": [1.5, 1.5],
        "num_unknown": 2,
        "fallback": False,
        "version": "v",
        "plan": "index",
    }
    assert (rows[1]["items"], rows[1]["fallback"]) == ([], True)


def test_where_a_link_points_to_is_written_and_the_link_stays(tmp_path):
    link, target = tmp_path / "latest.jsonl", tmp_path / "disk" / "monday.jsonl"
    link.symlink_to(target)
    for user in ("u1", "u2"):
        with RecommendationWriter(link, overwrite=True) as writer:
            writer.write([user], [recommendation("a")])
        assert link.is_symlink() and f'"{user}"' in target.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["monday.jsonl"]


def test_an_error_leaves_nothing_and_what_was_there(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(BundleError, match="--overwrite"):
        RecommendationWriter(path, overwrite=False)
    with pytest.raises(RuntimeError), RecommendationWriter(path, overwrite=True) as writer:
        writer.write(["u"], [recommendation("a")])
        raise RuntimeError
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["out.jsonl"]
    with pytest.raises(BundleError, match=r"\.jsonl or \.parquet"):
        RecommendationWriter(tmp_path / "out.csv", overwrite=False)

"""Lines `user item item ...`, as LightGCN publishes Yelp2018 and Gowalla."""

import gzip

import pytest

from causerec_tf.data.logs import times
from causerec_tf.data.public.item_lists import read_item_lists
from causerec_tf.errors import InputError

TRAIN = "0 5 3 9\n1 4\n2 7 7\n"
TEST = "0 1 5\n1 \n2\n3 8\n"
# User 1 and user 2 have no item in the test part; user 3 none in the training part.
EVENTS = [
    *[("0", item, place) for place, item in enumerate(["5", "3", "9", "1", "5"])],
    ("1", "4", 0),
    ("2", "7", 0),
    ("2", "7", 1),
    ("3", "8", 0),
]


@pytest.fixture(name="files")
def fixture_files(tmp_path):
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "test.txt").write_text(TEST)
    return [str(tmp_path / "train.txt"), str(tmp_path / "test.txt")]


def test_a_users_test_part_follows_its_training_part(files):
    log = read_item_lists(files, on_bad_row="error")
    assert sorted(log.events.rows(), key=lambda row: (row[0], row[2])) == EVENTS
    assert (log.time_unit, log.rows_read, log.skipped) == (times.AS_GIVEN, 7, {})
    assert log.files == ("train.txt", "test.txt")


def test_gzip_globs_windows_line_ends_and_blank_lines(tmp_path):
    (tmp_path / "part-0.txt.gz").write_bytes(gzip.compress(TRAIN.replace("\n", "\r\n\n").encode()))
    (tmp_path / "part-1.txt").write_text(TEST.strip())
    log = read_item_lists([str(tmp_path / "part-*")], on_bad_row="error")
    assert sorted(log.events.rows(), key=lambda row: (row[0], row[2])) == EVENTS
    assert log.rows_read == 7


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1 4 x 6", "line 3: column 3 holds 'x'; wanted integers"),
        (b"org_id remap_id", "line 3: column 1 holds 'org_id'; wanted integers"),
        (b"1 4.0", r"line 3: column 2 holds '4\.0'"),
        (b"1 \xff", "line 3: column 2 holds"),
        (b"1 99999999999999999999", "line 3: column 2 holds '99999999999999999999'"),
        (b"1,4", "line 3: column 1 holds '1,4'"),
    ],
)
def test_a_bad_line_is_named_or_left_out(tmp_path, line, message):
    path = tmp_path / "train.txt"
    path.write_bytes(b"0 5 3\n\n" + line + b"\n2 7\n")
    with pytest.raises(InputError, match=rf"train\.txt, {message}.*--on_bad_row=skip"):
        read_item_lists([str(path)], on_bad_row="error")
    log = read_item_lists([str(path)], on_bad_row="skip")
    assert log.events.rows() == [("0", "5", 0), ("0", "3", 1), ("2", "7", 0)]
    assert (log.rows_read, log.skipped) == (3, {"a line that cannot be read": 1})


def test_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "train.txt"
    for content in (b"", b"\n\n", b"1\n2 \n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="none of them with a user and an item"):
            read_item_lists([str(path)], on_bad_row="error")
    path.write_bytes(gzip.compress(TRAIN.encode() * 99)[:40])
    with pytest.raises(InputError, match="cannot be read"):
        read_item_lists([str(path)], on_bad_row="error")
    with pytest.raises(InputError, match="no file matches"):
        read_item_lists([str(tmp_path / "none.txt")], on_bad_row="error")

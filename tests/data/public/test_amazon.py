"""Amazon reviews in JSON lines, the triples that ComiRec makes of them, and its tables of ids."""

import dataclasses
import gzip
import json

import polars as pl
import pytest

from causerec_tf.data.logs.interactions import read_log
from causerec_tf.data.public import amazon
from causerec_tf.data.public.original_ids import read_original_ids, restore_ids
from causerec_tf.errors import InputError

REVIEWS = [("A10000012B7CGYKOMPQ4L", "000100039X", 1355616000), ("A2S166WSCFIFP5", "000100039X", 1071100800)]


def review(user, item, moment):
    return json.dumps(
        {
            "reviewerID": user,
            "asin": item,
            "reviewerName": 'Adam "asin": 1.5',
            "helpful": [0, 0],
            "reviewText": "Spiritually\nand mentally inspiring!",
            "overall": 5.0,
            "summary": "Wonderful!",
            "unixReviewTime": moment,
            "reviewTime": "12 16, 2012",
            "style": {"Format:": " Hardcover"},
        }
    )


def test_reviews(tmp_path):
    path = tmp_path / "reviews_Books_5.json.gz"
    path.write_bytes(gzip.compress("".join(review(*row) + "\n" for row in REVIEWS).encode()))
    log = read_log([str(path)], amazon.REVIEWS)
    assert log.events.rows() == REVIEWS
    assert log.files == ("reviews_Books_5.json.gz",)


def test_a_bad_review_is_named_or_left_out(tmp_path):
    path = tmp_path / "Books_5.json"
    lines = [review(*REVIEWS[0]), review("A1", None, 1), review("A1", "x", "soon"), "{", review(*REVIEWS[1])]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"Books_5\.json, line 4: the row is not JSON"):
        read_log([str(path)], amazon.REVIEWS)
    del lines[3]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"Books_5\.json, line 2: column 'asin' is empty"):
        read_log([str(path)], amazon.REVIEWS)
    log = read_log([str(path)], dataclasses.replace(amazon.REVIEWS, on_bad_row="skip"))
    assert log.events.rows() == REVIEWS
    assert log.skipped == {"no item id": 1, "no readable time": 1}
    path.write_text('{"user_id": 1}\n')
    with pytest.raises(InputError, match="has no column 'reviewerID'"):
        read_log([str(path)], amazon.REVIEWS)


def test_triples_of_comirec(tmp_path):
    (tmp_path / "book_train.txt").write_text("0,31,0\n0,7,1\n4,31,0\n")
    (tmp_path / "book_test.txt").write_text("2,9,0\n")
    patterns = [str(tmp_path / f"book_{part}.txt") for part in ("train", "test")]
    log = read_log(patterns, amazon.TRIPLES)
    assert log.events.rows() == [("0", "31", 0), ("0", "7", 1), ("4", "31", 0), ("2", "9", 0)]
    (tmp_path / "book_test.txt").write_text("2,9,0\n2,,1\n")
    with pytest.raises(InputError, match=r"book_test\.txt, line 2: column 'item' is empty"):
        read_log(patterns, amazon.TRIPLES)


@pytest.mark.parametrize(
    "text",
    [
        "0001,2\nB00X,17\n",
        "org_id remap_id\n0001 2\nB00X 17\n",
        "org_id remap_id freebase_id\n0001 2 m.1\nB00X 17 m.2",
    ],
)
def test_original_ids_come_back(tmp_path, text):
    path = tmp_path / "item_list.txt"
    path.write_text(text)
    originals = read_original_ids(path)
    assert originals == {"2": "0001", "17": "B00X"}
    ids = pl.Series("item", ["17", "2", "17"])
    assert restore_ids(ids, originals, path).to_list() == ["B00X", "0001", "B00X"]
    with pytest.raises(InputError, match=r"item_list\.txt has no line for item '3' of the log"):
        restore_ids(pl.Series("item", ["2", "3"]), originals, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a 1\nb\n", "line 2: got 'b'; wanted an original id and the number"),
        ("a 1\nb x\n", "line 2: got 'b x'"),
        ("a,1\nb,1\n", "line 2: the id 'b' or the number 1 stands in an earlier line too"),
        ("a,1\na,2\n", "line 2: the id 'a' or the number 2"),
    ],
)
def test_a_table_of_ids_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "item_list.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_original_ids(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_original_ids(tmp_path / "none.txt")

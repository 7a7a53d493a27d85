"""Amazon reviews (Books and the other categories), raw or as ComiRec's preparation writes them."""

from collections.abc import Sequence

from causerec_tf.data.interactions import Log, read_log


def read_reviews(patterns: Sequence[str], *, on_bad_row: str = "error") -> Log:
    """Reads reviews in JSON lines, such as `reviews_Books_5.json.gz` of 2014 or `Books_5.json.gz` of 2018.

    Args:
      patterns: globs.
      on_bad_row: `error`, or `skip`: leave it out and count it.

    Returns:
      The log; an item's id is its `asin`, a time is in seconds, whole days.

    Raises:
      InputError: a file, a column or a row cannot be used; the message says where and why.
    """
    return read_log(
        patterns,
        file_format="jsonl",
        user_column="reviewerID",
        item_column="asin",
        time_column="unixReviewTime",
        on_bad_row=on_bad_row,
    )


def read_triples(patterns: Sequence[str], *, on_bad_row: str = "error") -> Log:
    """Reads `book_train.txt`, `book_valid.txt` and `book_test.txt`: a line `user,item,position`.

    Args:
      patterns: globs.
      on_bad_row: `error`, or `skip`: leave it out and count it.

    Returns:
      The log; ids are the numbers in the files, a time is the position in the user's sequence.

    Raises:
      InputError: a file or a row cannot be used; the message says where and why.
    """
    return read_log(patterns, file_format="csv", columns=("user", "item", "time"), on_bad_row=on_bad_row)

"""Amazon reviews (Books and the other categories), raw or as ComiRec's preparation writes them.

Both are logs: what is given here is their format and columns, as `read_log` takes them.
"""

from causerec_tf.data.logs.log_settings import LogSettings

# Reviews in JSON lines, such as `reviews_Books_5.json.gz` of 2014 or `Books_5.json.gz` of 2018. An item's id
# is its `asin`; a time is in seconds, whole days.
REVIEWS = LogSettings(
    file_format="jsonl", user_column="reviewerID", item_column="asin", time_column="unixReviewTime"
)
# `book_train.txt`, `book_valid.txt` and `book_test.txt`: a line `user,item,position`. Ids are the numbers in
# the files, a time is the position in the user's sequence.
TRIPLES = LogSettings(file_format="csv", columns=("user", "item", "time"))

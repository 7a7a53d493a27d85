"""Filters against pure Python."""

import hashlib
import random

import pytest

from causerec_tf.data.splits import filters
from causerec_tf.errors import InputError
from tests import reference_data
from tests.reference_data import frame


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("min_user_count", "min_item_count"), [(1, 1), (3, 1), (1, 4), (3, 6)])
def test_core_filter_equals_the_slow_twin(seed, min_user_count, min_item_count):
    rows = reference_data.odd_rows(random.Random(seed))
    wanted = reference_data.core_filter(rows, min_user_count, min_item_count)
    kept = filters.core_filter(frame(rows), min_user_count=min_user_count, min_item_count=min_item_count)
    assert kept.rows() == wanted
    assert wanted


def test_core_filter_goes_on_until_both_hold():
    # Without z (one event) user c has one event, without c item y has one, and so on to nothing.
    chain = [("a", "x"), ("a", "y"), ("c", "y"), ("c", "z")]
    events = frame([(user, item, 0) for user, item in chain])
    with pytest.raises(InputError, match=r"no user is left of 4 .*min_user_count=2"):
        filters.core_filter(events, min_user_count=2, min_item_count=2)
    with pytest.raises(InputError, match="min_item_count is 0; it must be at least 1"):
        filters.apply_filters(events, filters.Filters(min_item_count=0), 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_keep_last_equals_the_ends_of_the_sequences(seed, count):
    rows = reference_data.odd_rows(random.Random(seed))
    kept = filters.keep_last(frame(rows), count).rows()
    wanted = {user: events[-count:] for user, events in reference_data.sequences(rows).items()}
    assert reference_data.sequences(kept) == wanted


def test_keep_last_refuses_less_than_one():
    with pytest.raises(InputError, match="max_user_count is 0; it must be at least 1"):
        filters.apply_filters(frame([("a", "x", 1)]), filters.Filters(max_user_count=0), 0)


def test_a_share_of_the_training_users_is_fixed_nested_and_leaves_the_rest_whole():
    users = [f"user {number}" for number in range(4000)]
    events = frame([(user, f"item {place % 50}", place) for place, user in enumerate(users)])
    splits = {user: reference_data.split_and_shard(user, 3, 1)[0] for user in users}
    training = {user for user in users if splits[user] == 0}
    smaller: set[str] = set()
    for share in (0.05, 0.1, 0.5, 0.999, 1.0):
        kept = filters.share_training_users(events, share, 3)
        left = set(kept["user"])
        assert left - training == set(users) - training
        assert smaller <= left
        deviation = (share * (1 - share) * len(training)) ** 0.5
        assert abs(len(left & training) - share * len(training)) <= 5 * deviation
        assert kept.rows() == [row for row in events.rows() if row[0] in left]
        smaller = left
    assert smaller == set(users)


def test_the_threshold_of_the_share_is_exact():
    users = [f"user {number}" for number in range(3000)]
    events = frame([(user, "x", 0) for user in users])
    kept = set(filters.share_training_users(events, 0.3, 0)["user"])
    for user in users:
        digest = hashlib.blake2b(user.encode(), digest_size=16, key=b"0").digest()
        first = int.from_bytes(digest[:8], "big")
        # 0.8 * 0.3 is 24 hundredths.
        assert (user in kept) == (100 * first < 24 * 2**64 or 10 * first >= 8 * 2**64)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(InputError, match="it must be above 0 and at most 1"):
        filters.apply_filters(frame([("a", "x", 1)]), filters.Filters(training_share=share), 0)

"""Disturbed histories: counts, places and items, against lists in plain Python."""

import bisect
import math

import numpy as np
import pytest

from causerec_tf.data.holdout import EvaluationUsers, last_items
from causerec_tf.data.ragged import ItemLists
from causerec_tf.errors import InputError
from causerec_tf.studies import disturbances

NUM_ITEMS = 40
RATES = (0.1, 0.3, 0.5, 1.0)


def lists(rows):
    splits = np.cumsum([0, *map(len, rows)])
    return ItemLists(np.array([item for row in rows for item in row], np.int32), splits)


def rows_of(one):
    return [row.tolist() for row in one]


@pytest.fixture(name="users", scope="module")
def fixture_users():
    rng = np.random.default_rng(3)
    seen = [rng.integers(1, NUM_ITEMS + 1, size=n).tolist() for n in (1, 2, 4, 5, 15, 30, *[12] * 200)]
    targets = [rng.permutation(NUM_ITEMS)[:5] + 1 for _ in seen]
    ids = np.array([f"u{number}" for number in range(len(seen))], object)
    return EvaluationUsers(ids, last_items(lists(seen), 8), lists(seen), lists(targets))


def of_kind(kind, users, draw=0, seed=0):
    arguments = {"seed": seed, "draw": draw}
    if kind == "insertion":
        return disturbances.random_insertions(users, NUM_ITEMS, **arguments)
    if kind == "popular":
        return disturbances.popular_insertions(users, np.arange(NUM_ITEMS)[::-1] ** 2, **arguments)
    if kind == "replacement":
        return disturbances.replacements(users, NUM_ITEMS, **arguments)
    return disturbances.attack(users, 7, **arguments)


def disturb(kind, users, clicks, rate):
    way = disturbances.replace if kind == "replacement" else disturbances.insert
    return way(users.seen, clicks, rate)


KINDS = ("insertion", "replacement", "popular", "attack")


def wanted_count(length, rate):
    tenths = round(rate * 10)
    return (
        math.floor(length * tenths / 10 + 0.5) if (length * tenths) % 10 != 5 else (length * tenths + 5) // 10
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_exactly_so_many_strangers_and_the_rest_in_its_order(users, kind, rate):
    changed = rows_of(disturb(kind, users, of_kind(kind, users), rate))
    for before, after, targets in zip(rows_of(users.seen), changed, rows_of(users.targets), strict=True):
        own = {*before, *targets}
        count = wanted_count(len(before), rate)
        if kind == "attack" and 7 in own:
            assert after == before
            continue
        strange = [item not in own for item in after]
        assert sum(strange) == count
        if kind == "replacement":
            assert len(after) == len(before)
            assert all(new or one == old for one, old, new in zip(after, before, strange, strict=True))
        else:
            assert [one for one, new in zip(after, strange, strict=True) if not new] == before
        if kind == "attack":
            assert all(one == 7 for one, new in zip(after, strange, strict=True) if new)


def test_insertion_equals_the_list_of_python(users):
    clicks = of_kind("insertion", users)
    for rate in RATES:
        changed = rows_of(disturbances.insert(users.seen, clicks, rate))
        for number, before in enumerate(rows_of(users.seen)):
            first, count = clicks.row_splits[number], wanted_count(len(before), rate)
            keyed = [(2 * place + 1, item) for place, item in enumerate(before)]
            for place, item in zip(clicks.places[first:], clicks.items[first : first + count], strict=False):
                at = bisect.bisect_right([key for key, _ in keyed], 2 * place)
                keyed.insert(at, (2 * place, item))
            assert changed[number] == [item for _, item in keyed]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_and_draw_repeat_whatever_a_tower_reads(users, kind):
    longer = EvaluationUsers(users.user_ids, last_items(users.seen, 3), users.seen, users.targets)
    one, same = of_kind(kind, users), of_kind(kind, longer)
    for name in ("items", "places", "row_splits"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    for other in (of_kind(kind, users, draw=1), of_kind(kind, users, seed=1)):
        assert not np.array_equal(one.places, other.places)


def test_kinds_share_their_places_and_a_higher_rate_adds_to_a_lower(users):
    insertion, popular = of_kind("insertion", users), of_kind("popular", users)
    assert np.array_equal(insertion.places, popular.places)
    clicks = of_kind("replacement", users)
    low, high = (rows_of(disturbances.replace(users.seen, clicks, rate)) for rate in (0.2, 0.5))
    for before, a, b in zip(rows_of(users.seen), low, high, strict=True):
        assert all(y == x for x, y, old in zip(a, b, before, strict=True) if x != old)


@pytest.mark.parametrize("rate", RATES)
def test_removal_takes_what_replacement_overwrites_and_leaves_one(users, rate):
    clicks = of_kind("replacement", users)
    replaced = rows_of(disturbances.replace(users.seen, clicks, rate))
    removed = rows_of(disturbances.remove(users.seen, clicks, rate))
    for number, (before, overwritten, after) in enumerate(
        zip(rows_of(users.seen), replaced, removed, strict=True)
    ):
        stays = [old for old, new in zip(before, overwritten, strict=True) if new == old]
        # Where a rate takes all, the position that it takes last is left.
        last_taken = before[clicks.places[clicks.row_splits[number + 1] - 1]]
        assert after == (stays or [last_taken])


def test_places_are_uniform_and_popular_items_are_popular(users):
    gaps = of_kind("insertion", users).places[users.seen.row_splits[6] :]  # of 200 histories of 12
    counts = np.bincount(gaps, minlength=13)
    assert len(counts) == 13
    assert ((counts - 2400 / 13) ** 2 / (2400 / 13)).sum() < 12 + 5 * math.sqrt(24)
    random, popular = of_kind("insertion", users).items, of_kind("popular", users).items
    assert abs(random.mean() - (NUM_ITEMS + 1) / 2) < 1.5
    assert popular.mean() < 14  # item 1 weighs most


def test_the_tower_reads_the_last_items_right_padded():
    got = last_items(lists([[1, 2, 3, 4], [5], [], [6, 7]]), 2)
    assert got.tolist() == [[3, 4], [5, 0], [0, 0], [6, 7]]
    assert got.dtype == np.int32


def test_attacked_items_lie_in_their_bands():
    chosen = disturbances.attacked_items(1200, 3, seed=0)
    bounds = {"top 1 %": (1, 12), "1 to 10 %": (13, 120), "10 to 50 %": (121, 600), "last 50 %": (601, 1200)}
    assert list(chosen) == list(bounds)
    for band, (low, high) in bounds.items():
        assert len(set(chosen[band].tolist())) == 3
        assert (chosen[band] >= low).all() and (chosen[band] <= high).all()
    again = disturbances.attacked_items(1200, 3, seed=0)
    assert all(np.array_equal(chosen[band], again[band]) for band in bounds)
    assert list(disturbances.attacked_items(20, 3, seed=0)) == ["1 to 10 %", "10 to 50 %", "last 50 %"]


def test_what_cannot_be_is_refused(users):
    with pytest.raises(InputError, match=r"rate of disturbance is 1\.5: wanted 0 to 1"):
        disturbances.num_clicks(np.array([3]), 1.5)
    all_items = lists([range(1, NUM_ITEMS + 1)])
    full = EvaluationUsers(np.array(["u"], object), last_items(all_items, 3), all_items, lists([[1]]))
    with pytest.raises(InputError, match="user u has all 40 items"):
        disturbances.random_insertions(full, NUM_ITEMS, seed=0, draw=0)

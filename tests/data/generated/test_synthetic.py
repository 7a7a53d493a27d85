"""The generated world keeps what its equations promise."""

import collections

import numpy as np
import polars as pl
import pytest

from causerec_tf.data.generated import synthetic
from causerec_tf.errors import InputError


@pytest.fixture(name="world", scope="module")
def fixture_world():
    return synthetic.generate()


def user_numbers(world):
    return np.array([int(user.split("-")[1]) - 1 for user in world.users])


def test_the_same_seed_is_the_same_world(world):
    again, other = synthetic.generate(), synthetic.generate(seed=1)
    for name in ("users", "items", "times", "is_noise", "item_names", "user_interests"):
        assert np.array_equal(getattr(world, name), getattr(again, name))
    assert not np.array_equal(world.items[:100], other.items[:100])


def test_events_agree_with_the_catalogue(world):
    assert (world.item_ids[world.item_index] == world.items).all()
    assert len(set(world.item_ids)) == len(set(world.item_names)) == 1200
    assert len(set(world.users)) == 6000
    lengths = np.bincount(user_numbers(world))
    assert lengths.min() >= 5
    assert abs(lengths.mean() - 30) < 5 * np.sqrt(25 / 6000)


def test_the_events_are_a_log_of_text_and_times():
    world = synthetic.generate(num_users=40, num_items=30, num_interests=5)
    events = world.events()
    assert events.schema == {"user": pl.String, "item": pl.String, "time": pl.Int64}
    wanted = [
        (f"user-{user + 1:06d}", f"item-{item + 1:05d}", time)
        for user, item, time in zip(user_numbers(world), world.item_index, world.times, strict=True)
    ]
    assert events.rows() == wanted


def test_times_grow_within_a_user(world):
    user = user_numbers(world)
    assert (np.diff(user) >= 0).all()
    assert (np.diff(world.times)[np.diff(user) == 0] > 0).all()


def test_names_show_the_interest(world):
    by_interest = collections.defaultdict(set)
    for name, interest in zip(world.item_names, world.item_interest, strict=True):
        by_interest[interest].add(name.split()[0])
    assert len(by_interest) == 24
    assert all(len(themes) == 1 for themes in by_interest.values())
    assert len(set.union(*by_interest.values())) == 24
    assert world.item_names[0] == "Jazz 1: Blue Harbour"


def test_many_interests_still_have_names_of_their_own():
    world = synthetic.generate(num_users=5, num_items=2000, num_interests=1000)
    assert len(set(world.item_names)) == 2000


def test_interests_and_noise(world):
    sizes = world.user_interests.sum(axis=1)
    assert np.allclose(np.bincount(sizes, minlength=4)[1:] / 6000, 1 / 3, atol=0.03)
    own = world.user_interests[user_numbers(world), world.item_interest[world.item_index]]
    assert own[~world.is_noise].all()
    assert abs(world.is_noise.mean() - 0.2) < 0.01
    # Noise meets one's own interests by chance only: two of 24 in the mean.
    assert abs(own[world.is_noise].mean() - 2 / 24) < 0.01


def test_popularity_within_an_interest_is_zipf(world):
    events = world.item_index[~world.is_noise]
    ranks = np.bincount(events // 24, minlength=50)
    wanted = np.arange(1, 51) ** -0.8
    assert np.allclose(ranks / ranks.sum(), wanted / wanted.sum(), atol=0.005)


def test_an_unlearnable_world_is_uniform_for_everyone():
    world = synthetic.generate(learnable=False)
    own = world.user_interests[user_numbers(world), world.item_interest[world.item_index]]
    assert abs(own.mean() - 2 / 24) < 0.005
    counts = np.bincount(world.item_index, minlength=1200)
    chi_squared = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert abs(chi_squared - 1199) < 5 * np.sqrt(2 * 1199)


def test_in_a_sequential_world_the_item_before_tells_the_next():
    world = synthetic.generate(sequential=True)
    follows = np.flatnonzero(np.diff(user_numbers(world)) == 0)
    before, after = world.item_index[follows], world.item_index[follows + 1]
    pairs = collections.Counter(zip(before.tolist(), after.tolist(), strict=True))
    successor = {}
    for (one, other), _ in pairs.most_common():
        successor.setdefault(one, other)
    hits = np.mean([successor[one] == other for one, other in zip(before, after, strict=True)])
    assert abs(hits - 0.8 * 0.9) < 0.03
    # One cycle through the whole catalogue.
    item, steps = successor[0], 1
    while item != 0:
        item, steps = successor[item], steps + 1
    assert steps == 1200
    # The interest of an item says next to nothing of the next one's.
    same = world.item_interest[before] == world.item_interest[after]
    assert same.mean() < 0.15


def test_in_the_plain_world_the_order_tells_nothing(world):
    follows = np.flatnonzero(np.diff(user_numbers(world)) == 0)
    apart = follows[follows + 4 < len(world.items)]
    user = user_numbers(world)
    apart = apart[user[apart] == user[apart + 4]]
    interest = world.item_interest[world.item_index]
    near = (interest[follows] == interest[follows + 1]).mean()
    far = (interest[apart] == interest[apart + 4]).mean()
    assert abs(near - far) < 0.01


def test_worlds_that_cannot_be():
    with pytest.raises(InputError, match="at least one item an interest"):
        synthetic.generate(num_items=3, num_interests=4)
    with pytest.raises(InputError, match=r"noise_rate=1.5 must lie in \[0, 1\]"):
        synthetic.generate(noise_rate=1.5)
    with pytest.raises(InputError, match="events_per_user=2 be at"):
        synthetic.generate(events_per_user=2)

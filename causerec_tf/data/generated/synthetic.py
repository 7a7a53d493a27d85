"""A generated world of named items, known interests and known noise.

Because the answer is known, it shows whether a model learns what is there and finds nothing where
there is nothing. It also stands in for a log where there is none yet.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from causerec_tf.errors import InputError

_THEMES = (
    "Jazz", "Gardening", "Astronomy", "Baking", "Sailing", "Mystery", "Origami", "Cycling",
    "Chess", "Pottery", "Climbing", "Opera", "Birdsong", "Robotics", "Camping", "Ballet",
    "Cartoons", "Knitting", "Surfing", "History", "Coffee", "Photography", "Fencing", "Magic",
)  # fmt: skip
_ADJECTIVES = (
    "Blue", "Quiet", "Golden", "Hidden", "Little", "Northern", "Silver", "Wandering",
    "Early", "Secret", "Crimson", "Patient", "Distant", "Merry", "Hollow", "Amber",
    "Winter", "Paper", "Lucky", "Midnight", "Gentle", "Copper", "Restless", "Open",
)  # fmt: skip
_NOUNS = (
    "Harbour", "Orchard", "Lantern", "River", "Compass", "Meadow", "Window", "Mountain",
    "Garden", "Feather", "Bridge", "Island", "Kettle", "Forest", "Letter", "Station",
    "Mirror", "Valley", "Ribbon", "Tower", "Shore", "Market", "Cloud", "Lighthouse", "Path",
)  # fmt: skip
_ZIPF_EXPONENT = 0.8
_BREAK_RATE = 0.1  # sequential worlds: how many events break the walk from item to item
_FIRST_TIME = 1_700_000_000
_LONGEST_PAUSE = 86_400


@dataclass(frozen=True)
class World:
    """A log and what is true of it.

    Attributes:
      users: [events] object (str), ids of the users.
      items: [events] object (str), ids of the items.
      times: int64 [events], seconds, strictly growing within a user.
      is_noise: bool [events], whether the event was drawn from the whole catalogue.
      item_index: int64 [events], position of the item in the three arrays below.
      item_ids: [items] object (str).
      item_names: [items] object (str), such as "Jazz 12: Blue Harbour"; the word before the number
        is the interest.
      item_interest: int64 [items], the one interest of each item.
      user_interests: bool [users, interests]; the users are in the order of their first event.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    is_noise: np.ndarray
    item_index: np.ndarray
    item_ids: np.ndarray
    item_names: np.ndarray
    item_interest: np.ndarray
    user_interests: np.ndarray

    def events(self) -> pl.DataFrame:
        """The log as a raw one is read: columns `user`, `item` (text) and `time` (int64)."""
        return pl.DataFrame({"user": self.users, "item": self.items, "time": self.times})


def generate(
    *,
    num_users: int = 6000,
    num_items: int = 1200,
    num_interests: int = 24,
    noise_rate: float = 0.2,
    events_per_user: float = 30.0,
    learnable: bool = True,
    sequential: bool = False,
    seed: int = 0,
) -> World:
    """Generates a world.

    With G interests, item `j` has the interest `j mod G`; r(j) = j div G is its rank within it,
    from 0. User `u` has a set I(u) of 1, 2 or 3 interests, all sizes alike, and n(u) events,
    5 + Poisson(mean - 5). Each is noise with probability p = `noise_rate`: uniform over the
    catalogue. If not,

        P(item j | u)    =  1 / |I(u)|  *  (r(j) + 1)^-0.8 / Z     for interest(j) in I(u),

    independent of the events before: what a user did tells its interests, the order tells nothing.

    `sequential=True`: the order carries the signal. Item `j` has one successor s(j), and the
    successors form one random cycle through the whole catalogue, so that the interest of an item
    says nothing of the next one's. An event that is not noise follows the event before it:

        item(t) = s(item(t - 1))   with probability 0.9,   as above for the rest and for t = 0,

    where a noise event is followed like any other. The last item alone tells the next one; a bag of
    items does not say which of them was the last.

    `learnable=False`: every event is uniform over the catalogue, whoever the user is. In the mean
    nothing beats a guess.

    Args:
      num_users: number of users.
      num_items: number of items in the catalogue.
      num_interests: G.
      noise_rate: p.
      events_per_user: mean number of events of a user, at least 5.
      learnable: whether the events depend on the user.
      sequential: whether they depend on the event before.
      seed: another seed is another world.

    Raises:
      InputError: a setting is out of range.
    """
    if not 1 <= num_interests <= num_items or num_users < 1:
        raise InputError(
            f"a world of {num_users} users, {num_items} items and {num_interests} interests cannot"
            " be; wanted a user, and at least one item an interest."
        )
    if not 0 <= noise_rate <= 1 or events_per_user < 5:
        raise InputError(
            f"noise_rate={noise_rate} must lie in [0, 1], events_per_user={events_per_user} be at least 5."
        )
    random = np.random.default_rng(seed)
    item_interest = np.arange(num_items) % num_interests
    user_interests = _draw_interests(random, num_users, num_interests)
    lengths = 5 + random.poisson(events_per_user - 5, num_users)
    user = np.repeat(np.arange(num_users), lengths)
    uniform = random.integers(0, num_items, len(user))
    if learnable:
        is_noise = random.random(len(user)) < noise_rate
        interesting = _draw_items(random, user, user_interests, num_items, num_interests)
        if sequential:
            interesting = _walk(random, lengths, is_noise, uniform, interesting, num_items)
        item = np.where(is_noise, uniform, interesting)
    else:
        is_noise, item = np.ones(len(user), bool), uniform
    item_ids = np.array([f"item-{number:05d}" for number in range(1, num_items + 1)], object)
    user_ids = np.array([f"user-{number:06d}" for number in range(1, num_users + 1)], object)
    return World(
        users=user_ids[user],
        items=item_ids[item],
        times=_draw_times(random, lengths),
        is_noise=is_noise,
        item_index=item,
        item_ids=item_ids,
        item_names=item_names(np.arange(num_items), num_interests),
        item_interest=item_interest,
        user_interests=user_interests,
    )


def item_names(items: np.ndarray, num_interests: int) -> np.ndarray:
    """The names of items by their numbers from 0, int [any number]: object (str)."""
    return np.array([_name(int(number), num_interests) for number in items], object)


def _draw_interests(random: np.random.Generator, num_users: int, num_interests: int) -> np.ndarray:
    """Sets of 1, 2 or 3 interests, bool [users, interests]."""
    sizes = random.integers(1, min(3, num_interests) + 1, num_users)
    rank = random.random((num_users, num_interests)).argsort(axis=1).argsort(axis=1)
    return rank < sizes[:, np.newaxis]


def _draw_items(
    random: np.random.Generator,
    user: np.ndarray,
    user_interests: np.ndarray,
    num_items: int,
    num_interests: int,
) -> np.ndarray:
    """For each event one of its user's interests, in it an item by Zipf's law, int64 [events]."""
    sizes = user_interests.sum(axis=1)
    interests = np.nonzero(user_interests)[1]  # user after user
    first = np.cumsum(sizes) - sizes
    interest = interests[first[user] + random.integers(0, sizes[user])]
    item = np.empty(len(user), np.int64)
    for one in range(num_interests):
        events = np.flatnonzero(interest == one)
        ranks = np.arange(len(range(one, num_items, num_interests)))
        weights = (ranks + 1.0) ** -_ZIPF_EXPONENT
        drawn = random.choice(ranks, size=len(events), p=weights / weights.sum())
        item[events] = drawn * num_interests + one
    return item


def _walk(
    random: np.random.Generator,
    lengths: np.ndarray,
    is_noise: np.ndarray,
    uniform: np.ndarray,
    fresh: np.ndarray,
    num_items: int,
) -> np.ndarray:
    """Lets most events follow the one before, all users in step, int64 [events]."""
    cycle = random.permutation(num_items)
    successor = np.empty(num_items, np.int64)
    successor[cycle] = np.roll(cycle, -1)
    follows = random.random(len(fresh)) >= _BREAK_RATE
    item = np.where(is_noise, uniform, fresh)
    starts = np.cumsum(lengths) - lengths
    for step in range(1, lengths.max()):
        event = (starts + step)[lengths > step]
        event = event[follows[event] & ~is_noise[event]]
        item[event] = successor[item[event - 1]]
    return item


def _draw_times(random: np.random.Generator, lengths: np.ndarray) -> np.ndarray:
    """Pauses of a second to a day between the events of a user, int64 [events]."""
    elapsed = np.cumsum(random.integers(1, _LONGEST_PAUSE + 1, lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    return _FIRST_TIME + elapsed - np.repeat(elapsed[starts], lengths)


def _name(item: int, num_interests: int) -> str:
    rank, interest = divmod(item, num_interests)
    theme = _THEMES[interest % len(_THEMES)]
    if num_interests > len(_THEMES):
        theme += f" {chr(ord('A') + interest // len(_THEMES))}" if interest < 24 * 26 else f" {interest}"
    # 24 adjectives and 25 nouns have no common divisor, so that pairs repeat only after 600 items.
    word = rank + 7 * interest
    return f"{theme} {rank + 1}: {_ADJECTIVES[word % len(_ADJECTIVES)]} {_NOUNS[word % len(_NOUNS)]}"

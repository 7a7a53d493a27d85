"""Histories with clicks in them that do not belong there. No model and no TensorFlow.

What is drawn depends on the users and the seed alone, so that every system meets the same clicks, and clicks
do not depend on the rates that are looked at: a higher rate keeps the clicks of a lower one and adds to them.
The whole history is disturbed, not the part that some tower reads, for towers differ in how much they read.

Of what makes `Clicks`, `users` are those whose histories get them, and `draw` is the number of one of the
draws of a `seed`. A user who has the whole catalogue is an `InputError`, as is a rate outside of [0, 1].
Shapes: U users; ragged lists of items as in `data.ragged`.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.ragged import ItemLists, row_splits, rows_and_positions
from causerec_tf.errors import InputError

# Bands of the catalogue in the order of training frequency: the share of the items at which each ends.
BANDS = {"top 1 %": 0.01, "1 to 10 %": 0.1, "10 to 50 %": 0.5, "last 50 %": 1.0}

# Streams of random numbers, each of its own purpose.
_PLACES, _POSITIONS, _RANDOM_ITEMS, _POPULAR_ITEMS, _ATTACKED_ITEMS = range(5)


@dataclass(frozen=True)
class Clicks:
    """For each user as many clicks as the history has items, in the order in which a rising rate takes them.

    Attributes:
      items: int32 [entries], what was clicked.
      places: int64 [entries], where: a gap (before the history's item of that number; the last gap is behind
        its last item) for clicks to insert, a position for clicks that replace.
      row_splits: int64 [U + 1], those of the histories; equal neighbours for a user who gets none.
    """

    items: np.ndarray
    places: np.ndarray
    row_splits: np.ndarray


def num_clicks(lengths: np.ndarray, rate: float) -> np.ndarray:
    """How many clicks a rate makes of lengths, int [U]: `rate * length`, rounded, a half up, int64 [U]."""
    if not 0 <= rate <= 1:
        raise InputError(f"a rate of disturbance is {rate}: wanted 0 to 1.")
    # Exact: in binary floating point .3 * 15 + .5 may fall below 5.
    share = Fraction(str(rate))
    return (2 * share.numerator * lengths.astype(np.int64) + share.denominator) // (2 * share.denominator)


def random_insertions(users: EvaluationUsers, num_items: int, *, seed: int, draw: int) -> Clicks:
    """Clicks for `insert`, at gaps drawn uniformly, on items drawn uniformly from the `num_items` of all.

    Only those that the user has nowhere, neither in the history nor among the targets.
    """
    items = _strangers(users, np.ones(num_items), _random(seed, draw, _RANDOM_ITEMS))
    return Clicks(items, _gaps(users.seen, seed, draw), users.seen.row_splits)


def popular_insertions(users: EvaluationUsers, frequencies: np.ndarray, *, seed: int, draw: int) -> Clicks:
    """The same places, with items drawn in proportion to their training frequency, [V], plus 1."""
    items = _strangers(users, frequencies + 1.0, _random(seed, draw, _POPULAR_ITEMS))
    return Clicks(items, _gaps(users.seen, seed, draw), users.seen.row_splits)


def replacements(users: EvaluationUsers, num_items: int, *, seed: int, draw: int) -> Clicks:
    """Clicks for `replace`: items of `random_insertions`, at distinct positions drawn uniformly."""
    items = _strangers(users, np.ones(num_items), _random(seed, draw, _RANDOM_ITEMS))
    rows, positions = users.seen.rows_and_positions()
    keys = _random(seed, draw, _POSITIONS).random(len(rows))
    return Clicks(items, positions[np.lexsort((keys, rows))], users.seen.row_splits)


def attacked_items(num_items: int, num_draws: int, *, seed: int) -> dict[str, np.ndarray]:
    """Items to push: so many of each band of popularity, or all it has, drawn uniformly within it.

    Returns:
      Band -> int64 [at most num_draws], distinct; without the bands that hold no item.
    """
    random = _random(seed, 0, _ATTACKED_ITEMS)
    chosen, first = {}, 0
    for band, share in BANDS.items():
        end = int(Fraction(str(share)) * num_items)
        items = 1 + first + random.permutation(end - first)[:num_draws]
        if len(items):
            chosen[band] = items
        first = end
    return chosen


def attack(users: EvaluationUsers, item: int, *, seed: int, draw: int) -> Clicks:
    """The places of `random_insertions`, with clicks on one item only; users who have it get none."""
    has_item = np.zeros(len(users), bool)
    for lists in (users.seen, users.targets):
        rows, _ = lists.rows_and_positions()
        has_item[rows[lists.items == item]] = True
    lengths = np.diff(users.seen.row_splits)
    gets = np.repeat(~has_item, lengths)
    return Clicks(
        np.full(gets.sum(), item, np.int32),
        _gaps(users.seen, seed, draw)[gets],
        row_splits(np.where(has_item, 0, lengths)),
    )


def insert(histories: ItemLists, clicks: Clicks, rate: float) -> ItemLists:
    """Longer histories: `num_clicks` of the clicks, whose places are gaps, are put in.

    Those in one gap stand in the order of the clicks.
    """
    click_rows, taken = _taken(histories, clicks, rate)
    rows, positions = histories.rows_and_positions()
    all_rows = np.concatenate([click_rows[taken], rows])
    # Gap g lies before item g; of equal keys the sort keeps the order.
    places = np.concatenate([2 * clicks.places[taken], 2 * positions + 1])
    order = np.lexsort((places, all_rows))
    items = np.concatenate([clicks.items[taken], histories.items])[order]
    return ItemLists(items, row_splits(np.bincount(all_rows, minlength=len(histories))))


def replace(histories: ItemLists, clicks: Clicks, rate: float) -> ItemLists:
    """Histories of the same length: `num_clicks` of the clicks, at positions, stand where items stood."""
    click_rows, taken = _taken(histories, clicks, rate)
    items = histories.items.copy()
    items[histories.row_splits[click_rows[taken]] + clicks.places[taken]] = clicks.items[taken]
    return ItemLists(items, histories.row_splits)


def remove(histories: ItemLists, clicks: Clicks, rate: float) -> ItemLists:
    """Shorter histories: the items that `replace` would overwrite go, and nothing takes their place.

    What `replace` costs beyond this is what the foreign items do; the rest is for want of the true ones. A
    history keeps at least one item.
    """
    click_rows, taken = _taken(histories, clicks, rate)
    # The click that a history's last item would fall to is the one of its last number.
    last = np.zeros(len(taken), bool)
    last[clicks.row_splits[1:][np.diff(clicks.row_splits) > 0] - 1] = True
    taken &= ~last
    stays = np.ones(len(histories.items), bool)
    stays[histories.row_splits[click_rows[taken]] + clicks.places[taken]] = False
    rows, _ = histories.rows_and_positions()
    return ItemLists(histories.items[stays], row_splits(np.bincount(rows[stays], minlength=len(histories))))


def _random(seed: int, draw: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, draw, stream])


def _gaps(histories: ItemLists, seed: int, draw: int) -> np.ndarray:
    """As many gaps as the history has items, 0 to its length, int64 [entries]."""
    lengths = np.diff(histories.row_splits)
    return _random(seed, draw, _PLACES).integers(0, np.repeat(lengths, lengths) + 1)


def _strangers(users: EvaluationUsers, weights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As many items as the history has, that the user has nowhere, int32 [entries]; repeats are allowed."""
    stride = len(weights) + 1
    own = np.unique(
        np.concatenate(
            [one.rows_and_positions()[0] * stride + one.items for one in (users.seen, users.targets)]
        )
    )
    counts = np.bincount(own // stride, minlength=len(users))
    if (counts == len(weights)).any():
        user_id = users.user_ids[int(counts.argmax())]
        raise InputError(
            f"user {user_id} has all {len(weights)} items of the catalogue: there is none to disturb with."
        )
    bounds = np.cumsum(weights)
    rows, _ = users.seen.rows_and_positions()
    items = np.zeros(len(rows), np.int32)
    # What the user has is drawn again: the rest keeps its proportions.
    left = np.arange(len(rows))
    while len(left):
        drawn = np.searchsorted(bounds, random.random(len(left)) * bounds[-1], side="right")
        items[left] = np.minimum(drawn, len(weights) - 1) + 1
        left = left[np.isin(rows[left] * stride + items[left], own)]
    return items


def _taken(histories: ItemLists, clicks: Clicks, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """The user of each click, and which clicks the rate takes: int64 and bool [entries]."""
    counts = num_clicks(np.diff(histories.row_splits), rate)
    rows, number = rows_and_positions(np.diff(clicks.row_splits))
    return rows, number < counts[rows]

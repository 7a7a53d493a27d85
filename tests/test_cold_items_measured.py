"""The benchmark of cold items: who is drawn, and that none but measured users has an event of theirs."""

import numpy as np
import polars as pl

from benchmarks import cold_item_draw
from causerec_tf.data.splits.user_split import SPLITS, place_users


def test_one_of_ten_of_neighbouring_popularity_is_cold():
    by_popularity = [f"i{number}" for number in range(47)]
    drawn = cold_item_draw.draw_cold(by_popularity, 3)
    assert drawn == cold_item_draw.draw_cold(by_popularity, 3) != cold_item_draw.draw_cold(by_popularity, 4)
    assert sorted(int(item[1:]) // 10 for item in drawn) == [0, 1, 2, 3]


def test_nobody_but_the_measured_users_has_an_event_of_a_cold_item():
    users = [f"u{number}" for number in range(200)]
    log = pl.DataFrame({"user": np.repeat(users, 3), "item": ["cold", "seen", "cold"] * 200, "time": 0})
    splits = dict(zip(users, place_users(users, 0, 1)[0].tolist(), strict=True))
    for measured in ("validation", "test"):
        left = cold_item_draw.without_cold(log, {"cold"}, measured)
        having = left.filter(pl.col("item") == "cold")["user"].unique().to_list()
        wanted = [user for user in users if SPLITS[splits[user]] == measured]
        assert sorted(having) == sorted(wanted)
        assert (left["item"] == "seen").sum() == 200


def test_the_rare_half_is_of_trained_items():
    assert (
        cold_item_draw.rare_half(np.array([9, 5, 2, 1, 0, 0])).tolist()
        == [False] * 3 + [True] * 2 + [False] * 2
    )

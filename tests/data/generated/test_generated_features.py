"""The generated world with features: they tell what is true, and new items are new."""

import numpy as np
import polars as pl
import pytest

import causerec_tf as cr
from causerec_tf.data.generated import generated_features, synthetic
from causerec_tf.data.holdout import evaluation_users
from causerec_tf.errors import InputError
from tests import reference_data

WORLD = synthetic.generate(num_users=600, num_items=48, num_interests=6, seed=3)


def test_features_tell_what_is_true_of_the_world():
    made = generated_features.with_features(WORLD)
    theme = dict(made.items.select("item_id", "theme").iter_rows())
    assert len(theme) == 48 + 12 and len(set(theme.values())) == 6
    for item, interest in zip(WORLD.item_ids, WORLD.item_interest, strict=True):
        assert theme[item] == theme[WORLD.item_ids[interest]]
        assert made.item_names[item].startswith(theme[item])
    own = WORLD.user_interests
    for (user, favourite), interests in zip(made.users.iter_rows(), own, strict=True):
        assert favourite in {theme[WORLD.item_ids[one]] for one in np.flatnonzero(interests)}, user
    rating = made.events["event/rating"].to_numpy()
    assert set(rating) == {1.0, 2.0, 4.0, 5.0}
    changed = made.events["item"].to_numpy() != WORLD.items
    is_low = (rating < 3)[~changed]
    assert (is_low != WORLD.is_noise[~changed]).mean() == pytest.approx(0.1, abs=0.02)


def test_new_items_are_the_last_of_users_outside_of_training_and_of_their_favourite_theme():
    made = generated_features.with_features(WORLD, split_seed=7)
    theme = dict(made.items.select("item_id", "theme").iter_rows())
    favourite = dict(made.users.iter_rows())
    found = made.events.with_row_index().filter(pl.col("item").is_in(made.new_items))
    last = dict(made.events.with_row_index().group_by("user").agg(pl.col("index").max()).iter_rows())
    for index, user, item, _, _ in found.iter_rows():
        assert reference_data.split_and_shard(user, 7, 1)[0] > 0
        assert last[user] == index
        assert theme[item] == favourite[user]
    held_out = [user for user in last if reference_data.split_and_shard(user, 7, 1)[0] > 0]
    assert 0.35 < len(found) / len(held_out) < 0.65
    others = made.events.filter(~pl.col("item").is_in(made.new_items))
    assert others["item"].to_list() == [
        item
        for item, new in zip(WORLD.items, made.events["item"].is_in(made.new_items), strict=True)
        if not new
    ]


def test_a_dataset_of_it_ranks_new_items_by_their_features_alone(tmp_path):
    made = cr.prepare(None, tmp_path / "made", generated_features=True, num_shards=2)
    assert {column.key for column in made.schema.columns} == {
        "item/theme", "item/title", "user/favourite", "event/rating",
    }  # fmt: skip
    in_training = set(made.read("train").items.tolist())
    new = [index for index, item in enumerate(made.item_ids(), start=1) if item > "item-01200"]
    assert len(new) == 48 and not in_training & set(new)
    assert set(made.item_features()["theme"][new]) == set(range(2, 26))
    targets = evaluation_users(made.read("test"), 20).targets.items
    assert np.isin(targets, new).sum() > 200
    assert made.item_names()[new[0] - 1] != made.item_ids()[new[0] - 1]
    with pytest.raises(InputError, match="generated_features with schema="):
        cr.prepare(
            None,
            tmp_path / "x",
            generated_features=True,
            schema=[{"name": "a", "owner": "item", "kind": "text"}],
        )

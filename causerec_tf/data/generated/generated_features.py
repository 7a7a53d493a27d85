"""Features of the generated world: of items, users and events; and items that no training user touched."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from causerec_tf.data.columns.feature_tables import FeatureTable, read_feature_table
from causerec_tf.data.columns.features_of_log import Features
from causerec_tf.data.generated.synthetic import World, item_names
from causerec_tf.data.splits.user_split import place_users
from causerec_tf.schema import schema_of

SCHEMA = schema_of(
    [
        {"name": "theme", "owner": "item", "kind": "categorical"},
        {"name": "title", "owner": "item", "kind": "text", "size": 1000, "length": 8},
        {"name": "favourite", "owner": "user", "kind": "categorical"},
        {"name": "rating", "owner": "event", "kind": "numeric"},
    ]
)
NEW_ITEMS_OF_AN_INTEREST = 2
_NEW_RATE = 0.5  # of the users outside of training
_WRONG_RATE = 0.1  # of the ratings


@dataclass(frozen=True)
class FeaturedWorld:
    """A world with features.

    Attributes:
      events: `user`, `item` and `time` as `World.events` has them, and `event/rating`.
      items: `item_id`, `theme` and `title`.
      users: `user_id` and `favourite`.
      item_names: item id -> name.
      new_items: the ids of those that no training user touched.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    item_names: dict[str, str]
    new_items: list[str]

    @property
    def features(self) -> Features:
        """The schema and the tables, as a preparation takes them."""
        tables: dict[str, FeatureTable] = {
            "item": read_feature_table(self.items, "item", "item_id", SCHEMA),
            "user": read_feature_table(self.users, "user", "user_id", SCHEMA),
        }
        return Features(SCHEMA, tables)


def with_features(world: World, *, split_seed: int = 0, seed: int = 0) -> FeaturedWorld:
    """Adds features that tell what is true of a world, and new items to it.

    An item's theme is its interest, which its title begins with. A user's favourite is the theme of one of
    its interests. An event's rating is 1 or 2 where it is noise and 4 or 5 where it is not; a tenth are the
    other way round. Each interest gets two new items. Half of the users that a split by users leaves out of
    training have one of these, of their favourite theme, as their last event.

    Args:
      world: as `synthetic.generate` makes it.
      split_seed: of the preparation: it decides which users are in training.
      seed: another seed gives other features.
    """
    random = np.random.default_rng([seed, 1])  # other draws than those of the world
    num_items, num_interests = len(world.item_ids), world.user_interests.shape[1]
    new = np.arange(num_items, num_items + NEW_ITEMS_OF_AN_INTEREST * num_interests)
    names = [*world.item_names, *item_names(new, num_interests)]
    ids = [*world.item_ids, *(f"item-{number + 1:05d}" for number in new)]
    themes = [name.partition(" ")[0] for name in names]

    user_ids, first = np.unique(world.users.astype(str), return_index=True)
    lasts = np.append(first[1:], len(world.users)) - 1  # users follow each other in the order of their ids
    interests = [random.choice(np.flatnonzero(own)) for own in world.user_interests]
    place, _ = place_users(user_ids.tolist(), split_seed, 1)
    has_new = (place > 0) & (random.random(len(user_ids)) < _NEW_RATE)
    drawn = new[random.integers(NEW_ITEMS_OF_AN_INTEREST, size=len(user_ids)) * num_interests + interests]
    items, is_noise = world.items.copy(), world.is_noise.copy()
    items[lasts[has_new]] = np.array(ids, object)[drawn[has_new]]
    is_noise[lasts[has_new]] = False

    is_low = is_noise ^ (random.random(len(items)) < _WRONG_RATE)
    rating = np.where(is_low, 1.0, 4.0) + random.integers(2, size=len(items))
    return FeaturedWorld(
        events=world.events().with_columns(pl.Series("item", items), pl.Series("event/rating", rating)),
        items=pl.DataFrame({"item_id": ids, "theme": themes, "title": names}),
        users=pl.DataFrame({"user_id": user_ids, "favourite": [themes[interest] for interest in interests]}),
        item_names=dict(zip(ids, names, strict=True)),
        new_items=ids[num_items:],
    )

"""The steps of the preparation between two shuffles, on tables of many rows. No Beam here.

Users are spread over buckets: a bucket belongs to one shard, of the protocol `users` that of one split, and
holds whole users. Items are spread over parts by a hash of their ids. A table that goes to another worker has
been summed up before, so that a popular item is one row of a bucket's table, however often it occurs.
`num_shards` is that of each split, `parts` the number of buckets of a shard; `counts` are buckets, each with
its `item_counts`, of one part of the items.
"""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from causerec_tf.data.logs.suspicious_ids import count_ids
from causerec_tf.data.splits.filters import Filters, drop_unshared_users, keep_last
from causerec_tf.data.splits.protocols import Protocol
from causerec_tf.data.splits.split_sequences import SplitSequences, ordered_sequences, rank_items
from causerec_tf.data.splits.text_codes import text_codes
from causerec_tf.data.splits.user_split import SPLITS, hash_user, place_users
from causerec_tf.data.writing.sequence_counts import ItemCounts, are_targets, count_items

_TARGETS = {split: f"{split}_targets" for split in SPLITS[1:]}


def bucket_of(
    user_ids: list[str], split_seed: int, num_shards: int, parts: int, *, by_users: bool
) -> np.ndarray:
    """The bucket of each user, int64 [users]; `by_users`: whether each user is of one split."""
    split, shard = place_users(user_ids, split_seed, num_shards)
    if not by_users:
        split = np.zeros_like(split)
    # What the second number of a user says beyond its shard.
    rest = [hash_user(user_id, split_seed)[1] // num_shards % parts for user_id in user_ids]
    return (split * num_shards + shard) * parts + np.array(rest, np.int64)


def by_bucket(
    events: pl.DataFrame, split_seed: int, num_shards: int, parts: int, *, by_users: bool
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Takes events apart by the buckets of their users; within a bucket the order stays."""
    user_ids, users = text_codes(events["user"])
    buckets = bucket_of(user_ids, split_seed, num_shards, parts, by_users=by_users)[users]
    yield from _apart(events, buckets)


def drop_rare_users(events: pl.DataFrame, min_user_count: int) -> pl.DataFrame:
    """Events of the users who have enough of them; a bucket holds all events of a user."""
    return events if min_user_count == 1 else events.filter(pl.len().over("user") >= min_user_count)


def shorten(events: pl.DataFrame, filters: Filters, split_seed: int) -> pl.DataFrame:
    """The last events of each user, and of training users only a share; a bucket holds whole users."""
    if filters.max_user_count is not None:
        events = keep_last(events, filters.max_user_count)
    return drop_unshared_users(events, filters.training_share, split_seed)


def item_counts(events: pl.DataFrame, num_parts: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """How often each item occurs (columns `item` and `count`), apart by the items' parts."""
    counts = events.group_by("item").agg(pl.len().cast(pl.Int64).alias("count"))
    yield from part_of_items(counts, num_parts)


def rare_items(
    counts: Iterable[tuple[int, pl.DataFrame]], min_item_count: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """The items to drop from each bucket (column `item`); buckets that lose nothing do not come up."""
    together = _together(counts)
    rare = together.filter(pl.col("count").sum().over("item") < min_item_count)
    for (bucket,), items in rare.select("bucket", "item").partition_by("bucket", as_dict=True).items():
        yield bucket, items.select("item")


def split_counts(
    events: pl.DataFrame, num_parts: int, split_seed: int, num_shards: int, protocol: Protocol
) -> Iterator[tuple[int, pl.DataFrame]]:
    """How often each item of a bucket occurs, apart by the items' parts.

    The columns are `item`, its number of events in each of `SPLITS`, and of targets, under the names of
    `_TARGETS`.
    """
    item_ids, items = text_codes(events["item"])
    sequences = ordered_sequences(events, items, split_seed, num_shards, protocol)
    columns: dict[str, list[str] | np.ndarray] = {"item": item_ids}
    for split in SPLITS:
        found = sequences.items[sequences.in_records(split)]
        columns[split] = np.bincount(found, minlength=len(item_ids))
        if split in _TARGETS:
            targets = found[are_targets(sequences.records[split])]
            columns[_TARGETS[split]] = np.bincount(targets, minlength=len(item_ids))
    yield from part_of_items(pl.DataFrame(columns), num_parts)


def add_up_counts(counts: Iterable[tuple[int, pl.DataFrame]]) -> pl.DataFrame:
    """What `split_counts` gave, of all buckets together."""
    return _together(counts).group_by("item").agg(pl.col(*SPLITS, *_TARGETS.values()).sum())


def number_items(totals: Iterable[pl.DataFrame]) -> tuple[pl.DataFrame, ItemCounts]:
    """The vocabulary, and what is counted of its items.

    It has the items in its order (`item` and `index`, from 1), with their training events (`train`).
    """
    items = pl.concat(totals).sort("item")
    ranking = rank_items(items["train"].to_numpy())
    vocabulary = items.select("item", "train")[ranking].with_row_index("index", offset=1)
    counted = count_items(
        {split: items[split].to_numpy() for split in SPLITS},
        {split: items[column].to_numpy() for split, column in _TARGETS.items()},
    )
    return vocabulary.select("item", pl.col("index").cast(pl.Int32), "train"), counted


def index_of_buckets(
    counts: Iterable[tuple[int, pl.DataFrame]], vocabulary: pl.DataFrame
) -> Iterator[tuple[int, pl.DataFrame]]:
    """The part of the vocabulary (`item`, `index`) that each bucket needs."""
    needed = _together(counts).join(vocabulary, on="item")
    for (bucket,), items in needed.partition_by("bucket", as_dict=True).items():
        yield bucket, items.select("item", "index")


def part_of_items(table: pl.DataFrame, num_parts: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """Takes a table with a column `item` apart by the items' parts."""
    yield from _apart_by_hash(table, "item", num_parts)


def id_counts(events: pl.DataFrame, role: str, num_parts: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """What `suspicious_ids.count_ids` counts, apart by a hash of the bare ids."""
    yield from _apart_by_hash(count_ids(events, role), "bare", num_parts)


def add_up_ids(counts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The counts of all together."""
    return pl.concat(counts).group_by("id").agg(pl.col("rows").sum(), pl.col("bare").first())


def sequences_of(
    events: pl.DataFrame, vocabulary: pl.DataFrame, split_seed: int, num_shards: int, protocol: Protocol
) -> SplitSequences:
    """A bucket's users as `interactions.build_sequences` has them, but for the ids of the vocabulary."""
    numbered = events.join(vocabulary, on="item", how="left", maintain_order="left")
    return ordered_sequences(numbered, numbered["index"].to_numpy(), split_seed, num_shards, protocol)


def _together(counts: Iterable[tuple[int, pl.DataFrame]]) -> pl.DataFrame:
    return pl.concat(table.with_columns(pl.lit(bucket, pl.Int64).alias("bucket")) for bucket, table in counts)


def _apart_by_hash(table: pl.DataFrame, column: str, num_parts: int) -> Iterator[tuple[int, pl.DataFrame]]:
    hashes = [
        int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big") % num_parts
        for text in table[column].to_list()
    ]
    yield from _apart(table, np.array(hashes, np.int64))


def _apart(table: pl.DataFrame, keys: np.ndarray) -> Iterator[tuple[int, pl.DataFrame]]:
    keyed = table.with_columns(pl.Series("key", keys))
    for (key,), rows in keyed.partition_by("key", as_dict=True, maintain_order=True).items():
        yield int(key), rows.drop("key")

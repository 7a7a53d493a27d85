"""The dataset on disk: what is written is what is read, by us and by TensorFlow Datasets."""

import json
import random

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from causerec_tf.data.sequences import SPLITS, open_dataset
from causerec_tf.data.splits import split_sequences
from causerec_tf.data.writing import sequence_writer
from causerec_tf.errors import InputError
from tests import reference_data

ABOUT = {"split_seed": 0, "filters": {}}


def build(rows, num_shards=2):
    users, items, moments = zip(*rows, strict=True)
    schema = {"user": pl.String, "item": pl.String, "time": pl.Int64}
    events = pl.DataFrame({"user": users, "item": items, "time": moments}, schema=schema)
    return split_sequences.build_sequences(events, split_seed=0, num_shards=num_shards)


def write(rows, directory, num_shards=2, **options):
    built = build(rows, num_shards)
    return sequence_writer.write_dataset(built, directory, num_shards=num_shards, about=ABOUT, **options)


@pytest.fixture(name="rows")
def fixture_rows():
    return reference_data.odd_rows(random.Random(5))


def users_in(split, count):
    """Ids of users that fall into a split (0 train, 1 validation, 2 test)."""
    ids = map(str, range(10_000))
    return [user for user in ids if reference_data.split_and_shard(user, 0, 1)[0] == split][:count]


def test_what_is_read_is_what_was_written(tmp_path, rows):
    dataset = write(rows, tmp_path / "shop")
    wanted = reference_data.sequences(rows)
    vocabulary = reference_data.vocabulary(rows, 0)
    assert dataset.name == "shop"
    assert dataset.item_ids() == dataset.item_names() == vocabulary
    assert dataset.num_items == len(vocabulary)
    met = []
    for place, split in enumerate(SPLITS):
        read = dataset.read(split)
        assert read.items.dtype == np.int32
        assert read.timestamps.dtype == read.row_splits.dtype == np.int64
        assert len(list(read.rows())) == len(read)
        for user, items, start in zip(read.user_ids, read.rows(), read.row_splits[:-1], strict=True):
            events = wanted[user]
            assert [vocabulary[index - 1] for index in items] == [item for item, _ in events]
            times = read.timestamps[start : start + len(items)]
            assert times.tolist() == [time for _, time in events]
            assert (np.diff(times) >= 0).all()
            assert items.min() >= 1
            assert reference_data.split_and_shard(user, 0, 1)[0] == place
        met += list(read.user_ids)
    assert sorted(met) == sorted(wanted)


def test_counts(tmp_path, rows):
    info = write(rows, tmp_path / "shop").info
    wanted = {split: [] for split in SPLITS}
    repeats = dict.fromkeys(SPLITS, 0)
    for user, events in reference_data.sequences(rows).items():
        split = SPLITS[reference_data.split_and_shard(user, 0, 1)[0]]
        wanted[split].append([item for item, _ in events])
        repeats[split] += len(events) - len(set(events))
    counts = info["counts"]
    for split, lists in wanted.items():
        assert counts["users"][split] == len(lists)
        assert counts["interactions"][split] == sum(map(len, lists))
        assert counts["items"][split] == len({item for items in lists for item in items})
    assert counts["training_windows"] == sum(len(items) - 1 for items in wanted["train"])
    assert counts["evaluation_users"] == {
        split: sum(len(items) > 1 for items in wanted[split]) for split in SPLITS[1:]
    }
    assert counts["repeats"] == repeats
    assert sum(repeats.values()) > 0
    moments = [moment for _, _, moment in rows]
    assert (info["first_time"], info["last_time"]) == (min(moments), max(moments))
    for split in SPLITS:
        records = [shard["records"] for shard in info["shards"][split]]
        assert sum(records) == counts["users"][split]
    assert info["filters"] == {}
    assert str(tmp_path) not in json.dumps(info)


def test_users_lie_in_their_shard_in_the_order_of_their_bytes(tmp_path, rows):
    dataset = write(rows, tmp_path / "shop", num_shards=3)
    for split in SPLITS:
        for shard, path in enumerate(dataset.shards(split)):
            users = [
                tf.train.Example.FromString(record.numpy()).features.feature["user_id"].bytes_list.value[0]
                for record in tf.data.TFRecordDataset(path)
            ]
            assert users == sorted(users)
            for user in users:
                assert reference_data.split_and_shard(user.decode(), 0, 3)[1] == shard


def test_the_same_input_gives_the_same_bytes_wherever_and_whenever(tmp_path, rows):
    names = {"0": "zero"}
    first = write(rows, tmp_path / "a", item_names=names).directory
    second = write(rows, tmp_path / "deeper" / "b", item_names=names).directory
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in second.iterdir())
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_fingerprint_follows_the_contents(tmp_path, rows):
    one = write(rows, tmp_path / "a")
    other = write([*rows, ("0", "0", 99)], tmp_path / "b")
    assert one.fingerprint != other.fingerprint
    assert len(one.fingerprint) == 64
    # The order of users in the log is no content: a user's own order is all that counts.
    by_user = sorted(rows, key=lambda row: row[0])
    assert write(by_user, tmp_path / "c").fingerprint == one.fingerprint


def test_names_go_beside_the_ids(tmp_path):
    rows = [(users_in(0, 1)[0], item, 0) for item in ("b", "a", "c", "b")]
    names = {"a": "Two\r\nlines\rand\nmore", "c": ""}
    dataset = write(rows, tmp_path / "shop", item_names=names)
    assert dataset.item_ids() == ["b", "a", "c"]
    assert dataset.item_names() == ["b", "Two lines and more", "c"]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_tfds_opens_it_even_with_an_empty_split_and_empty_shards(tmp_path, missing):
    rows = []
    for split in {0, 1, 2} - {missing}:
        for user in users_in(split, 2):
            rows += [(user, "x", 1), (user, "y", 2)]
    dataset = write(rows, tmp_path / "shop", num_shards=4)
    builder = tfds.builder_from_directory(dataset.directory)
    for place, split in enumerate(SPLITS):
        wanted = 0 if place == missing else 2
        assert builder.info.splits[split].num_examples == wanted
        assert len(dataset.read(split)) == wanted
        if not wanted:
            continue
        records = list(builder.as_dataset(split=split))
        assert {record["user_id"].numpy().decode() for record in records} == set(users_in(place, 2))
        for record in records:
            assert record["items"].dtype == tf.int64
            assert record["items"].numpy().tolist() == [
                1 + dataset.item_ids().index(item) for item in ("x", "y")
            ]
            assert record["timestamps"].numpy().tolist() == [1, 2]


def test_an_existing_output_is_kept_without_overwrite(tmp_path, rows):
    dataset = write(rows, tmp_path / "shop")
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        write(rows[:20], tmp_path / "shop")
    assert open_dataset(tmp_path / "shop").fingerprint == dataset.fingerprint
    replaced = write(rows[:20], tmp_path / "shop", overwrite=True)
    assert replaced.fingerprint != dataset.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_overwrite_touches_nothing_but_datasets(tmp_path, rows):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    with pytest.raises(InputError, match=r"has no dataset\.json, so it is nothing that --overwrite replaces"):
        write(rows, tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "letters.txt").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failed_write_leaves_nothing_and_spoils_nothing(tmp_path, rows, overwrite):
    if overwrite:
        before = write(rows, tmp_path / "shop").fingerprint

    def fail(users):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(rows[:30], tmp_path / "shop", overwrite=overwrite, progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == (["shop"] if overwrite else [])
    if overwrite:
        assert open_dataset(tmp_path / "shop").fingerprint == before


def test_damage_is_named(tmp_path, rows):
    dataset = write(rows, tmp_path / "shop")
    dataset.verify()
    shard = next(
        tmp_path / "shop" / info["file"] for info in dataset.info["shards"]["train"] if info["records"] > 1
    )
    whole = shard.read_bytes()

    shard.write_bytes(whole[:-7])
    wanted = f"{shard.name} is damaged: got {len(whole) - 7} bytes, wanted {len(whole)}"
    with pytest.raises(InputError, match=wanted):
        open_dataset(tmp_path / "shop")

    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    shard.write_bytes(flipped)
    damaged = open_dataset(tmp_path / "shop")
    with pytest.raises(InputError, match=f"{shard.name} is damaged"):
        damaged.read("train")
    with pytest.raises(InputError, match=f"{shard.name} is damaged: its checksum"):
        damaged.verify()

    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name} is missing"):
        open_dataset(tmp_path / "shop")
    shard.write_bytes(whole)
    vocabulary = (tmp_path / "shop" / "items.txt").read_bytes()
    (tmp_path / "shop" / "items.txt").write_text("short\n")
    with pytest.raises(InputError, match=r"items\.txt is damaged: got 6 bytes"):
        open_dataset(tmp_path / "shop")
    (tmp_path / "shop" / "items.txt").write_bytes(vocabulary.swapcase())
    with pytest.raises(InputError, match=r"items\.txt is damaged: its checksum"):
        open_dataset(tmp_path / "shop").verify()
    (tmp_path / "shop" / "items.txt").write_bytes(vocabulary)
    description = (tmp_path / "shop" / "dataset.json").read_text()
    (tmp_path / "shop" / "dataset.json").write_text(
        description.replace('"format_version": 1', '"format_version": 0')
    )
    with pytest.raises(InputError, match="has format version 0, wanted 1"):
        open_dataset(tmp_path / "shop")
    (tmp_path / "shop" / "dataset.json").write_text("[1]")
    with pytest.raises(InputError, match="does not describe a dataset"):
        open_dataset(tmp_path / "shop")
    (tmp_path / "shop" / "dataset.json").write_text('{"shards": {')
    with pytest.raises(InputError, match=r"dataset\.json is damaged"):
        open_dataset(tmp_path / "shop")
    with pytest.raises(InputError, match=r"is no dataset: it has no dataset\.json"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"dataset\.json is no dataset: wanted a directory"):
        open_dataset(tmp_path / "shop" / "dataset.json")


def test_an_unknown_split_is_named(tmp_path, rows):
    dataset = write(rows, tmp_path / "shop")
    with pytest.raises(InputError, match="no split 'dev'; use one of train, validation, test"):
        dataset.read("dev")

"""Training batches against windows made one by one, and the promises on their order."""

import collections
import random

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from causerec_tf.data import training_records, windows
from causerec_tf.data.splits import split_sequences
from causerec_tf.data.writing import sequence_writer
from causerec_tf.errors import InputError
from tests import reference_data


def write(rows, directory, num_shards=3):
    users, items, moments = zip(*rows, strict=True)
    schema = {"user": pl.String, "item": pl.String, "time": pl.Int64}
    events = pl.DataFrame({"user": users, "item": items, "time": moments}, schema=schema)
    built = split_sequences.build_sequences(events, split_seed=0, num_shards=num_shards)
    return sequence_writer.write_dataset(built, directory, num_shards=num_shards, about={})


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    rows = reference_data.odd_rows(random.Random(1), num_users=300, num_items=60)
    return write(rows, tmp_path_factory.mktemp("windows") / "shop [1]*?\\")  # TFRecords may have any name


def batches(dataset, **options):
    options = {"batch_size": 64, "max_history": 5, "seed": 0, "epoch": 0} | options
    return [
        (batch["history"].numpy(), batch["target"].numpy())
        for batch in windows.training_batches(dataset, **options)
    ]


@pytest.fixture(name="default", scope="module")
def fixture_default(dataset):
    """The batches of the default options."""
    return batches(dataset)


@pytest.fixture(name="default_sequences", scope="module")
def fixture_default_sequences(dataset):
    """The same of whole sequences."""
    return sequence_batches(dataset)


def windows_of(made):
    return [
        (tuple(history), target)
        for histories, targets in made
        for history, target in zip(histories.tolist(), targets.tolist(), strict=True)
    ]


def slow_windows(dataset, max_history):
    return [
        window
        for items in dataset.read("train").rows()
        for window in reference_data.windows(items.tolist(), max_history)
    ]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("max_history", [1, 5, 50])
def test_windows_equal_the_slow_twin(dataset, default, max_history):
    wanted = collections.Counter(slow_windows(dataset, max_history))
    made = default if max_history == 5 else batches(dataset, max_history=max_history)
    assert collections.Counter(windows_of(made)) == wanted
    assert sum(wanted.values()) == dataset.num_training_windows


def sequence_batches(dataset, **options):
    options = {"batch_size": 16, "max_history": 5, "seed": 0, "epoch": 0} | options
    return [
        (batch["history"].numpy(), batch["targets"].numpy())
        for batch in windows.training_batches(dataset, whole_sequences=True, **options)
    ]


def slow_sequences(dataset, length):
    """Rows of up to `length` targets, cut from the end of each sequence."""
    rows = []
    for items in dataset.read("train").rows():
        items = items.tolist()
        end = len(items) - 1
        while end > 0:
            start = max(0, end - length)
            history, targets = items[start:end], items[start + 1 : end + 1]
            padding = [0] * (length - len(history))
            rows.append((tuple(history + padding), tuple(targets + padding)))
            end = start
    return rows


def sequences_of(made):
    return [
        (tuple(history), tuple(targets))
        for both in made
        for history, targets in zip(*(one.tolist() for one in both), strict=True)
    ]


@pytest.mark.parametrize("length", [1, 5, pytest.param(29, marks=pytest.mark.long), 50])
def test_whole_sequences_equal_the_slow_twin(dataset, default_sequences, length):
    wanted = collections.Counter(slow_sequences(dataset, length))
    made = default_sequences if length == 5 else sequence_batches(dataset, max_history=length)
    assert collections.Counter(sequences_of(made)) == wanted
    assert len(made) == windows.num_batches(dataset, 16, longest_sequence=length)
    # Every event but the first of a sequence is a target once.
    assert sum((targets > 0).sum() for _, targets in made) == dataset.num_training_windows
    for histories, targets in made:
        assert histories.dtype == targets.dtype == np.int32
        assert histories.shape == targets.shape == (len(targets), length)
        np.testing.assert_array_equal(histories > 0, targets > 0)
        assert (histories[:, 0] > 0).all()


def test_whole_sequences_are_in_an_order_of_seed_and_epoch_and_can_be_skipped(dataset, default_sequences):
    made = default_sequences
    assert same(made[3:], sequence_batches(dataset, skip_batches=3))
    for other in (sequence_batches(dataset, seed=1), sequence_batches(dataset, epoch=1)):
        assert not same(made, other)
        assert collections.Counter(sequences_of(made)) == collections.Counter(sequences_of(other))


def test_targets_ahead_of_whole_sequences_are_of_what_follows(dataset, default_sequences):
    ahead, follow = 3, {}
    for items in dataset.read("train").rows():
        items = items.tolist()
        for end in range(1, len(items)):
            follow.setdefault(tuple(items[max(0, end - 5) : end]), set()).add(tuple(items[end : end + ahead]))
    made = sequences_of(sequence_batches(dataset, targets_ahead=ahead))
    assert [history for history, _ in made] == [history for history, _ in sequences_of(default_sequences)]
    later = 0
    for history, targets in made:
        for place, target in enumerate(targets):
            if target:
                # A row may begin in the middle of a sequence, so its items are the end of a longer history.
                own = history[: place + 1]
                after = [one for key, some in follow.items() for one in some if key[-len(own) :] == own]
                assert any(target in one for one in after)
                later += all(target != one[0] for one in after)
    assert later > 20


def test_targets_ahead_are_drawn_uniformly_from_what_follows_the_history(dataset):
    ahead, follow = 3, collections.defaultdict(list)  # history -> what follows, one entry a window
    for items in dataset.read("train").rows():
        items = items.tolist()
        for end in range(1, len(items)):
            follow[tuple(items[max(0, end - 30) : end])].append(items[end : end + ahead])
    places = collections.Counter()
    for epoch in range(2):
        made = windows_of(batches(dataset, max_history=30, targets_ahead=ahead, epoch=epoch))
        assert len(made) == dataset.num_training_windows
        histories = collections.Counter()
        for history, target in made:
            key = tuple(item for item in history if item)
            histories[key] += 1
            assert any(target in one for one in follow[key])
            if len(follow[key]) == 1 and len(set(follow[key][0])) == ahead:
                places[follow[key][0].index(target)] += 1
        assert histories == {key: len(one) for key, one in follow.items()}
    counts = np.array([places[place] for place in range(ahead)])
    assert (np.abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean())).all()


def test_targets_ahead_are_a_function_of_seed_and_epoch(dataset, default):
    made = batches(dataset, targets_ahead=3)
    assert same(made, batches(dataset, targets_ahead=3))
    assert not same(made, batches(dataset, targets_ahead=3, seed=1))
    histories = [history for history, _ in made]
    assert all(map(np.array_equal, histories, [history for history, _ in default]))


def test_small_chunks_and_blocks_make_the_same_windows(dataset, monkeypatch):
    wanted = collections.Counter(slow_windows(dataset, 5))
    monkeypatch.setattr(windows, "_MOST_USERS_PER_CHUNK", 7)
    monkeypatch.setattr(windows, "_CHUNKS_PER_BUFFER", 3)
    monkeypatch.setattr(windows, "_WINDOWS_PER_BLOCK", 4)
    made = batches(dataset)
    assert collections.Counter(windows_of(made)) == wanted
    assert same(made, batches(dataset))
    assert not same(made, batches(dataset, epoch=1))


def test_batches_are_full_padded_on_the_right_and_never_empty(dataset, default):
    made = default
    sizes = [len(targets) for _, targets in made]
    assert sizes[:-1] == [64] * (len(sizes) - 1)
    assert len(made) == windows.num_batches(dataset, 64)
    for histories, targets in made:
        assert histories.dtype == targets.dtype == np.int32
        assert histories.shape == (len(targets), 5)
        assert (histories[:, 0] > 0).all()
        assert (targets > 0).all()
        assert max(histories.max(), targets.max()) <= dataset.num_items
        is_item = histories > 0
        assert (is_item[:, :-1] >= is_item[:, 1:]).all()


def test_num_batches_of_an_even_division(dataset):
    size = dataset.num_training_windows
    assert windows.num_batches(dataset, size) == 1
    assert windows.num_batches(dataset, size + 1) == 1
    assert windows.num_batches(dataset, size - 1) == 2


def test_the_order_is_a_function_of_seed_and_epoch(dataset, default):
    first = default
    tf.random.set_seed(99)
    try:
        assert same(first, batches(dataset))
    finally:
        tf.random.set_seed(None)
    wanted = collections.Counter(windows_of(first))
    for other in ({"epoch": 1}, {"seed": -3}):
        made = batches(dataset, **other)
        assert not same(first, made)
        assert collections.Counter(windows_of(made)) == wanted


@pytest.mark.parametrize("skip", [pytest.param(1, marks=pytest.mark.long), 3, 10_000])
def test_skip_batches_equals_dropping_the_first(dataset, default, skip):
    assert same(batches(dataset, skip_batches=skip), default[skip:])


def test_nothing_keeps_the_input_open_after_its_last_batch(dataset):
    """Under autotuning an iterator that was read to its end closes up to a minute later (windows.py)."""
    made = windows.training_batches(dataset, batch_size=8, max_history=3, seed=1, epoch=0)
    assert made.options().autotune.enabled is False


def test_windows_of_a_user_are_spread(tmp_path):
    # 64 users with items of their own: the targets of a batch show whose windows it holds.
    users = map(str, range(1000))
    users = [user for user in users if reference_data.split_and_shard(user, 0, 1)[0] == 0][:64]
    rows = [(user, f"{user}-{place}", place) for user in users for place in range(65)]
    dataset = write(rows, tmp_path / "shop")
    owner = np.array([0] + [users.index(item.split("-")[0]) for item in dataset.item_ids()])
    made = batches(dataset, batch_size=256)
    assert len(made) == 16
    # 256 windows of 64 users, 4 of each in the mean: binomial, deviation about 2.
    for _, targets in made:
        counts = np.bincount(owner[targets], minlength=64)
        assert counts.max() <= 16
        assert (counts == 0).sum() <= 10
    # The windows of one user are in no order.
    place = np.array([0] + [int(item.split("-")[1]) for item in dataset.item_ids()])
    steps = np.concatenate([place[targets[owner[targets] == 0]] for _, targets in made])
    assert sorted(steps) == list(range(1, 65))
    assert abs(np.corrcoef(steps, np.arange(64))[0, 1]) < 0.5


def test_settings_out_of_range(dataset):
    for name, value in (("batch_size", 0), ("max_history", 0), ("epoch", -1), ("skip_batches", -1)):
        with pytest.raises(InputError, match=f"{name} is {value}; it must be at least"):
            batches(dataset, **{name: value})


def test_nothing_to_learn_from(tmp_path):
    rows = [(str(user), "x", 0) for user in range(20)]
    with pytest.raises(InputError, match="no training user with two events"):
        batches(write(rows, tmp_path / "shop"))


def test_the_rows_of_entries_take_no_rectangle_of_rows_by_the_longest():
    """Users by the longest sequence: of these a rectangle would have 10^12 places."""
    lengths = np.ones(1_000_000, np.int64)
    lengths[[0, 2]] = 1_000_000, 0
    rows = training_records.rows_of_entries(
        tf.RaggedTensor.from_row_lengths(np.zeros(lengths.sum(), np.int32), lengths)
    )
    np.testing.assert_array_equal(rows, np.repeat(np.arange(len(lengths)), lengths))

"""Counts and users of the training events, in one pass each, against the whole of them."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

import causerec_tf as cr
from causerec_tf.data import training_events
from causerec_tf.errors import InputError
from tests.worlds import write_world


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    return write_world(
        tmp_path_factory.mktemp("events") / "world", num_users=60, num_items=40, num_interests=2
    )


def test_counts_and_users_are_those_of_the_training_split_alone(dataset, monkeypatch):
    monkeypatch.setattr(training_events, "_USERS_PER_PARSE", 7)
    training = training_events.TrainingEvents(dataset)
    splits = {split: dataset.read(split) for split in ("train", "validation", "test")}
    counted = Counter(splits["train"].items.tolist())
    assert training.counts.tolist() == [counted[item] for item in range(1, dataset.num_items + 1)]
    assert training.sequences.items.tolist() == splits["train"].items.tolist()
    assert training.num_users == len(splits["train"])
    asked = np.array(["nobody", *splits["test"].user_ids, *splits["train"].user_ids], dtype=object)
    wanted = [False] * (1 + len(splits["test"])) + [True] * len(splits["train"])
    assert training.have_user(asked).tolist() == wanted


def test_all_before_the_targets_of_test_is_what_a_retrained_model_has_seen(tmp_path):
    rows = {"a": "pqrst", "b": "pq", "c": "tsrqpp", "d": "r"}  # the last of three or more is held out
    events = pl.DataFrame(
        [(user, item, time) for user, items in rows.items() for time, item in enumerate(items)],
        schema=["user", "item", "time"],
        orient="row",
    )
    columns = {"user": "user", "item": "item", "time": "time"}
    dataset = cr.prepare(events, tmp_path / "world", **columns, protocol="leave_one_out", num_shards=2)
    ids = dataset.item_ids()
    for train_on, held_out in (("train", 2), ("before_test", 1)):
        training = training_events.TrainingEvents(dataset.for_training(train_on))
        found = {
            user: ("".join(ids[item - 1] for item in items), times.tolist())
            for user, items, times in zip(
                training.sequences.user_ids,
                training.sequences.rows(),
                np.split(training.sequences.timestamps, training.sequences.row_splits[1:-1]),
                strict=True,
            )
        }
        want = {user: items[:-held_out] if len(items) > 2 else items for user, items in rows.items()}
        assert found == {user: (items, list(range(len(items)))) for user, items in want.items()}
        counted = Counter("".join(want.values()))
        assert training.counts.tolist() == [counted[item] for item in ids]
        assert training.num_users == 4
        assert training.have_user(np.array(["c", "x"], dtype=object)).tolist() == [True, False]


def test_a_damaged_shard_is_told(tmp_path):
    dataset = write_world(tmp_path / "world", num_users=60, num_items=40, num_interests=2)
    with open(dataset.shards("train")[0], "r+b") as file:  # noqa: PTH123
        file.seek(40)
        file.write(b"\xff" * 20)
    with pytest.raises(InputError, match=r"world is damaged: .*Prepare the dataset again"):
        training_events.TrainingEvents(dataset).counts  # noqa: B018

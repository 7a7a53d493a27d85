"""Counts and users of the training events, in one pass each, against the whole of them."""

from collections import Counter

import numpy as np
import pytest

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


def test_a_damaged_shard_is_told(tmp_path):
    dataset = write_world(tmp_path / "world", num_users=60, num_items=40, num_interests=2)
    with open(dataset.shards("train")[0], "r+b") as file:  # noqa: PTH123
        file.seek(40)
        file.write(b"\xff" * 20)
    with pytest.raises(InputError, match=r"world is damaged: .*Prepare the dataset again"):
        training_events.TrainingEvents(dataset).counts  # noqa: B018

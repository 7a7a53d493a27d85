"""Order, numbering and placing of events against pure Python."""

import random

import pytest

from causerec_tf.data.splits import split_sequences
from causerec_tf.data.splits.user_split import SPLITS
from tests import reference_data
from tests.reference_data import frame


@pytest.mark.parametrize("seed", range(4))
def test_sequences_equal_the_slow_twin(seed):
    rows = reference_data.odd_rows(random.Random(seed))
    built = split_sequences.build_sequences(frame(rows), split_seed=seed, num_shards=3)
    wanted = reference_data.sequences(rows)
    vocabulary = reference_data.vocabulary(rows, seed)
    assert built.vocabulary == vocabulary
    assert built.user_ids == sorted(wanted, key=lambda user: user.encode("utf-8"))
    for place, user in enumerate(built.user_ids):
        start, end = built.row_splits[place], built.row_splits[place + 1]
        items = [vocabulary[index - 1] for index in built.items[start:end]]
        assert list(zip(items, built.times[start:end], strict=True)) == wanted[user]
        place_of = reference_data.split_and_shard(user, seed, 3)
        splits = [name for name, records in built.records.items() if place in records.users]
        assert splits == [SPLITS[place_of[0]]]
        assert built.shard[place] == place_of[1]
    assert built.items.min() == 1
    assert built.row_splits[-1] == len(rows)

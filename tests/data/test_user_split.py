"""Splits and shards: their shares, their independence, and the hash itself."""

import numpy as np

from causerec_tf.data import user_split


def test_the_split_is_eight_to_one_to_one_and_by_seed():
    users = [str(number) for number in range(20_000)]
    shares = {}
    for seed in (0, 1, -1):
        splits = np.array([user_split.split_of(user, seed) for user in users])
        shares[seed] = splits
        for split, share in zip(user_split.SPLITS, (0.8, 0.1, 0.1), strict=True):
            deviation = np.sqrt(share * (1 - share) / len(users))
            assert abs((splits == split).mean() - share) < 5 * deviation
    # Independent splits agree on .8 * .8 + .1 * .1 + .1 * .1 = .66 of the users.
    for one, other in ((0, 1), (0, -1), (1, -1)):
        assert abs((shares[one] == shares[other]).mean() - 0.66) < 0.02


def test_the_shard_says_nothing_of_the_split():
    users = [str(number) for number in range(8000)]
    shards = np.array([user_split.shard_of(user, 0, 4) for user in users])
    training = np.array([user_split.split_of(user, 0) == "train" for user in users])
    assert np.allclose(np.bincount(shards) / 8000, 0.25, atol=0.025)
    for shard in range(4):
        assert abs(training[shards == shard].mean() - 0.8) < 0.05


def test_a_known_digest_pins_the_hash():
    # From another implementation, so that no later version moves users between splits unnoticed:
    # printf 42 | openssl mac -macopt hexkey:30 -macopt size:16 -in - BLAKE2BMAC
    digest = "5D88ABE3B84F9EAD11C71BFAE0F113F3"
    assert user_split.hash_user("42", 0) == (int(digest[:16], 16), int(digest[16:], 16))

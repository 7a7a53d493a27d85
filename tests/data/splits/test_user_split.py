"""Splits and shards: their shares, their independence, and the hash itself."""

import numpy as np

from causerec_tf.data.splits import user_split


def test_the_split_is_eight_to_one_to_one_and_by_seed():
    users = [str(number) for number in range(20_000)]
    shares = {}
    for seed in (0, 1, -1):
        splits, _ = user_split.place_users(users, seed, 4)
        shares[seed] = splits
        for split, share in enumerate((0.8, 0.1, 0.1)):
            deviation = np.sqrt(share * (1 - share) / len(users))
            assert abs((splits == split).mean() - share) < 5 * deviation
    # Independent splits agree on .8 * .8 + .1 * .1 + .1 * .1 = .66 of the users.
    for one, other in ((0, 1), (0, -1), (1, -1)):
        assert abs((shares[one] == shares[other]).mean() - 0.66) < 0.02


def test_the_shard_says_nothing_of_the_split():
    users = [str(number) for number in range(8000)]
    splits, shards = user_split.place_users(users, 0, 4)
    training = splits == user_split.SPLITS.index("train")
    assert np.allclose(np.bincount(shards) / 8000, 0.25, atol=0.025)
    for shard in range(4):
        assert abs(training[shards == shard].mean() - 0.8) < 0.05


def test_a_known_digest_pins_the_hash():
    # From another implementation, so that no later version moves users between splits unnoticed:
    # printf 42 | openssl mac -macopt hexkey:30 -macopt size:16 -in - BLAKE2BMAC
    digest = "5D88ABE3B84F9EAD11C71BFAE0F113F3"
    assert user_split.hash_user("42", 0) == (int(digest[:16], 16), int(digest[16:], 16))

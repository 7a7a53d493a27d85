"""Which split and which shard a user belongs to, by its id and the seed alone."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

SPLITS = ("train", "validation", "test")


def hash_user(user_id: str, split_seed: int) -> tuple[int, int]:
    """Two independent 64-bit numbers of a user: one decides the split, one the shard.

    They are the two big-endian halves of the 16-byte BLAKE2b of the id's UTF-8 bytes, keyed with
    the decimal text of the seed.
    """
    key = str(split_seed).encode("ascii")
    digest = hashlib.blake2b(user_id.encode("utf-8"), digest_size=16, key=key).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def place_users(user_ids: Sequence[str], split_seed: int, num_shards: int) -> tuple[np.ndarray, np.ndarray]:
    """Split (position in `SPLITS`) and shard of each user, int64 [users] both."""
    hashes = [hash_user(user_id, split_seed) for user_id in user_ids]
    split = np.array([_split_index(first) for first, _ in hashes], np.int64)
    return split, np.array([second % num_shards for _, second in hashes], np.int64)


def is_shared(user_id: str, split_seed: int, share: Fraction) -> bool:
    """Whether a user is of validation or test, or in this share, above 0 and at most 1, of training."""
    number = hash_user(user_id, split_seed)[0]
    is_training = _split_index(number) == 0
    return not is_training or number * 10 * share.denominator < (8 << 64) * share.numerator


def _split_index(number: int) -> int:
    # Compared as integers: floats would round the thresholds, each engine in its own way.
    tenths = number * 10
    return (tenths >= 8 << 64) + (tenths >= 9 << 64)

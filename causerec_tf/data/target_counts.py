"""What is counted of the events that may be targets, where not every event may be one."""

import functools

import numpy as np

from causerec_tf.data.holdout import evaluation_users
from causerec_tf.data.sequences import Dataset, UserSequences
from causerec_tf.data.training_records import read_training
from causerec_tf.errors import InputError


def num_target_windows(dataset: Dataset) -> int:
    """The number of pairs of a history and a target in training."""
    return _of_training(_Key(dataset))[0]


def mean_weight(dataset: Dataset) -> float:
    """The mean of the weights of the targets in training, of those that have one.

    Raises:
      InputError: a weight is below 0, or none is above.
    """
    return _of_training(_Key(dataset))[1]


def counts_of_targets(dataset: Dataset) -> np.ndarray:
    """How often each item may be a target in training, int64 [V + 1] by item index; that of padding is 0."""
    sequences = read_training(dataset)
    targets = sequences.items[_may_be_targets(sequences)]
    return np.bincount(targets, minlength=dataset.num_items + 1)


def num_evaluation_users(dataset: Dataset, split: str) -> int:
    """The users of a split with a history and a target."""
    return _of_split(_Key(dataset), split)


class _Key:
    """A dataset as it is looked at, to remember what was counted of it."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._key = (dataset.directory, dataset.fingerprint, dataset.train_on, dataset.target_events)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._key == other._key


@functools.lru_cache(maxsize=16)
def _of_training(key: _Key) -> tuple[int, float]:
    dataset = key.dataset
    sequences = read_training(dataset)
    may_be = _may_be_targets(sequences)
    weight = dataset.target_columns.weight
    if not weight:
        return int(may_be.sum()), 1.0
    weights = sequences.columns[weight][may_be].astype(np.float64)
    weights = weights[~np.isnan(weights)]
    if (weights < 0).any() or not (weights > 0).any():
        got = f"a weight of {weights.min():g}" if len(weights) and weights.min() < 0 else "no weight above 0"
        raise InputError(
            f"weight_column={dataset.target_events.weight_column}: the training targets have {got}; wanted"
            " weights of 0 or more."
        )
    return int(may_be.sum()), float(weights.mean())


@functools.lru_cache(maxsize=16)
def _of_split(key: _Key, split: str) -> int:
    return len(evaluation_users(key.dataset.read(split), 1))


def _may_be_targets(sequences: UserSequences) -> np.ndarray:
    """All events but the first of each user that are of a kind that is a target, bool [events]."""
    may_be = np.ones(len(sequences.items), bool)
    may_be[sequences.row_splits[:-1]] = False
    return may_be if sequences.is_target is None else may_be & sequences.is_target

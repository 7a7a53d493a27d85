"""The dataset on disk: what lies in its directory, and opening and reading it.

A dataset is a directory that `tfds.builder_from_directory` opens. One record is one user, a
`tf.train.Example` with `user_id` (bytes), `items` and `timestamps` (int64 lists, oldest first), and, where
the protocol is not `users`, `num_history` and `num_before_test` (int64; see `protocols.SplitRecords`). An
item is its place in the vocabulary `items.txt`, counted from 1: index 0 is padding and is in no record.
`sequence_writer` writes such a directory.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import tensorflow as tf

from causerec_tf.data.columns.feature_files import ITEM_FEATURES_FILE, fitted_columns, read_item_features
from causerec_tf.data.columns.feature_records import in_records, record_features, values_of_users
from causerec_tf.data.dataset_files import CUTS, FORMAT_VERSIONS, INFO_FILE, ITEM_NAMES_FILE, ITEMS_FILE
from causerec_tf.data.logs import time_units, times
from causerec_tf.data.ragged import row_splits
from causerec_tf.data.splits.protocols import EVERYTHING, TRAIN_ON, USERS, label
from causerec_tf.data.splits.user_split import SPLITS
from causerec_tf.data.target_events import TargetColumns, TargetEvents
from causerec_tf.data.user_sequences import UserSequences
from causerec_tf.errors import InputError
from causerec_tf.schema import Column, FittedColumn, Schema

__all__ = ["SPLITS", "Dataset", "UserSequences", "open_dataset"]

ITEMS_FEATURE = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
_FEATURES = {
    "user_id": tf.io.FixedLenFeature([], tf.string),
    "items": ITEMS_FEATURE,
    "timestamps": ITEMS_FEATURE,
}
_USERS_PER_PARSE = 4096


@dataclass(frozen=True)
class Dataset:
    """An opened dataset.

    Attributes:
      directory: where it is.
      info: what `dataset.json` holds.
      train_on: `train`, the records of that split, or `before_test`, every event before the targets of the
        test split.
      target_events: which events may be targets, in training and evaluation.
    """

    directory: Path
    info: dict
    train_on: str = TRAIN_ON[0]
    target_events: TargetEvents = field(default_factory=TargetEvents)

    def for_training(self, train_on: str, target_events: TargetEvents | None = None) -> "Dataset":
        """The same dataset, trained on as one of `TRAIN_ON` says; None leaves the targets as they are.

        Raises:
          InputError: its records do not say what lies before the targets of the test split, or it lacks the
            columns of events that are asked for.
        """
        counts = self.info["counts"]
        if train_on != TRAIN_ON[0] and ("windows_before_test" not in counts or not counts["users"]["test"]):
            raise InputError(
                f"train_on={train_on}: {self.directory} has the protocol {self.protocol['name']}, with"
                " nothing of a test user to train on. Leave it out, or prepare the dataset with another"
                " --protocol."
            )
        if target_events is None:
            return dataclasses.replace(self, train_on=train_on)
        target_events.resolve(self.fitted_columns("event"))
        return dataclasses.replace(self, train_on=train_on, target_events=target_events)

    @property
    def name(self) -> str:
        """The name of the directory: renaming a dataset changes no byte of it."""
        return self.directory.name

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the vocabulary and the shards, in hex."""
        return self.info["fingerprint"]

    @property
    def num_items(self) -> int:
        """The size of the vocabulary; indices run from 1 to this number."""
        return self.info["num_items"]

    @property
    def num_trained_items(self) -> int:
        """How many of the first items of the vocabulary training may know.

        Where users are held out, all; but with features of items, by which the others are known, those of
        training users.
        """
        if self.fitted_columns("item") and self.protocol["name"] == USERS:
            return self.info["counts"]["items"]["train"]
        return self.info.get("num_trained_items", self.num_items)

    @property
    def protocol(self) -> dict:
        """What `dataset.json` says of the protocol, and which events are targets; `name` is always there."""
        return self.info.get("protocol", {"name": USERS}) | self.target_events.description()

    @property
    def target_columns(self) -> TargetColumns:
        """The columns of events that say what may be a target, and how much it counts."""
        return self.target_events.resolve(self.fitted_columns("event"))

    @property
    def num_training_windows(self) -> int:
        """The number of (history, target) pairs of one epoch."""
        if self.target_events.target_events:
            from causerec_tf.data.target_counts import num_target_windows  # here: it reads datasets

            return num_target_windows(self)
        counts = self.info["counts"]
        return counts["training_windows"] if self.train_on == TRAIN_ON[0] else counts["windows_before_test"]

    @property
    def remedy_for_nobody(self) -> str:
        """What to do where a split has nobody for its purpose."""
        name = self.protocol["name"]
        if name == EVERYTHING:
            return (
                "It was prepared with --protocol=none, which measures nobody: prepare the log with another."
            )
        return "Prepare a larger log, or " + (
            "try another --split_seed." if name == USERS else "with another --protocol or other cuts."
        )

    def measures(self, split: str) -> bool:
        """Whether a split has users to measure on, validation or test; with the protocol `none`, neither."""
        return self.num_evaluation_users(split) > 0

    def num_evaluation_users(self, split: str) -> int:
        """The users of a split with a history and a target."""
        if self.target_events.target_events:
            from causerec_tf.data.target_counts import num_evaluation_users  # here: it reads datasets

            return num_evaluation_users(self, split)
        return self.info["counts"]["evaluation_users"][split]

    def shards(self, split: str) -> list[str]:
        """The paths of the TFRecord files of a split."""
        return [str(self.directory / shard["file"]) for shard in self._shard_infos(split)]

    def item_ids(self) -> list[str]:
        """The vocabulary: the item with index `i` is at position `i - 1`."""
        return read_lines(self.directory / ITEMS_FILE)

    def item_names(self) -> list[str]:
        """A readable name of each item, parallel to `item_ids`; the id where there is none."""
        path = self.directory / ITEM_NAMES_FILE
        return read_lines(path) if path.exists() else self.item_ids()

    @property
    def schema(self) -> Schema:
        """The columns beyond user, item and time; where it was prepared without a schema, none."""
        return Schema(tuple(one.column for one in self._fitted()))

    def fitted_columns(self, owner: str) -> list[FittedColumn]:
        """The columns of one of `schema.OWNERS`, with what was fitted on the training events."""
        return [one for one in self._fitted() if one.column.owner == owner]

    def item_features(self) -> dict[str, np.ndarray]:
        """The values of all items by the column's name.

        Returns:
          name -> int32 or float32 [V + 1, *column.shape], as `schema` says what is stored; row 0 is padding,
          whose values are missing.

        Raises:
          InputError: the file is damaged.
        """
        columns = [one.column for one in self.fitted_columns("item")]
        try:
            return read_item_features(self.directory, columns, self.num_items)
        except (pl.exceptions.PolarsError, ValueError) as error:
            raise _damaged(str(self.directory / ITEM_FEATURES_FILE), str(error)) from error

    @property
    def per_second(self) -> int:
        """How many units of the records' times a second has; 1 where they are no dates."""
        return time_units.per_second(self.info["last_time"], self.info.get("time_unit", times.AS_GIVEN))

    def _asked_at(self, split: str) -> int | None:
        protocol = self.protocol
        if label(protocol) != "time_all" or split == SPLITS[0]:
            return None
        return protocol["validation_from" if split == SPLITS[1] else "test_from"] // self.per_second

    def _fitted(self) -> list[FittedColumn]:
        return fitted_columns(self.directory, self.info.get("schema", []))

    def read(self, split: str, *, num_shards: int | None = None) -> UserSequences:
        """Reads a split into memory.

        Args:
          split: one of `SPLITS`.
          num_shards: so many of its shards that have users, the first; None: all.

        Raises:
          InputError: a shard is damaged, or its records are not those of this dataset.
        """
        user_ids, items, timestamps, lengths = [], [], [], []
        features, cuts = dict(_FEATURES), {}
        if self.protocol["name"] != USERS:
            features |= {name: tf.io.FixedLenFeature([], tf.int64) for name in CUTS}
            cuts = {name: [np.zeros(0, np.int64)] for name in CUTS}
        schema = self.schema
        columns = {column: [_nothing(column)] for column in in_records(schema.columns)}
        features |= record_features(columns)
        shards = zip(self._shard_infos(split), self.shards(split), strict=True)
        filled = [(shard, path) for shard, path in shards if shard["records"]]
        for shard, path in filled[:num_shards]:
            records = tf.data.TFRecordDataset(path).batch(_USERS_PER_PARSE)
            parsed = records.map(lambda batch: tf.io.parse_example(batch, features))
            found = 0
            try:
                for users in parsed:
                    found += len(users["user_id"])
                    user_ids.extend(users["user_id"].numpy())
                    items.append(users["items"].flat_values.numpy())
                    timestamps.append(users["timestamps"].flat_values.numpy())
                    lengths.append(users["items"].row_lengths().numpy())
                    for name in cuts:
                        cuts[name].append(users[name].numpy())
                    for column, values in columns.items():
                        values.append(_parsed(column, users[column.key]))
            except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
                raise _damaged(path, error.message.split("\n")[0]) from error
            if found != shard["records"]:
                raise _damaged(path, f"{found} users, where {shard['records']} were written")
        moments = np.concatenate([np.zeros(0, np.int64), *timestamps])
        values_by_key = {column.key: np.concatenate(values) for column, values in columns.items()}
        sequences = UserSequences(
            user_ids=np.array([user_id.decode("utf-8") for user_id in user_ids], dtype=object),
            items=np.concatenate([[], *items]).astype(np.int32),
            timestamps=moments,
            row_splits=row_splits(np.concatenate([np.zeros(0, np.int64), *lengths])),
            **{name: np.concatenate(values) for name, values in cuts.items()},
            columns=values_by_key,
            is_target=self.target_columns.are_targets(values_by_key),
            seconds=moments // self.per_second if schema.needs_times else None,
            asked_at=self._asked_at(split),
        )
        if len(sequences.items) and not (
            sequences.items.min() >= 1 and sequences.items.max() <= self.num_items
        ):
            raise _damaged(str(self.directory), f"item indices of {split} outside the vocabulary")
        return sequences

    def verify(self) -> None:
        """Raises `InputError` where a file is not what was written, by its checksum.

        `tf.data` meets a damaged record only when it gets there; this finds it before a long run.
        """
        files = list(self.info["files"])
        for split in SPLITS:
            files += self.info["shards"][split]
        for file in files:
            path = self.directory / file["file"]
            if file_sha256(path) != file["sha256"]:
                raise _damaged(str(path), "its checksum is not the one recorded")

    def _shard_infos(self, split: str) -> list[dict]:
        if split not in SPLITS:
            raise InputError(f"there is no split {split!r}; use one of {', '.join(SPLITS)}.")
        return self.info["shards"][split]


def open_dataset(directory: str | Path) -> Dataset:
    """Opens a dataset and checks that its files are there, whole.

    Raises:
      InputError: this is no dataset, or a file of it is missing or has not the size recorded.
    """
    directory = Path(directory).absolute()
    try:
        info = json.loads((directory / INFO_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{directory} is no dataset: it has no {INFO_FILE}. Make one with pipelines/prepare.py."
        ) from error
    except NotADirectoryError as error:
        raise InputError(
            f"{directory} is no dataset: wanted a directory that pipelines/prepare.py has made."
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(str(directory / INFO_FILE), str(error)) from error
    dataset = Dataset(directory, info)
    try:
        for split in SPLITS:
            for shard in info["shards"][split]:
                _check_size(directory / shard["file"], shard["bytes"])
        for file in info["files"]:
            _check_size(directory / file["file"], file["bytes"])
        _ = dataset.num_items, dataset.num_training_windows, dataset.fingerprint
        version = info["format_version"]
    except KeyError as error:
        raise _damaged(str(directory / INFO_FILE), f"it has no entry {error}") from error
    except TypeError as error:
        raise _damaged(str(directory / INFO_FILE), "it does not describe a dataset") from error
    if version not in FORMAT_VERSIONS:
        raise InputError(
            f"{directory} has format version {version}, wanted {', '.join(map(str, FORMAT_VERSIONS))}."
            " Prepare it again with this"
            " version of pipelines/prepare.py."
        )
    return dataset


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that ends each with a newline; nothing else splits it."""
    # `splitlines` and text mode would also split at characters that may stand within an id.
    return path.read_bytes().decode("utf-8").split("\n")[:-1]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nothing(column: Column) -> np.ndarray:
    kind = np.int32 if column.is_integer else np.float32
    return np.zeros((0, *column.shape) if column.owner == "user" else 0, kind)


def _parsed(column: Column, values: tf.RaggedTensor) -> np.ndarray:
    if column.owner == "user":
        return values_of_users(column, values).numpy()
    return values.flat_values.numpy().astype(np.int32 if column.is_integer else np.float32)


def _check_size(path: Path, wanted: int) -> None:
    if not path.exists():
        raise InputError(f"{path} is missing from the dataset. Prepare the dataset again.")
    got = path.stat().st_size
    if got != wanted:
        raise _damaged(str(path), f"got {got} bytes, wanted {wanted}")


def _damaged(path: str, what: str) -> InputError:
    return InputError(f"{path} is damaged: {what}. Prepare the dataset again.")

"""Writing a dataset; `sequences` says what it consists of.

The shards are written here rather than by a TFDS builder, whose bytes differ between identical
runs.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from causerec_tf.data.columns.feature_files import write_feature_files
from causerec_tf.data.columns.feature_fitting import StoredColumn
from causerec_tf.data.columns.feature_records import RecordColumns, metadata
from causerec_tf.data.dataset_files import CUTS, FORMAT_VERSIONS, INFO_FILE, ITEM_NAMES_FILE, ITEMS_FILE
from causerec_tf.data.sequences import Dataset, file_sha256, open_dataset
from causerec_tf.data.splits.protocols import HeldOutUsers, Protocol
from causerec_tf.data.splits.split_sequences import SplitSequences
from causerec_tf.data.splits.user_split import SPLITS
from causerec_tf.data.writing.sequence_counts import describe_counts, items_of, tally_by_split
from causerec_tf.files import directory_written_beside
from causerec_tf.schema import Column


def write_dataset(
    sequences: SplitSequences,
    directory: str | Path,
    *,
    num_shards: int,
    about: Mapping[str, object],
    protocol: Protocol | None = None,
    item_names: Mapping[str, str] | None = None,
    features: Sequence[StoredColumn] = (),
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda users: None,
) -> Dataset:
    """Writes a dataset and opens it.

    Args:
      sequences: the users' sequences.
      directory: where the dataset shall be.
      num_shards: number of shards of each split.
      about: how the sequences were made (filters, split seed, source, ...), for `dataset.json`.
      protocol: that split them; None: by users.
      item_names: item id -> readable name; an item without one is named by its id.
      features: the columns of a schema, with the values of these sequences.
      overwrite: replace the dataset that is there, once the new one is whole.
      progress: called with a number of users whenever so many more have been written.

    Raises:
      InputError: `directory` exists and may not be replaced.
    """
    with directory_written_beside(directory, marker=INFO_FILE, overwrite=overwrite) as beside:
        _write_files(
            sequences,
            beside,
            num_shards,
            dict(about),
            protocol or HeldOutUsers(),
            item_names,
            features,
            progress,
        )
    return open_dataset(directory)


def _write_files(
    sequences: SplitSequences,
    directory: Path,
    num_shards: int,
    about: dict,
    protocol: Protocol,
    item_names: Mapping[str, str] | None,
    features: Sequence[StoredColumn],
    progress: Callable[[int], None],
) -> None:
    _write_lines(directory / ITEMS_FILE, sequences.vocabulary)
    of_records = RecordColumns(features)
    shards: dict[str, list[dict]] = {}
    for split in SPLITS:
        shards[split] = []
        shard_of_record = sequences.shard[sequences.records[split].users]
        for shard in range(num_shards):
            members = np.flatnonzero(shard_of_record == shard)
            path = directory / shard_file(split, shard, num_shards)
            write_records(sequences, split, members, path, of_records)
            progress(len(members))
            shards[split].append(describe_file(path) | {"records": len(members)})
    write_descriptions(
        directory,
        vocabulary=sequences.vocabulary,
        counted=describe_counts(tally_by_split(sequences), items_of(sequences), protocol),
        shards=shards,
        about=about,
        item_names=item_names,
        features=features,
    )


def write_descriptions(
    directory: Path,
    *,
    vocabulary: Sequence[str],
    counted: Mapping[str, object],
    shards: dict[str, list[dict]],
    about: Mapping[str, object],
    item_names: Mapping[str, str] | None,
    features: Sequence[StoredColumn] = (),
) -> dict:
    """Writes what tells of the shards: `dataset.json`, names, and the files for TensorFlow Datasets.

    Args:
      directory: holds `items.txt`.
      vocabulary: what `items.txt` holds.
      counted: what `sequence_counts.describe_counts` gives.
      shards: split -> its shards in order: `file`, `bytes`, `sha256` and `records` of each.
      about: see `write_dataset`.
      item_names: see `write_dataset`.
      features: see `write_dataset`.
    """
    files = [ITEMS_FILE]
    if item_names is not None:
        names = [re.sub(r"\r\n|\n|\r", " ", item_names.get(item_id) or item_id) for item_id in vocabulary]
        _write_lines(directory / ITEM_NAMES_FILE, names)
        files.append(ITEM_NAMES_FILE)
    feature_files = write_feature_files(directory, features)
    cuts = CUTS if "protocol" in counted else ()
    _write_tfds_metadata(directory, shards, cuts, [one.column for one in features])
    info = {
        "format_version": FORMAT_VERSIONS[2 if features else "protocol" in counted],
        "num_items": len(vocabulary),
        **counted,
        **about,
        **({"schema": [one.fit.description() for one in features]} if features else {}),
        "num_shards": len(shards[SPLITS[0]]),
        "shards": shards,
        "files": [describe_file(directory / name, name) for name in files + feature_files],
    }
    info["fingerprint"] = _fingerprint(info, feature_files)
    text = json.dumps(info, indent=2, ensure_ascii=False)
    (directory / INFO_FILE).write_text(text + "\n", encoding="utf-8")
    return info


def shard_file(split: str, shard: int, num_shards: int) -> str:
    """The name of a shard's file, whatever the dataset is called: the bytes do not depend on the place."""
    return f"sequences-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}"


def describe_file(path: Path, name: str = "") -> dict:
    """A file's entry in `dataset.json`, under its name in the dataset; without one, that of the file."""
    return {"file": name or path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def write_records(
    sequences: SplitSequences,
    split: str,
    members: np.ndarray,
    path: Path,
    columns: RecordColumns | None = None,
) -> None:
    """Writes a TFRecord file of some records of a split, by their ascending positions, int64 [members]."""
    records = sequences.records[split]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in members:
            user = records.users[number]
            start = sequences.row_splits[user]
            end = start + records.lengths[number]
            example = tf.train.Example()
            features = example.features.feature
            features["user_id"].bytes_list.value.append(sequences.user_ids[user].encode("utf-8"))
            features["items"].int64_list.value.extend(sequences.items[start:end].tolist())
            features["timestamps"].int64_list.value.extend(sequences.times[start:end].tolist())
            for name in CUTS:
                cuts = getattr(records, name)
                if cuts is not None:
                    features[name].int64_list.value.append(int(cuts[number]))
            if columns is not None:
                columns.add(example, user, start, end)
            writer.write(example.SerializeToString(deterministic=True))


def _write_tfds_metadata(
    directory: Path, shards: dict[str, list[dict]], cuts: Sequence[str], columns: Sequence[Column]
) -> None:
    """Adds the two files by which TensorFlow Datasets knows the records."""
    import tensorflow_datasets as tfds  # here, because reading a dataset does without it

    template = tfds.core.ShardedFileTemplate(
        dataset_name="sequences", data_dir=directory, filetype_suffix="tfrecord"
    )
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        filename_template=template,
        features=tfds.features.FeaturesDict(
            {
                "user_id": tfds.features.Text(),
                "items": tfds.features.Sequence(np.int64),
                "timestamps": tfds.features.Sequence(np.int64),
            }
            | {name: tfds.features.Scalar(np.int64) for name in cuts}
            | metadata(columns)
        ),
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[shard["records"] for shard in shards[split]],
                num_bytes=sum(shard["bytes"] for shard in shards[split]),
                filename_template=template.replace(split=split),
            )
            for split in SPLITS
        ],
        version="1.0.0",
        check_data=False,  # it wants a first example, and a split may be empty
        description="Users' sequences of items, oldest first; item 0 is padding and never occurs.",
    )


def _fingerprint(info: dict, feature_files: Sequence[str]) -> str:
    """Over the vocabulary and the shards; with a schema also over it and the files of its features."""
    sums = {file["file"]: file["sha256"] for file in info["files"]}
    digest = hashlib.sha256(f"{ITEMS_FILE} {sums[ITEMS_FILE]}\n".encode())
    for split in SPLITS:
        for shard in info["shards"][split]:
            digest.update(f"{shard['file']} {shard['sha256']}\n".encode())
    if "schema" in info:
        digest.update(json.dumps(info["schema"], ensure_ascii=False).encode())
    for name in feature_files:
        digest.update(f"{name} {sums[name]}\n".encode())
    return digest.hexdigest()


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8"))

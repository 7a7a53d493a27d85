"""The pipelines that Beam runs, one after the other; `prepare` says which and when.

What a pipeline hands to the next one lies in files of the work folder. An attempt at a piece of work writes
under a name of its own and hands the name on, so that a runner may repeat any piece, also at the same time.
What a pipeline tells `prepare` is a list in its `output`, which `storage.load` reads.
"""

import hashlib
import heapq
import pickle
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl

from causerec_tf.data.distributed import blocks, storage
from causerec_tf.data.distributed.ranges import Range, Survey, read_range, survey_range
from causerec_tf.data.logs.interactions import TEST_COLUMN, in_microseconds
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.data.logs.suspicious_ids import Suspicion, find_suspicions
from causerec_tf.data.logs.time_units import count_units
from causerec_tf.data.splits.filters import Filters
from causerec_tf.data.splits.protocols import Protocol
from causerec_tf.data.splits.split_sequences import SplitSequences
from causerec_tf.data.splits.user_split import SPLITS
from causerec_tf.data.writing.sequence_counts import LOG, add_up, tally_by_split
from causerec_tf.errors import InputError

_ITEM_PARTS = 64
_FRAME_HEAD = 12  # of a TFRecord: length and its checksum, before the record
_FRAME_TAIL = 4  # the record's checksum

Bucket = tuple[int, str]  # its number and the file of its events


@dataclass(frozen=True)
class PreparationPlan:
    """What all workers have to know.

    `work` is the folder for what lies between two pipelines, `parts` the number of buckets of a shard,
    `by_users` whether each user is of one split. The protocol is that of `users` until the log is filtered.
    """

    work: str
    log: LogSettings
    split_seed: int
    num_shards: int
    parts: int
    by_users: bool
    protocol: Protocol


def survey(root: beam.Pipeline, plan: PreparationPlan, ranges: list[Range], output: str) -> None:
    """Looks ranges of the log through: each with its `Survey`, or the error why it cannot be read."""

    def look(part: Range) -> tuple[Range, Survey | InputError]:
        try:
            with storage.open_file(part.path) as file:
                return part, survey_range(part, file, plan.log)
        except InputError as error:
            return part, error

    collect(create(root, ranges) | "look through" >> beam.Map(look), output)


def read(
    root: beam.Pipeline,
    plan: PreparationPlan,
    work: list[tuple[Range, str, bool]],
    outputs: tuple[str, str, str],
) -> None:
    """Reads the log and brings the events of each bucket together, in the order of the log.

    The work is ranges, the notation of their times, and whether it is to become microseconds. The outputs are
    of ranges, each with its number of rows, those skipped and `UnitCounts`, or its error; of buckets; and of
    suspicions about ids.
    """

    def take(piece: tuple[Range, str, bool]) -> Iterator[Any]:
        part, notation, convert = piece
        try:
            with storage.open_file(part.path) as file:
                rows = read_range(part, file, plan.log, notation)
            units = count_units(rows.events["time"], notation, part.path)
            events = in_microseconds(rows.events, part.path) if convert and len(rows.events) else rows.events
        except InputError as error:
            yield beam.pvalue.TaggedOutput("report", (part, error))
            return
        yield beam.pvalue.TaggedOutput("report", (part, (rows.rows_read, rows.skipped, units)))
        if len(events):
            if part.is_test is not None:
                events = events.with_columns(pl.lit(part.is_test).alias(TEST_COLUMN))
            place = plan.split_seed, plan.num_shards, plan.parts
            for bucket, table in blocks.by_bucket(events, *place, by_users=plan.by_users):
                yield bucket, (part.file, part.start, storage.pack(table))

    def gather(keyed: tuple[int, Iterable[tuple[int, int, bytes]]]) -> Iterator[Any]:
        bucket, tables = keyed
        in_order = sorted(tables, key=lambda table: table[:2])
        events = pl.concat(storage.unpack(data) for _, _, data in in_order)
        yield _store(plan, bucket, events)
        for role in ("user", "item"):
            for part, counts in blocks.id_counts(events, role, _ITEM_PARTS):
                yield beam.pvalue.TaggedOutput("ids", ((role, part), storage.pack(counts)))

    def suspect(keyed: tuple[tuple[str, int], Iterable[bytes]]) -> list[Suspicion]:
        (role, _), tables = keyed
        return find_suspicions(blocks.add_up_ids(map(storage.unpack, tables)), role)

    taken = create(root, work) | "read" >> beam.FlatMap(take).with_outputs("report", main="tables")
    collect(taken.report, outputs[0])
    grouped = taken.tables | beam.GroupByKey()
    gathered = grouped | "gather" >> beam.FlatMap(gather).with_outputs("ids", main="buckets")
    collect(gathered.buckets, outputs[1])
    collect(gathered.ids | "by id" >> beam.GroupByKey() | "suspect" >> beam.FlatMap(suspect), outputs[2])


def drop_rare(
    root: beam.Pipeline, plan: PreparationPlan, buckets: list[Bucket], least: tuple[int, int], output: str
) -> None:
    """Drops rare users, then the items that are rare without them: one round of the filter.

    `least` are the numbers of events of a user and of an item. The output is of buckets, each with whether
    items were dropped; without a file where it is empty now.
    """
    min_user_count, min_item_count = least

    def users(bucket: Bucket) -> Iterator[Any]:
        number, path = bucket
        events = storage.read_frame(path)
        kept = blocks.drop_rare_users(events, min_user_count)
        if len(kept):
            yield beam.pvalue.TaggedOutput(
                "kept", bucket if len(kept) == len(events) else _store(plan, number, kept)
            )
            for part, counts in blocks.item_counts(kept, _ITEM_PARTS):
                yield part, (number, storage.pack(counts))

    def items(keyed: tuple[int, Iterable[tuple[int, bytes]]]) -> Iterator[tuple[int, bytes]]:
        for bucket, rare in blocks.rare_items(_unpacked(keyed[1]), min_item_count):
            yield bucket, storage.pack(rare)

    def drop(keyed: tuple[int, dict]) -> tuple[int, str | None, bool]:
        bucket, found = keyed
        (path,) = found["kept"]
        if not found["rare"]:
            return bucket, path, False
        rare = pl.concat(storage.unpack(table) for table in found["rare"])
        kept = storage.read_frame(path).join(rare, on="item", how="anti", maintain_order="left")
        return bucket, _store(plan, bucket, kept)[1] if len(kept) else None, True

    counted = create(root, buckets) | "users" >> beam.FlatMap(users).with_outputs("kept", main="counts")
    rare = counted.counts | "by item" >> beam.GroupByKey() | "items" >> beam.FlatMap(items)
    both = {"kept": counted.kept, "rare": rare} | beam.CoGroupByKey()
    collect(both | "drop" >> beam.Map(drop), output)


def shorten(
    root: beam.Pipeline, plan: PreparationPlan, buckets: list[Bucket], filters: Filters, output: str
) -> None:
    """Keeps the last events of each user and a share of the training users: the buckets that are left."""

    def keep(bucket: Bucket) -> Iterator[Bucket]:
        number, path = bucket
        kept = blocks.shorten(storage.read_frame(path), filters, plan.split_seed)
        if len(kept):
            yield _store(plan, number, kept)

    collect(create(root, buckets) | "shorten" >> beam.FlatMap(keep), output)


def number_and_write(
    root: beam.Pipeline, plan: PreparationPlan, buckets: list[Bucket], outputs: tuple[str, str, str]
) -> None:
    """Numbers the items, and writes the vocabulary and the shards into the work folder.

    The outputs are of one pair, the path of the vocabulary with each item's number of training events and
    what is counted of the items; and of what `merge` gives.
    """
    how = plan.split_seed, plan.num_shards, plan.protocol

    def count(bucket: Bucket) -> Iterator[tuple[int, tuple[int, bytes]]]:
        for part, counts in blocks.split_counts(storage.read_frame(bucket[1]), _ITEM_PARTS, *how):
            yield part, (bucket[0], storage.pack(counts))

    def sum_up(keyed: tuple[int, Iterable[tuple[int, bytes]]]) -> tuple[int, bytes]:
        return 0, storage.pack(blocks.add_up_counts(_unpacked(keyed[1])))

    def number(keyed: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        vocabulary, counted = blocks.number_items(map(storage.unpack, keyed[1]))
        path = storage.attempt(plan.work, "items")
        storage.write(path, storage.pack(vocabulary.select("item", "train")))
        yield beam.pvalue.TaggedOutput("vocabulary", (path, counted))
        for part, items in blocks.part_of_items(vocabulary.drop("train"), _ITEM_PARTS):
            yield part, storage.pack(items)

    def look_up(keyed: tuple[int, dict]) -> Iterator[tuple[int, bytes]]:
        found = keyed[1]
        (items,) = found["items"]
        for bucket, index in blocks.index_of_buckets(_unpacked(found["counts"]), storage.unpack(items)):
            yield bucket, storage.pack(index)

    def serialise(keyed: tuple[int, dict]) -> Iterator[Any]:
        bucket, found = keyed
        (path,) = found["path"]
        index = pl.concat(storage.unpack(table) for table in found["index"])
        sequences = blocks.sequences_of(storage.read_frame(path), index, *how)
        tallies = tally_by_split(sequences)
        yield beam.pvalue.TaggedOutput("tallies", tallies[LOG])
        shard = int(sequences.shard[0])  # of all users of a bucket
        for place, split in enumerate(SPLITS):
            if tallies[split].users:
                run = _write_run(plan, f"run-{split}-{bucket}", sequences, split)
                yield (place, shard), {"path": run, "tally": tallies[split]}

    created = create(root, buckets)
    counts = created | "count" >> beam.FlatMap(count)
    totals = counts | "by item" >> beam.GroupByKey() | "sum up" >> beam.Map(sum_up)
    numbered = (
        totals
        | "together" >> beam.GroupByKey()
        | "number" >> beam.FlatMap(number).with_outputs("vocabulary", main="items")
    )
    collect(numbered.vocabulary, outputs[0])
    index = (
        {"counts": counts, "items": numbered.items}
        | "join" >> beam.CoGroupByKey()
        | "look up" >> beam.FlatMap(look_up)
    )
    runs = (
        {"path": created, "index": index}
        | "by bucket" >> beam.CoGroupByKey()
        | "serialise" >> beam.FlatMap(serialise).with_outputs("tallies", main="runs")
    )
    collect(runs.tallies, outputs[2])
    shards = [((split, shard), None) for split in range(len(SPLITS)) for shard in range(plan.num_shards)]
    merged = (
        {"all": root | "shards" >> beam.Create(shards), "runs": runs.runs}
        | "by shard" >> beam.CoGroupByKey()
        | "merge" >> beam.Map(lambda keyed: merge(plan, keyed[0], list(keyed[1]["runs"])))
    )
    collect(merged, outputs[1])


def merge(plan: PreparationPlan, shard: tuple[int, int], runs: list[dict]) -> dict:
    """Merges sorted runs of records, each a `path` and a `tally`, into one shard, a record at a time."""
    path = storage.attempt(plan.work, f"shard-{shard[0]}-{shard[1]}")
    digest, size = hashlib.sha256(), 0
    readers = [_frames(run["path"]) for run in runs]
    with storage.create(path) as file:
        for _, frame in readers[0] if len(readers) == 1 else heapq.merge(*readers, key=lambda pair: pair[0]):
            file.write(frame)
            digest.update(frame)
            size += len(frame)
    return {
        "split": shard[0],
        "shard": shard[1],
        "path": path,
        "bytes": size,
        "sha256": digest.hexdigest(),
        "tally": add_up(run["tally"] for run in runs),
    }


def _write_run(plan: PreparationPlan, name: str, sequences: SplitSequences, split: str) -> str:
    """Writes the records that a split has of a bucket, sorted by user, and gives the path."""
    from causerec_tf.data.writing.sequence_writer import write_records  # TensorFlow: only where it is needed

    path = storage.attempt(plan.work, name)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "run"
        write_records(sequences, split, np.arange(len(sequences.records[split].users)), local)
        storage.write(path, local.read_bytes())
    return path


def _frames(path: str) -> Iterator[tuple[bytes, bytes]]:
    """The user id and the whole frame of each record of a TFRecord file."""
    import tensorflow as tf

    with storage.open_file(path) as file:
        while head := file.read(_FRAME_HEAD):
            (length,) = struct.unpack("<Q", head[:8])
            rest = file.read(length + _FRAME_TAIL)
            example = tf.train.Example.FromString(rest[:length])
            yield example.features.feature["user_id"].bytes_list.value[0], head + rest


def _store(plan: PreparationPlan, bucket: int, events: pl.DataFrame) -> Bucket:
    path = storage.attempt(plan.work, f"events-{bucket}")
    storage.write(path, storage.pack(events))
    return bucket, path


def _unpacked(tables: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, pl.DataFrame]]:
    return ((bucket, storage.unpack(table)) for bucket, table in tables)


def create(root: beam.Pipeline, values: list) -> beam.PCollection:
    """Pieces of work, spread over the workers."""
    return root | "create" >> beam.Create(values) | "spread" >> beam.Reshuffle()


def collect(values: beam.PCollection, path: str) -> None:
    """Writes small values, of all workers, into one file as a list."""
    name = path.rpartition("/")[2]
    (
        values
        | f"{name}: list" >> beam.combiners.ToList()
        | f"{name}: save" >> beam.Map(lambda found: storage.write(path, pickle.dumps(found)))
    )

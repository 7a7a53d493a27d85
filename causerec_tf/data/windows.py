"""tf.data: the training sequences on disk -> batches of (history, target). No model.

Every prefix of a training user's sequence predicts its next item. A row of a batch is one of these windows
or, for towers that read causally, a whole sequence with a target at every position. All work is done in
vectors, a chunk of users at a time; Python runs once per epoch.

Whole sequences. A row holds at most `max_history` items and as many targets. A longer sequence is cut from
its end into consecutive rows of `max_history` targets, of which only the first may have fewer. So every event
but the first of a sequence is the target of exactly one row, and only that row's items stand before it.

How well it shuffles. The order of an epoch is a pure function of (seed, epoch), whatever the global
seed of TensorFlow: the shards are taken in a random order and interleaved, the users are permuted
within a buffer of 16 chunks (32,768 users where sequences are of usual length; a data set of up to
that many users is permuted as a whole), and the windows are permuted within a chunk of up to 2,048
users. So the windows of one user are spread evenly over the batches of one chunk (about a hundred
batches of 1,024 with 50 events a user) and over no others: within an epoch a batch holds windows of
2,048 users at most, and which users share a chunk changes from epoch to epoch. Rows of whole sequences
are permuted in the same way.
"""

import functools
import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from causerec_tf.data.sequences import ITEMS_FEATURE, Dataset, open_dataset
from causerec_tf.data.training_columns import ColumnsBeside
from causerec_tf.data.training_records import (
    parse_training,
    rows_of_entries,
    training_lengths,
    training_shards,
)
from causerec_tf.errors import InputError

_MOST_USERS_PER_CHUNK = 2048
_FEWEST_USERS_PER_CHUNK = 32
_EVENTS_PER_CHUNK = 1 << 19  # chunks hold fewer users where sequences are long, to bound memory
_CHUNKS_PER_BUFFER = 16
_WINDOWS_PER_BLOCK = 1 << 15  # histories are gathered for so many windows at once, for the same end
_SHARDS_AT_ONCE = 16
_USERS_PER_TURN = 64
_BATCHES_AHEAD = 4

_PURPOSE_SHARDS, _PURPOSE_USERS, _PURPOSE_WINDOWS, _PURPOSE_TARGETS = range(4)


def training_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    max_history: int,
    seed: int,
    epoch: int,
    skip_batches: int = 0,
    targets_ahead: int = 1,
    whole_sequences: bool = False,
    num_pipelines: int = 1,
    pipeline: int = 0,
) -> tf.data.Dataset:
    """The batches of one epoch, or one pipeline's share of each of them.

    Of the rows of an epoch, in their order, a pipeline takes every `num_pipelines`-th. So each row is
    in one pipeline, and what the pipelines have of a batch is together the batch that a single one would
    have. Every pipeline reads all records, since the order is that of all of them; it makes only its own
    rows.

    Args:
      dataset: an opened dataset.
      batch_size: rows a batch.
      max_history: number of items of the history that is kept: the last ones before the target.
      seed: any integer; with `epoch` it decides the order.
      epoch: number of the epoch, from 0.
      skip_batches: leave out so many batches at the start: those a resumed run has had.
      targets_ahead: the target is one of so many items that follow the history, or of fewer at the sequence's
        end, drawn uniformly and anew in each epoch; 1: the next.
      whole_sequences: whether a row is a sequence with a target at every position, and not a window.
      num_pipelines: how many share the batches; a divisor of `batch_size`.
      pipeline: which of them this is, from 0. The last batch may be missing where it has fewer rows than
        there are pipelines.

    Returns:
      `{"history": int32 [B, max_history], "target": int32 [B]}`, of B / num_pipelines rows where batches
      are shared; of whole sequences `{"history": int32 [B, max_history], "targets": int32 [B, max_history]}`,
      where the target of each item is 0 only for padding. Histories are oldest first and padded with 0 on the
      right; none is empty. Of a dataset with a schema also what `training_columns.ColumnsBeside` gives.

    Raises:
      InputError: a setting is out of range, or no training user has two events.
    """
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("max_history", max_history, 1),
        ("epoch", epoch, 0),
        ("skip_batches", skip_batches, 0),
        ("targets_ahead", targets_ahead, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}.")
    if not 0 <= pipeline < num_pipelines or batch_size % num_pipelines:
        raise InputError(
            f"pipeline {pipeline} of {num_pipelines} with batch_size {batch_size}: wanted 0 to"
            f" {num_pipelines - 1}, and a batch that can be divided by {num_pipelines}."
        )
    if dataset.target_events.target_events and (whole_sequences or targets_ahead > 1):
        raise InputError(
            f"target_events={','.join(dataset.target_events.target_events)} acts on windows with"
            " targets_ahead=1: of other rows every event is a target."
        )
    if dataset.num_training_windows == 0:
        raise InputError(
            f"{dataset.directory} has no training user with two events or more, so nothing to learn"
            " from. Prepare a larger log, or try another --split_seed."
        )
    users_per_chunk, beside = _users_per_chunk(dataset), ColumnsBeside(dataset)

    @tf.autograph.experimental.do_not_convert
    def permute_users(number: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
        return _shuffle(records, _seed(seed, epoch, _PURPOSE_USERS), number)

    @tf.autograph.experimental.do_not_convert
    def chunk_of_rows(number: tf.Tensor, records: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = parse_training(dataset, records, {"items": ITEMS_FEATURE} | beside.features)
        items = parsed["items"]
        columns = beside.of_chunk(parsed)
        positions = beside.may_be_targets(columns, _target_positions(items))
        if whole_sequences:
            positions = _row_ends(items, positions, max_history)
        positions = _shuffle(positions, _seed(seed, epoch, _PURPOSE_WINDOWS), number)
        # Of whole sequences every event may be drawn for, and those of a row are looked up in it.
        drawn_for = tf.range(tf.size(items.flat_values)) if whole_sequences else positions
        return {
            "items": tf.cast(items.flat_values, tf.int32),
            # int32 indices are enough for a chunk, and half the memory traffic
            "row_starts": tf.cast(tf.gather(items.row_starts(), rows_of_entries(items)), tf.int32),
            "positions": positions,
            "targets": _draw_ahead(
                items, drawn_for, targets_ahead, _folded(_seed(seed, epoch, _PURPOSE_TARGETS), number)
            ),
            **columns,
        }

    @tf.autograph.experimental.do_not_convert
    def take_share(before: tf.Tensor, chunk: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Leaves a chunk this pipeline's rows; `before` it there were so many of all pipelines."""
        first = (pipeline - before) % num_pipelines
        of_rows = ("positions",) if whole_sequences else ("positions", "targets")
        share = {name: chunk[name][first::num_pipelines] for name in of_rows}
        return before + tf.size(chunk["positions"], out_type=tf.int64), chunk | share

    @tf.autograph.experimental.do_not_convert
    def blocks(chunk: dict[str, tf.Tensor]) -> tf.data.Dataset:
        size = tf.size(chunk["positions"], out_type=tf.int64)
        starts = tf.data.Dataset.range(0, size, _WINDOWS_PER_BLOCK)

        def block(start: tf.Tensor) -> dict[str, tf.Tensor]:
            of_block = slice(start, start + _WINDOWS_PER_BLOCK)
            items, positions, targets = chunk["items"], chunk["positions"][of_block], chunk["targets"]
            index, is_history = _history_places(chunk["row_starts"], positions, max_history)
            batch = {"history": _gather_real(items, index, is_history)}
            if whole_sequences:
                # The target of an item is drawn for the event behind it.
                behind = tf.gather(targets, tf.where(is_history, index + 1, 0))
                batch["targets"] = _gather_real(items, behind, is_history)
                return batch | beside.of_rows(chunk, positions, index, is_history, behind, is_history)
            at = targets[of_block]
            batch["target"] = tf.gather(items, at)
            return batch | beside.of_rows(chunk, positions, index, is_history, at, tf.ones_like(at, tf.bool))

        return starts.map(block)

    records = _records(dataset, np.random.default_rng(_seed(seed, epoch, _PURPOSE_SHARDS)))
    users = records.batch(users_per_chunk * _CHUNKS_PER_BUFFER).enumerate().map(permute_users)
    chunks = users.rebatch(users_per_chunk).enumerate()
    chunks = chunks.map(chunk_of_rows, num_parallel_calls=2, deterministic=True)
    rows = _num_rows(dataset, max_history if whole_sequences else 0)
    if num_pipelines > 1:
        chunks = chunks.scan(tf.constant(0, tf.int64), take_share)
        rows = len(range(pipeline, rows, num_pipelines))
        batch_size //= num_pipelines
    batches = chunks.flat_map(blocks).rebatch(batch_size)
    left = max(0, math.ceil(rows / batch_size) - skip_batches)
    # Keras asks for the length; a dataset that does not hold what it says it does is found out here.
    counted = batches.skip(skip_batches).apply(tf.data.experimental.assert_cardinality(left))
    # Autotuning has nothing here to tune, and an iterator that was read to its end does not close before the
    # autotuner's thread wakes up, which it does every minute at the latest (TensorFlow 2.20).
    options = tf.data.Options()
    options.autotune.enabled = False
    return counted.prefetch(_BATCHES_AHEAD).with_options(options)


def num_batches(dataset: Dataset, batch_size: int, *, longest_sequence: int = 0) -> int:
    """The number of batches of one epoch.

    Args:
      dataset: an opened dataset.
      batch_size: rows a batch.
      longest_sequence: `max_history` where rows are whole sequences; 0: rows are windows.
    """
    return math.ceil(_num_rows(dataset, longest_sequence) / batch_size)


def _num_rows(dataset: Dataset, longest_sequence: int) -> int:
    if longest_sequence == 0:
        return dataset.num_training_windows
    return _num_whole_sequences(dataset.directory, dataset.fingerprint, dataset.train_on, longest_sequence)


@functools.lru_cache(maxsize=16)
def _num_whole_sequences(directory: Path, fingerprint: str, train_on: str, max_history: int) -> int:
    """Counts the rows of whole sequences, once for a dataset: the fingerprint says that it is the same."""
    del fingerprint
    lengths = training_lengths(open_dataset(directory).for_training(train_on))
    return int(np.sum(-(-np.maximum(lengths - 1, 0) // max_history)))


def _users_per_chunk(dataset: Dataset) -> int:
    counts = dataset.info["counts"]
    mean_length = max(1, counts["interactions"]["train"] // max(1, counts["users"]["train"]))
    return min(_MOST_USERS_PER_CHUNK, max(_FEWEST_USERS_PER_CHUNK, _EVENTS_PER_CHUNK // mean_length))


def _records(dataset: Dataset, order: np.random.Generator) -> tf.data.Dataset:
    """The serialised users, shard by shard in random order, interleaved; empty shards left out."""
    paths = training_shards(dataset)
    order.shuffle(paths)
    return tf.data.Dataset.from_tensor_slices(paths).interleave(
        lambda path: tf.data.TFRecordDataset(path, buffer_size=1 << 20),
        cycle_length=min(_SHARDS_AT_ONCE, len(paths)),
        block_length=_USERS_PER_TURN,
    )


def _target_positions(items: tf.RaggedTensor) -> tf.Tensor:
    """Where targets stand in the flat items: everywhere but at the start of a row, int32 [W]."""
    size = tf.size(items.flat_values)
    starts = tf.boolean_mask(items.row_starts(), items.row_lengths() > 0)
    is_start = tf.scatter_nd(starts[:, tf.newaxis], tf.ones_like(starts, tf.int32), [size])
    return tf.boolean_mask(tf.range(size), is_start == 0)


def _draw_ahead(items: tf.RaggedTensor, positions: tf.Tensor, ahead: int, seed: tf.Tensor) -> tf.Tensor:
    """Where targets stand, int32 [W]: drawn from so many events from `positions`, int32 [W], on."""
    if ahead == 1:
        return positions
    row_limits = tf.cast(tf.gather(items.row_limits(), rows_of_entries(items)), tf.int32)
    choices = tf.minimum(tf.gather(row_limits, positions) - positions, ahead)
    share = tf.random.stateless_uniform(tf.shape(positions), seed)
    # A share just below 1 times the choices may round up to all of them.
    offset = tf.cast(share * tf.cast(choices, tf.float32), tf.int32)
    return positions + tf.minimum(offset, choices - 1)


def _row_ends(items: tf.RaggedTensor, positions: tf.Tensor, max_history: int) -> tf.Tensor:
    """Those of the targets' positions, int32 [W], at which a row of a whole sequence ends, int32 [R]."""
    row_limits = tf.cast(tf.gather(items.row_limits(), rows_of_entries(items)), tf.int32)
    to_the_end = tf.gather(row_limits, positions) - 1 - positions
    return tf.boolean_mask(positions, to_the_end % max_history == 0)


def _history_places(
    row_starts: tf.Tensor, positions: tf.Tensor, max_history: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the histories' items stand, int32 [W, L], and which of these are real, bool [W, L].

    Args:
      row_starts: int32 [events], where the user of each event starts.
      positions: int32 [W], of the first event behind each history; never the start of a user.
      max_history: L.
    """
    oldest = tf.maximum(tf.gather(row_starts, positions), positions - max_history)
    index = oldest[:, tf.newaxis] + tf.range(max_history)
    return tf.ensure_shape(index, [None, max_history]), index < positions[:, tf.newaxis]


def _gather_real(items: tf.Tensor, index: tf.Tensor, is_real: tf.Tensor) -> tf.Tensor:
    """The items at the places that are real, and 0 elsewhere, int32 [W, L]."""
    return tf.gather(items, tf.where(is_real, index, 0)) * tf.cast(is_real, tf.int32)


def _seed(seed: int, epoch: int, purpose: int) -> np.ndarray:
    """An independent seed for each use of randomness, uint32 [2]."""
    # SeedSequence takes no negative numbers; two's complement keeps every 64-bit seed apart.
    return np.random.SeedSequence([seed % (1 << 64), epoch, purpose]).generate_state(2)


def _shuffle(values: tf.Tensor, seed: np.ndarray, number: tf.Tensor) -> tf.Tensor:
    """Permutes a vector by (seed, number of the vector) alone."""
    return tf.random.experimental.stateless_shuffle(values, seed=_folded(seed, number))


def _folded(seed: np.ndarray, number: tf.Tensor) -> tf.Tensor:
    """The seed of one of several vectors, int64 [2]."""
    return tf.random.experimental.stateless_fold_in(tf.constant(seed.astype(np.int64)), number)

"""Where the protocol `time` cuts a log that lies in buckets: ranks are found by counting, never by sorting.

The span of the times is counted in equal parts; the part that has the wanted rank is the next span.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import apache_beam as beam
import numpy as np

from causerec_tf.data.distributed import steps, storage
from causerec_tf.data.distributed.steps import Bucket
from causerec_tf.data.splits.protocol_settings import TimesOfLog, rank_of

_BINS = 1 << 16


def times_of_buckets(run: Callable[..., None], work: str, buckets: list[Bucket], unit: str) -> TimesOfLog:
    """What of the times of all buckets decides where the log is cut.

    Args:
      run: runs a pipeline of a function and its arguments.
      work: the folder for what lies between two pipelines.
      buckets: of the events.
      unit: of the times.
    """

    @functools.cache  # a pipeline each
    def ends(before: int | None) -> tuple[int, int]:
        output = f"{work}/ends-{before}"
        run(_ends, buckets, before, output)
        found = storage.load(output)
        return min(first for first, _ in found), max(last for _, last in found)

    def at_rank(share: Fraction, before: int | None) -> int:
        (low, high), left = ends(before), None
        while low < high or left is None:
            output = f"{work}/times-{low}-{high}"
            run(_count_times, buckets, low, high, _BINS, output)
            (counts,) = storage.load(output)
            left = rank_of(share, int(counts.sum())) if left is None else left
            bin_of_rank = int(np.searchsorted(np.cumsum(counts), left))
            left -= int(counts[:bin_of_rank].sum())
            width = width_of_bins(low, high, _BINS)
            low += bin_of_rank * width
            high = min(high, low + width - 1)
        return low

    return TimesOfLog(ends, at_rank, unit)


def count_times(moments: np.ndarray, first: int, last: int, num_bins: int) -> np.ndarray:
    """How many of the times, int64 [events], lie in each of equal parts of a span: int64 [num_bins].

    The parts are `width_of_bins` wide.
    """
    inside = moments[(moments >= first) & (moments <= last)]
    # Unsigned: the distance of two int64 may be larger than one.
    distance = inside.view(np.uint64) - np.array(first, np.int64).view(np.uint64)
    bins = distance // np.uint64(width_of_bins(first, last, num_bins))
    return np.bincount(bins.astype(np.int64), minlength=num_bins)


def width_of_bins(first: int, last: int, num_bins: int) -> int:
    """How many times each of the equal parts of a span has, the last maybe fewer."""
    return -(-(last - first + 1) // num_bins)


def _ends(root: beam.Pipeline, buckets: list[Bucket], before: int | None, output: str) -> None:
    """The first and the last time of each bucket that has any, before a time or of all."""

    def ends(bucket: Bucket) -> Iterator[tuple[int, int]]:
        moments = storage.read_frame(bucket[1])["time"].to_numpy()
        counted = moments if before is None else moments[moments < before]
        if len(counted):
            yield int(counted.min()), int(counted.max())

    steps.collect(steps.create(root, buckets) | "ends" >> beam.FlatMap(ends), output)


def _count_times(
    root: beam.Pipeline, buckets: list[Bucket], first: int, last: int, num_bins: int, output: str
) -> None:
    """How many times of all buckets lie in each part of a span; see `count_times`."""

    def count(bucket: Bucket) -> np.ndarray:
        moments = storage.read_frame(bucket[1])["time"].to_numpy()
        return count_times(moments, first, last, num_bins)

    def add_up(some: Iterable[np.ndarray]) -> np.ndarray:
        return sum(some, np.zeros(num_bins, np.int64))

    counts = steps.create(root, buckets) | "count" >> beam.Map(count)
    steps.collect(counts | "add up" >> beam.CombineGlobally(add_up), output)

"""A log -> a dataset, by Apache Beam: the same records as by the local way, whatever the runner."""

import dataclasses
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from causerec_tf.data import times
from causerec_tf.data.dataset_files import INFO_FILE, ITEMS_FILE
from causerec_tf.data.distributed import steps, storage
from causerec_tf.data.distributed.ranges import Range, Survey, split_file
from causerec_tf.data.distributed.steps import Bucket, PreparationPlan
from causerec_tf.data.filters import Filters, no_shared_user, nothing_left
from causerec_tf.data.interactions import no_usable_rows
from causerec_tf.data.log_files import check_format
from causerec_tf.data.log_rows import REASONS, missing_column
from causerec_tf.data.log_settings import LogSettings
from causerec_tf.data.protocols import HeldOutUsers, Protocol
from causerec_tf.data.sequence_counts import LOG, ItemCounts, Tally, add_up, describe_counts
from causerec_tf.data.sequences import read_lines
from causerec_tf.data.suspicious_ids import add_up as add_up_suspicions
from causerec_tf.data.suspicious_ids import as_recorded
from causerec_tf.data.time_units import UnitCounts, check_one_unit
from causerec_tf.data.user_split import SPLITS
from causerec_tf.errors import InputError
from causerec_tf.files import directory_written_beside

_RANGE_BYTES = 64 << 20
# Beam's own runner in Python. What is called DirectRunner tries to download another one first.
_LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"


def prepare(
    patterns: Sequence[str],
    log: LogSettings,
    output: str,
    *,
    filters: Filters,
    protocol: Protocol | None = None,
    split_seed: int,
    num_shards: int,
    item_names: Mapping[str, str] | None,
    overwrite: bool,
    runner: str,
    options: str = "",
    on_vocabulary: Callable[[Sequence[str]], None] = lambda vocabulary: None,
    say: Callable[[str], None] = lambda line: None,
    range_bytes: int = _RANGE_BYTES,
) -> dict:
    """Prepares a dataset as `preparation.prepare` does, from globs, and gives what `dataset.json` holds.

    `runner` is one of Beam's: `DirectRunner`, `FlinkRunner`, `SparkRunner` or `DataflowRunner`; `options` are
    Beam's own, as on a command line. `on_vocabulary` is told the vocabulary before the dataset is in place;
    what it raises ends the preparation. `say` is told how it goes on. `range_bytes` is what a worker reads of
    a text file at once, and about what a bucket of users holds.

    Raises:
      InputError: the log cannot be used or the output not be written, as with the local way.
    """
    filters.check()
    log.roles()  # what is wrong with them is said before a file is missed
    ranges = _ranges(patterns, log, range_bytes)
    size = sum(storage.size(path) for path in {part.path for part in ranges})
    parts = max(1, round(0.8 * size / range_bytes / num_shards))
    with _place(output, overwrite) as place:
        work = f"{place}/work"
        FileSystems.mkdirs(work)
        plan = PreparationPlan(work, log, protocol or HeldOutUsers(), split_seed, num_shards, parts)
        name = _LOCAL_RUNNER if runner == "DirectRunner" else runner
        run = partial(_run, PipelineOptions(shlex.split(options), runner=name))
        say(f"{len(ranges)} ranges of the log, {len(SPLITS) * num_shards * parts} buckets of users")
        pieces, unit = _survey(run, plan, ranges)
        buckets, source = _read(run, plan, pieces)
        say(f"{source['rows_read']:,} rows read")
        buckets = _filter(run, plan, buckets, filters, source, say)
        vocabulary, items, everybody, shards = _write(run, plan, buckets)
        about = {"time_unit": unit, "filters": filters.description(), "split_seed": split_seed}
        described = {"about": about | {"source": source}, "item_names": item_names}
        return _complete(
            place, plan.protocol, vocabulary, items, everybody, shards, on_vocabulary, **described
        )


def _run(options: PipelineOptions, step: Callable[..., None], *arguments) -> None:
    """Runs one pipeline to its end."""
    with beam.Pipeline(options=options) as root:
        step(root, *arguments)


def _ranges(patterns: Sequence[str], log: LogSettings, range_bytes: int) -> list[Range]:
    ranges = []
    for number, path in enumerate(storage.find(patterns)):
        file_format = check_format(path, log.file_format, log.header)
        whole = Range(number, path, file_format, log.header, 0, None)
        with storage.open_file(path) as file:
            ranges += split_file(whole, file, storage.size(path), range_bytes)
    return ranges


def _survey(
    run: Callable[..., None], plan: PreparationPlan, ranges: list[Range]
) -> tuple[list[tuple[Range, str, bool]], str]:
    """The ranges with the notation of their times and whether to convert them; and the unit of the log."""
    found = _look_through(run, plan, ranges, "survey")
    quoted = {part.file for part, survey in found if isinstance(survey, Survey) and survey.has_quotes}
    if quoted:
        first = [part for part in ranges if part.file in quoted and part.start == 0]
        whole = [dataclasses.replace(part, end=None) for part in first]
        found = [entry for entry in found if entry[0].file not in quoted]
        found += _look_through(run, plan, whole, "survey-whole")
        found.sort(key=_place_in_log)
    by_file: dict[int, list[tuple[Range, Survey]]] = {}
    for part, survey in found:
        if isinstance(survey, InputError):
            raise survey
        by_file.setdefault(part.file, []).append((part, survey))
    pieces: list[tuple[Range, str]] = []
    usable: dict[str, str] = {}
    events = 0
    for parts in by_file.values():
        path, surveys = parts[0][0].path, [survey for _, survey in parts]
        _check_columns(path, surveys)
        notation = plan.log.notation or times.notation_of(survey.clues for survey in surveys)
        if any(notation in survey.usable for survey in surveys):
            usable[path] = notation
        lines = 0
        for part, survey in parts:
            pieces.append((dataclasses.replace(part, lines_above=lines, events_above=events), notation))
            lines += survey.lines
            events += survey.with_ids
    try:
        unit = times.combine_notations(usable)
    except ValueError as error:
        raise InputError(str(error)) from error
    mixed = unit == times.MICROSECONDS
    return [(part, notation, mixed and notation == times.INTEGER) for part, notation in pieces], unit


def _look_through(
    run: Callable[..., None], plan: PreparationPlan, ranges: list[Range], name: str
) -> list[tuple[Range, Survey | InputError]]:
    output = f"{plan.work}/{name}"
    run(steps.survey, plan, ranges, output)
    return sorted(storage.load(output), key=_place_in_log)


def _place_in_log(found: tuple[Range, Any]) -> tuple[int, int]:
    return found[0].file, found[0].start


def _check_columns(path: str, surveys: list[Survey]) -> None:
    """What can be said of a file only when all its ranges are known."""
    with_rows = [survey for survey in surveys if survey.rows]
    for name in with_rows[0].missing if with_rows else ():
        if all(name in survey.empty for survey in with_rows):
            raise missing_column(path, name, list(with_rows[0].found))


def _read(
    run: Callable[..., None], plan: PreparationPlan, pieces: list[tuple[Range, str, bool]]
) -> tuple[list[Bucket], dict]:
    """The buckets of users, and what `dataset.json` says of the source."""
    outputs = f"{plan.work}/reports", f"{plan.work}/buckets", f"{plan.work}/suspicions"
    run(steps.read, plan, pieces, outputs)
    by_file: dict[int, Counter[str]] = {}
    units: list[UnitCounts] = []
    rows_read = 0
    for part, report in sorted(storage.load(outputs[0]), key=_place_in_log):
        if isinstance(report, InputError):
            raise report
        rows_read += report[0]
        by_file.setdefault(part.file, Counter()).update(report[1])
        units.append(report[2])
    check_one_unit(units)
    # In the order in which the local way meets them.
    skipped: Counter[str] = Counter()
    for of_file in by_file.values():
        skipped.update({reason: of_file[reason] for reason in REASONS.values() if reason in of_file})
    paths = list(dict.fromkeys(part.path for part, _, _ in pieces))
    source = {
        "kind": "log",
        "files": [path.rpartition("/")[2] for path in paths],
        "rows_read": rows_read,
        "rows_skipped": dict(skipped),
        **as_recorded(add_up_suspicions(storage.load(outputs[2]))),
    }
    buckets = sorted(storage.load(outputs[1]))
    if not buckets:
        raise no_usable_rows(paths, rows_read)
    return buckets, source


def _filter(
    run: Callable[..., None],
    plan: PreparationPlan,
    buckets: list[Bucket],
    filters: Filters,
    source: dict,
    say: Callable[[str], None],
) -> list[Bucket]:
    """Drops rare users and items in rounds, until a round drops no item any more; then the rest."""
    least = filters.min_user_count, filters.min_item_count
    dropped, rounds = least != (1, 1), 0
    while dropped:
        rounds += 1
        output = f"{plan.work}/filter-{rounds}"
        run(steps.drop_rare, plan, buckets, least, output)
        found = storage.load(output)
        buckets = sorted((bucket, path) for bucket, path, _ in found if path is not None)
        dropped = any(items_dropped for _, _, items_dropped in found)
        if not buckets:
            raise nothing_left(source["rows_read"] - sum(source["rows_skipped"].values()), *least)
    if rounds:
        say(f"filtered in {rounds} rounds")
    if filters.max_user_count is None and filters.training_share == 1:
        return buckets
    output = f"{plan.work}/shorten"
    run(steps.shorten, plan, buckets, filters, output)
    buckets = sorted(storage.load(output))
    if not buckets:
        raise no_shared_user(filters.training_share)
    return buckets


def _write(
    run: Callable[..., None], plan: PreparationPlan, buckets: list[Bucket]
) -> tuple[str, ItemCounts, Tally, list[dict]]:
    """The path of the vocabulary, what is counted of items and of all users, and the shards in order."""
    outputs = f"{plan.work}/vocabulary", f"{plan.work}/shards", f"{plan.work}/tallies"
    run(steps.number_and_write, plan, buckets, outputs)
    ((vocabulary, items),) = storage.load(outputs[0])
    shards = sorted(storage.load(outputs[1]), key=lambda shard: (shard["split"], shard["shard"]))
    return vocabulary, items, add_up(storage.load(outputs[2])), shards


def _complete(
    place: str,
    protocol: Protocol,
    vocabulary: str,
    items: ItemCounts,
    everybody: Tally,
    merged: list[dict],
    on_vocabulary: Callable[[Sequence[str]], None],
    **described,
) -> dict:
    """Moves the shards to their place and writes what tells of them; `dataset.json` comes last."""
    from causerec_tf.data.sequence_writer import shard_file, write_descriptions

    shards: dict[str, list[dict]] = {split: [] for split in SPLITS}
    tallies: dict[str, list[Tally]] = {split: [] for split in SPLITS}
    for one in merged:
        split = SPLITS[one["split"]]
        tallies[split].append(one["tally"])
        name = shard_file(split, one["shard"], len(merged) // len(SPLITS))
        FileSystems.rename([one["path"]], [f"{place}/{name}"])
        entry = {"file": name, "bytes": one["bytes"], "sha256": one["sha256"], "records": one["tally"].users}
        shards[split].append(entry)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder)
        (local / ITEMS_FILE).write_bytes(storage.read(vocabulary))
        item_ids = read_lines(local / ITEMS_FILE)
        on_vocabulary(item_ids)
        names = {shard["file"] for split in SPLITS for shard in shards[split]}
        for name in names:
            (local / name).touch()  # TensorFlow Datasets looks for their names
        info = write_descriptions(
            local,
            vocabulary=item_ids,
            counted=describe_counts(
                {split: add_up(tallies[split]) for split in SPLITS} | {LOG: everybody}, items, protocol
            ),
            shards=shards,
            **described,
        )
        storage.remove_folder(f"{place}/work")
        written = [path for path in local.iterdir() if path.name not in names]
        for path in sorted(written, key=lambda path: (path.name == INFO_FILE, path.name)):
            storage.write(f"{place}/{path.name}", path.read_bytes())
    return info


@contextmanager
def _place(output: str, overwrite: bool) -> Iterator[str]:
    """Where to write: beside a directory of the operating system, else in the place itself."""
    if not storage.is_remote(output):
        with directory_written_beside(output, marker=INFO_FILE, overwrite=overwrite) as beside:
            yield str(beside)
        return
    place = output.rstrip("/")
    check_remote_output(place, overwrite)
    try:
        yield place
    except BaseException:
        storage.remove_folder(f"{place}/work")
        raise


def check_remote_output(place: str, overwrite: bool) -> None:
    """Checks that a dataset may be written to a path that is none of the operating system's.

    With `overwrite`, the dataset that is there stops being one: its `dataset.json` is deleted.
    """
    marker = f"{place}/{INFO_FILE}"
    if not FileSystems.exists(marker):
        return
    if not overwrite:
        raise InputError(f"{place} exists already. Choose another --output, or replace it with --overwrite.")
    FileSystems.delete([marker])

"""A log -> a dataset, by Apache Beam: the same records as by the local way, whatever the runner."""

import dataclasses
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from causerec_tf.data.columns.features_of_log import (
    Features,
    FittedFeatures,
    check_item_features,
    fit_item_features,
)
from causerec_tf.data.dataset_files import INFO_FILE, ITEMS_FILE
from causerec_tf.data.distributed import steps, storage
from causerec_tf.data.distributed.cuts import times_of_buckets
from causerec_tf.data.distributed.ranges import Range, Survey, split_file
from causerec_tf.data.distributed.steps import Bucket, PreparationPlan
from causerec_tf.data.logs import times
from causerec_tf.data.logs.interactions import no_usable_rows, with_test_files
from causerec_tf.data.logs.log_files import check_format
from causerec_tf.data.logs.log_rows import REASONS, missing_column
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.data.logs.suspicious_ids import add_up as add_up_suspicions
from causerec_tf.data.logs.suspicious_ids import as_recorded
from causerec_tf.data.logs.time_units import UnitCounts, check_one_unit
from causerec_tf.data.splits.filters import Filters, no_shared_user, nothing_left
from causerec_tf.data.splits.protocol_settings import ProtocolSettings
from causerec_tf.data.splits.protocols import USERS, HeldOutUsers, Protocol
from causerec_tf.data.splits.user_split import SPLITS
from causerec_tf.data.writing.sequence_counts import LOG, ItemCounts, Tally, add_up, describe_counts
from causerec_tf.errors import InputError

_RANGE_BYTES = 64 << 20
# Beam's own runner in Python. What is called DirectRunner tries to download another one first.
_LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"


def prepare(
    patterns: Sequence[str],
    log: LogSettings,
    output: str,
    *,
    filters: Filters,
    protocol: ProtocolSettings | None = None,
    test_patterns: Sequence[str] = (),
    split_seed: int,
    num_shards: int,
    item_names: Mapping[str, str] | None,
    features: Features | None = None,
    overwrite: bool,
    runner: str,
    options: str = "",
    on_ordered: Callable[[Sequence[str], int], None] = lambda vocabulary, returns: None,
    say: Callable[[str], None] = lambda line: None,
    range_bytes: int = _RANGE_BYTES,
) -> dict:
    """Prepares a dataset as `preparation.prepare` does, from globs, and gives what `dataset.json` holds.

    `runner` is one of Beam's: `DirectRunner`, `FlinkRunner`, `SparkRunner` or `DataflowRunner`; `options` are
    Beam's own, as on a command line. `on_ordered` is told the vocabulary and how many events are returns to
    an item of their user, before the dataset is in place; what it raises ends the preparation. `say` is told
    how it goes on. `features` have columns of items and of times alone. `range_bytes` is what a worker reads
    of a text file at once, and about what a bucket of users holds.

    Raises:
      InputError: the log cannot be used or the output not be written, as with the local way.
    """
    filters.check()
    asked = protocol or ProtocolSettings()
    asked.check(filters, split_seed, has_test_lists=bool(test_patterns))
    features = features or Features()
    check_item_features(features.schema, f"--runner={runner}")
    log.roles()  # what is wrong with them is said before a file is missed
    ranges = _ranges(patterns, test_patterns, log, range_bytes)
    size = sum(storage.size(path) for path in {part.path for part in ranges})
    parts = max(1, round(0.8 * size / range_bytes / num_shards))
    with storage.place(output, overwrite) as place:
        work = f"{place}/work"
        FileSystems.mkdirs(work)
        by_users = asked.name == USERS
        plan = PreparationPlan(work, log, split_seed, num_shards, parts, by_users, HeldOutUsers())
        name = _LOCAL_RUNNER if runner == "DirectRunner" else runner
        run = partial(_run, PipelineOptions(shlex.split(options), runner=name))
        say(f"{len(ranges)} ranges of the log, {len(SPLITS) * num_shards * parts} buckets of users")
        pieces, unit = _survey(run, plan, ranges)
        buckets, source = _read(run, plan, pieces)
        say(f"{source['rows_read']:,} rows read")
        buckets = _filter(run, plan, buckets, filters, source, say)
        found = asked.resolve(lambda: times_of_buckets(run, plan.work, buckets, unit))
        plan = dataclasses.replace(plan, protocol=found)
        vocabulary, items, everybody, shards = _write(run, plan, buckets)
        about = {"time_unit": unit, "filters": filters.description(), "split_seed": split_seed}
        described = {"about": about | {"source": source}, "item_names": item_names}
        return _complete(place, found, vocabulary, items, everybody, shards, features, on_ordered, described)


def _run(options: PipelineOptions, step: Callable[..., None], *arguments) -> None:
    """Runs one pipeline to its end."""
    with beam.Pipeline(options=options) as root:
        step(root, *arguments)


def _ranges(
    patterns: Sequence[str], test_patterns: Sequence[str], log: LogSettings, range_bytes: int
) -> list[Range]:
    ranges = []
    lists = storage.find(patterns)
    for number, path in enumerate(with_test_files(lists, storage.find(test_patterns))):
        file_format = check_format(path, log.file_format, log.header)
        is_test = number >= len(lists) if test_patterns else None
        whole = Range(number, path, file_format, log.header, 0, None, is_test=is_test)
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
    # By whether a range holds test lists.
    of_kind: dict[bool | None, list[Range]] = {}
    rows_read: Counter[bool | None] = Counter()
    usable: Counter[bool | None] = Counter()
    for part, report in sorted(storage.load(outputs[0]), key=_place_in_log):
        if isinstance(report, InputError):
            raise report
        of_kind.setdefault(part.is_test, []).append(part)
        rows_read[part.is_test] += report[0]
        usable[part.is_test] += report[0] - sum(report[1].values())
        by_file.setdefault(part.file, Counter()).update(report[1])
        units.append(report[2])
    check_one_unit(units)
    # In the order in which the local way meets them.
    skipped: Counter[str] = Counter()
    for of_file in by_file.values():
        skipped.update({reason: of_file[reason] for reason in REASONS.values() if reason in of_file})
    files = {is_test: list(dict.fromkeys(part.path for part in parts)) for is_test, parts in of_kind.items()}
    for is_test, paths in files.items():
        if not usable[is_test]:
            raise no_usable_rows(paths, rows_read[is_test])
    names = {is_test: [path.rpartition("/")[2] for path in paths] for is_test, paths in files.items()}
    source = {
        "kind": "log",
        "files": names.get(None) or names[False],
        **({"test_files": names[True]} if True in names else {}),
        "rows_read": rows_read.total(),
        "rows_skipped": dict(skipped),
        **as_recorded(add_up_suspicions(storage.load(outputs[2]))),
    }
    return sorted(storage.load(outputs[1])), source


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
    features: Features,
    on_ordered: Callable[[Sequence[str], int], None],
    described: dict[str, Any],
) -> dict:
    """Moves the shards to their place and writes what tells of them; `dataset.json` comes last."""
    from causerec_tf.data.writing.sequence_writer import shard_file, write_descriptions

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
        items_read = storage.read_frame(vocabulary)
        item_ids = items_read["item"].to_list()
        (local / ITEMS_FILE).write_bytes("".join(item + "\n" for item in item_ids).encode("utf-8"))
        on_ordered(item_ids, everybody.returns)
        fitted = FittedFeatures()
        if features.schema:
            assert everybody.last_time is not None
            about = described["about"]
            counts = items_read["train"].to_numpy()
            fitted = fit_item_features(features, item_ids, counts, everybody.last_time, about["time_unit"])
            about["source"] |= fitted.description()
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
            features=fitted.columns,
            **described,
        )
        storage.remove_folder(f"{place}/work")
        written = [path for path in local.rglob("*") if path.is_file() and path.name not in names]
        for path in sorted(written, key=lambda path: (path.name == INFO_FILE, path)):
            storage.write(f"{place}/{path.relative_to(local).as_posix()}", path.read_bytes())
    return info

"""Recommends items for every history in the input files, from a bundle alone.

python pipelines/retrieve.py --bundle=bundles/shop --input='histories/*.jsonl' --output=top50.parquet --k=50
python pipelines/retrieve.py --bundle=bundles/shop --input=histories.csv --output=top.jsonl --show=5 --explain
python pipelines/retrieve.py --bundle=bundles/shop --input='histories/*.parquet' --output=recommendations/
python pipelines/retrieve.py --bundle=bundles/shop --input='h/*.csv' --output=top50/ --runner=DirectRunner
python pipelines/retrieve.py --bundle=bundles/shop --input=h.jsonl --output=o.jsonl --tower_address=tower:8500
python pipelines/retrieve.py --bundle=bundles/shop --similar_to=items.txt --output=similar.parquet --k=20
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from export.batch.history_files import Columns, HistoryRow, expand
from export.batch.job_settings import AnswerTally, JobSettings, describe
from export.batch.processes import answer_shards, cores
from export.batch.recommendation_files import SIMILAR_SCHEMA, RecommendationWriter, schema_of
from export.batch.shards import opened_job, place_shards
from export.batch.unfinished import unfinished_beside
from export.filters.availability import read_id_list
from export.filters.expression import read_filter
from export.index.engines import ENGINES
from export.index.labels import read_ids
from export.index.update_files import read_deletes
from export.lists.categories import read_categories
from export.lists.choosing import Variety
from export.lists.exploration import POOLS, Exploration
from export.query import ids_of
from export.store.bundle_errors import BundleError
from export.store.layout import check_name, index_directory, read_tower, resolve_number, tower_directory
from export.tower_columns import TowerColumns
from export.towers.answers import Recommendation
from pipelines.command_line import beam_flags, command, item_tables, outputs
from pipelines.command_line.retrieval_progress import RetrievalProgress

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Directory of the bundle.", required=True)
flags.DEFINE_list("input", None, "Files of histories: globs, comma-separated.")
flags.DEFINE_string(
    "similar_to",
    None,
    "Instead of --input: the items whose nearest items are wanted, a text file with an id a line, or ids"
    " between commas.",
)
flags.DEFINE_string(
    "output",
    None,
    "File to write, .jsonl or .parquet; or, with a slash at its end, a directory: a shard for each input.",
    required=True,
)
flags.DEFINE_enum("format", "parquet", ["parquet", "jsonl"], "Format of the shards in a directory.")
flags.DEFINE_integer(
    "jobs", None, "Processes that write shards. None: one per available core.", lower_bound=1
)
flags.DEFINE_integer("k", 50, "How many items to recommend to each user, at most.", lower_bound=1)
flags.DEFINE_bool("exclude_seen", True, "Leave out the items of the user's history.")
flags.DEFINE_float(
    "diversity",
    0.0,
    "Score that an item loses for each better item of its category (ComiRec's controllable aggregation).",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "relevance",
    Variety.relevance,
    "Share of the score against the cosine to the nearest item of the list: maximal marginal relevance.",
    0.0,
    1.0,
)
flags.DEFINE_integer("category_cap", 0, "Most items of one category in a list; 0: any number.", lower_bound=0)
flags.DEFINE_string(
    "item_categories",
    None,
    "For --diversity and --category_cap: csv or tsv file with item id and category.",
)
flags.DEFINE_string(
    "category_column", None, "Instead of --item_categories: a column of the bundle's item attributes."
)
flags.DEFINE_string(
    "reranker", None, "What scores the candidates again: module:function, or an http or https address."
)
flags.DEFINE_integer(
    "reranker_ms",
    JobSettings.reranker_ms,
    "Milliseconds for that, for a batch of users; then their lists stay as they were found.",
    lower_bound=1,
)
flags.DEFINE_float("explore", 0.0, "Share of a list that is drawn from --explore_from.", 0.0, 1.0)
flags.DEFINE_enum(
    "explore_from",
    POOLS[0],
    POOLS,
    "tail: all but the most popular items; new: those added since the tower was trained.",
)
flags.DEFINE_string("filter", None, "Filter in JSON, of the attributes that the bundle has.")
flags.DEFINE_string("filter_column", None, "Name of a column of filters in JSON, one for each user.")
flags.DEFINE_string("allow", None, "File with an id per line: the items that may be recommended.")
flags.DEFINE_string("deny", None, "File with an id per line: items that are not recommended.")
flags.DEFINE_string("user_column", "user_id", "Name of the column of user ids.")
flags.DEFINE_string("history_column", "history", "Name of the column of histories, oldest item first.")
flags.DEFINE_string("history_separator", " ", "Separator of the ids in a history that is one string.")
flags.DEFINE_enum("on_bad_row", "error", ["error", "skip"], "What to do with a row that cannot be read.")
flags.DEFINE_integer("show", 0, "Print the answers of the first N users, by item name.", lower_bound=0)
flags.DEFINE_bool("explain", False, "With --show: also print the past items that influence the answer most.")
flags.DEFINE_string(
    "tower_address", None, "host:port of TensorFlow Serving's gRPC port. None: the tower runs here."
)
flags.DEFINE_enum(
    "engine", "auto", ENGINES, "What searches the items. auto: ScaNN where it is installed, or NumPy."
)
beam_flags.define(local="processes of this machine")
flags.DEFINE_bool("overwrite", False, "Replace --output if it exists; in a directory of shards, start again.")

_OF_HISTORIES = (
    *("format", "jobs", "exclude_seen", "diversity", "relevance", "category_cap", "item_categories"),
    *("category_column", "reranker", "reranker_ms", "explore", "explore_from"),
    *("user_column", "history_column"),
    *(
        "history_separator",
        "filter_column",
        "on_bad_row",
        "show",
        "explain",
        "tower_address",
        "runner",
        "beam_options",
    ),
)
_SHOWN_ITEMS = 10
_SHOWN_INFLUENCES = 3
_EXPLAINED_ITEMS = 50  # of fewer, a single past item often changes none


def main() -> None:
    """Checks what can be checked before anything is loaded, then recommends."""
    if (FLAGS.input is None) == (FLAGS.similar_to is None):
        raise BundleError("Give either --input=FILES, of histories, or --similar_to=FILE, of item ids.")
    if FLAGS.similar_to is not None:
        _similar_items(Path(FLAGS.output))
        return
    if FLAGS.explain and not FLAGS.show:
        raise BundleError("--explain needs --show=N, whose answers it explains; give both.")
    if not FLAGS.history_separator:
        raise BundleError("--history_separator is empty; it must be at least one character.")
    if FLAGS.item_categories and FLAGS.category_column:
        raise BundleError(
            "--item_categories and --category_column are two ways to the same; give one of them."
        )
    if bool(FLAGS.diversity or FLAGS.category_cap) != bool(FLAGS.item_categories or FLAGS.category_column):
        raise BundleError(
            "--diversity or --category_cap, and --item_categories or --category_column need each other; give"
            " both."
        )
    for name, of in (("reranker_ms", "reranker"), ("explore_from", "explore")):
        if FLAGS[name].present and not FLAGS[of].value:
            raise BundleError(f"--{name} has no effect without --{of}; give both.")
    if not math.isfinite(FLAGS.diversity):
        raise BundleError(f"--diversity={FLAGS.diversity}: wanted a finite number, 0 or more.")
    Variety(FLAGS.diversity, FLAGS.relevance, FLAGS.category_cap)  # refuses what does not go together
    Exploration(FLAGS.explore, FLAGS.explore_from)
    paths = expand(FLAGS.input)
    categories = read_categories(Path(FLAGS.item_categories)) if FLAGS.item_categories else None
    settings = JobSettings(
        k=FLAGS.k,
        exclude_seen=FLAGS.exclude_seen,
        diversity=FLAGS.diversity,
        relevance=FLAGS.relevance,
        category_cap=FLAGS.category_cap,
        # Absolute, like the bundle's: Beam's workers may work elsewhere.
        item_categories=str(Path(FLAGS.item_categories).absolute()) if FLAGS.item_categories else None,
        category_column=FLAGS.category_column,
        reranker=FLAGS.reranker,
        reranker_ms=FLAGS.reranker_ms,
        explore=FLAGS.explore,
        explore_from=FLAGS.explore_from,
        columns=Columns(
            FLAGS.user_column, FLAGS.history_column, FLAGS.history_separator, FLAGS.filter_column
        ),
        skip_bad_rows=FLAGS.on_bad_row == "skip",
        engine=FLAGS.engine,
        **_of_items(),
    )
    output = Path(FLAGS.output)
    if beam_flags.is_asked(BundleError):
        _by_beam(paths, output, settings, categories)
        return
    if FLAGS.output.endswith("/") or output.is_dir():
        _to_directory(paths, output, settings, categories)
    else:
        _to_file(paths, output, settings, categories)


def _of_items() -> dict[str, Any]:
    """What the flags say about the items that may be answered; raises BundleError where it cannot be read."""
    read_filter(FLAGS.filter or "{}")
    lists = {name: Path(path).absolute() for name in ("allow", "deny") if (path := FLAGS[name].value)}
    for path in lists.values():
        read_id_list(path)
    return {"filter": FLAGS.filter} | {name: str(path) for name, path in lists.items()}


def _similar_items(output: Path) -> None:
    """Writes the nearest items of items; none of the flags of histories has anything to say here."""
    for name in _OF_HISTORIES:
        if FLAGS[name].present:
            raise BundleError(f"--{name} does not go with --similar_to; leave it out.")
    path = Path(FLAGS.similar_to)
    items = read_deletes(path) if path.is_file() else [one for one in FLAGS.similar_to.split(",") if one]
    if not items:
        raise BundleError(f"--similar_to={FLAGS.similar_to!r} names no file and no item.")
    outputs.check_place(output, "--output", BundleError)
    writer = RecommendationWriter(output, overwrite=FLAGS.overwrite, schema=SIMILAR_SCHEMA)
    settings = JobSettings(k=FLAGS.k, engine=FLAGS.engine, **_of_items())
    from export.batch.answering import Answering, write_similar  # these load TensorFlow

    with writer:
        retriever = Answering.open(FLAGS.bundle, settings).retriever
        unknown, version = write_similar(retriever, items, FLAGS.k, writer)
        if unknown == len(items):
            raise BundleError(
                f"--similar_to={FLAGS.similar_to}: {FLAGS.bundle} has none of these {len(items):,} ids, such"
                f" as {items[0]!r:.100}. Is it the file of another catalogue, or not there?"
            )
    print(f"{len(items):,} items, {unknown:,} of them unknown")
    print(f"{FLAGS.output}: version {version}")


def _sum_up(tally: AnswerTally, version: str, seconds: float) -> None:
    for error in tally.told:
        print(f"skipped: {error}")
    counts = tally.counts
    users, items = counts["users"], counts["items"]
    print(
        f"{users:,} users ({users / seconds:,.0f} a second), {items:,} recommended items"
        f" ({items / seconds:,.0f} a second), {counts['fallbacks']:,} users answered with the most popular"
        f" items, {counts['unknown_items']:,} unknown items in their histories"
        + (f", {counts['bad_rows']:,} bad rows skipped" if counts["bad_rows"] else "")
    )
    if columns := TowerColumns.newest(FLAGS.bundle):
        given = ", ".join(f"{one.input} {counts[f'given {one.input}']:,}" for one in columns.columns)
        print(f"users with values: {given}; {counts['unknown_values']:,} values that training never saw")
    if 10 * counts["fallbacks"] > users or counts["unknown_items"] > users:
        print(
            "note: many items of these histories are not in the catalogue. Are the ids those of the prepared"
            " log, and do --history_column and --history_separator fit the file?"
        )
    if counts["short"]:
        seen = " that are not in their histories (--noexclude_seen keeps those)" if FLAGS.exclude_seen else ""
        print(
            f"note: {counts['short']:,} of {users:,} users got fewer than --k={FLAGS.k} items: the"
            f" catalogue has no more{seen}"
        )
    print(f"{FLAGS.output}: version {version}")


def _check_categories(categories: dict[str, str] | None, bundle: Path, version: str) -> None:
    """Says how many items of a version have a category, if there are categories."""
    if categories is None:
        return
    item_ids = read_ids(index_directory(bundle, version))
    flag = f"--item_categories={FLAGS.item_categories}"
    print(item_tables.coverage(flag, "category", categories, item_ids, BundleError))


def _to_file(
    paths: list[Path], output: Path, settings: JobSettings, categories: dict[str, str] | None
) -> None:
    for name in ("format", "jobs"):
        if FLAGS[name].present:
            raise BundleError(f"--{name} is for a directory of shards: --output={output}/ with a slash.")
    if output.resolve() in {path.resolve() for path in paths}:
        raise BundleError(f"The output would replace the input {output}; give another file.")
    outputs.check_place(output, "--output", BundleError)
    schema = schema_of(TowerColumns.newest(FLAGS.bundle), settings)
    writer = RecommendationWriter(output, overwrite=FLAGS.overwrite, schema=schema)
    from export.batch.answering import Answering, write_answers  # these load TensorFlow
    from export.towers.remote import RemoteTower

    tower = None
    if FLAGS.tower_address:
        tower = RemoteTower(FLAGS.tower_address, columns=TowerColumns.newest(FLAGS.bundle))
    answering = Answering.open(FLAGS.bundle, settings, tower=tower)
    retriever = answering.retriever
    _check_categories(categories, Path(FLAGS.bundle), retriever.version)
    shown: list[str] = []
    with writer, RetrievalProgress(sum(path.stat().st_size for path in paths)) as progress:

        def on_batch(num_bytes: int, rows: list[HistoryRow], answers: list[Recommendation]) -> None:
            for row, answer in zip(rows[: FLAGS.show - len(shown)], answers, strict=False):
                shown.append(_describe(answering, row, answer))
            progress.step(num_bytes, len(rows), sum(len(answer.items) for answer in answers))

        tally = write_answers(answering, paths, writer, on_batch)
        if not tally.counts["users"]:
            raise BundleError(f"{', '.join(FLAGS.input)} holds no history that can be read.")
    print("\n".join(shown), end="\n" if shown else "")
    _sum_up(tally, retriever.version, progress.seconds)


def _to_directory(
    paths: list[Path], output: Path, settings: JobSettings, categories: dict[str, str] | None
) -> None:
    """A shard for each input, by several processes."""
    for name, why in (
        ("show", "works with one file; look into a shard"),
        ("tower_address", "names a tower whose version may change between two shards"),
    ):
        if FLAGS[name].present:
            raise BundleError(f"--{name} does not go with a directory of shards: it {why}.")
    outputs.check_place(output, "--output", BundleError, is_filled=True)
    shards = place_shards(paths, output, f".{FLAGS.format}")
    with opened_job(
        output,
        shards,
        bundle=Path(FLAGS.bundle),
        settings=describe(settings) | {"format": FLAGS.format},
        overwrite=FLAGS.overwrite,
    ) as job:
        left = job.left
        if len(left) < len(shards):
            print(f"{len(shards) - len(left):,} of {len(shards):,} shards are there already")
        if left and job.version != job.newest:
            print(
                f"note: the newest version of {FLAGS.bundle} is {job.newest}; this job continues with"
                f" {job.version}, with which it began. --overwrite starts again with the newest."
            )
        if left:
            _check_categories(categories, job.bundle, job.version)
        jobs = FLAGS.jobs or cores()
        threads = max(1, cores() // jobs)
        with RetrievalProgress(sum(shard.source.stat().st_size for shard in left)) as progress:
            tally = answer_shards(job, settings, jobs=jobs, threads=threads, on_step=progress.step)
        print(f"{len(left):,} shards written")
    _sum_up(tally, job.version, progress.seconds)


def _by_beam(
    paths: list[Path], output: Path, settings: JobSettings, categories: dict[str, str] | None
) -> None:
    """Into a directory, of whose files Beam decides; it appears when it is whole."""
    for name in ("show", "tower_address", "jobs", "overwrite"):
        if FLAGS[name].present:
            raise BundleError(f"--{name} does not go with --runner={FLAGS.runner}; leave it out.")
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise BundleError(f"--output={output} exists; with --runner it is a new or an empty directory.")
    with beam_flags.absence_explained(BundleError):
        from export.batch.beam_step import recommend_files
    bundle = Path(FLAGS.bundle).absolute()
    newest = read_tower(tower_directory(bundle, resolve_number(bundle, None)))["version"]
    _check_categories(categories, bundle, newest)
    output = output.resolve()
    check_name(output, "--output")
    outputs.check_place(output, "--output", BundleError)
    started = time.perf_counter()
    with unfinished_beside(output) as work:
        whole = work / "whole"
        whole.mkdir()
        tally, version = recommend_files(
            [path.absolute() for path in paths],
            whole,
            bundle=bundle,
            settings=settings,
            file_format=FLAGS.format,
            runner=FLAGS.runner,
            options=FLAGS.beam_options,
        )
        whole.rename(output)  # in the place of an empty directory, too
    _sum_up(tally, version, time.perf_counter() - started)


def _describe(answering, row: HistoryRow, answer) -> str:
    retriever = answering.retriever

    def names(items: Sequence[str]) -> str:
        return " · ".join(map(retriever.name_of, items)) or "nothing"

    last = ids_of(row.history[-_SHOWN_ITEMS:])
    few = f", the last {len(last)} of {len(row.history)}" if len(last) < len(row.history) else ""
    lines = [f"user {row.user_id}", f"  history{few}: {names(last)}"]
    if answer.fallback:
        lines.append("  nothing known in the history: the most popular items")
    for place, (item, score) in enumerate(zip(answer.items, answer.scores, strict=True), start=1):
        if place > _SHOWN_ITEMS:
            break
        lines.append(
            f"  {place:>4}. {retriever.name_of(item)}" + ("" if answer.fallback else f"  {score:.3f}")
        )
    if FLAGS.explain and answer.items and not answer.fallback:
        top = min(_EXPLAINED_ITEMS, len(answer.items))
        influences = retriever.explain(answering.query(row), top)
        lines.append(f"  leans most on (share of the top {top} that changes without it):")
        for one in influences[:_SHOWN_INFLUENCES]:
            lines.append(f"     {one.share:>4.0%}  {retriever.name_of(one.item)}")
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main, bad_input=(BundleError,))

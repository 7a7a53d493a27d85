"""Recommends for every history in some files, from a bundle alone.

python pipelines/retrieve.py --bundle=bundles/shop --input='histories/*.jsonl' --output=top50.parquet --k=50
python pipelines/retrieve.py --bundle=bundles/shop --input=histories.csv --output=top.jsonl --show=5 --explain
python pipelines/retrieve.py --bundle=bundles/shop --input=h.jsonl --output=o.jsonl --tower_address=tower:8500
"""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from export.diversity import diversify, read_categories
from export.errors import BundleError
from export.histories import Columns, HistoryRow, expand, read_histories
from export.recommendation_files import RecommendationWriter
from pipelines import command

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Directory of the bundle.", required=True)
flags.DEFINE_list("input", None, "Files of histories: globs, comma-separated.", required=True)
flags.DEFINE_string("output", None, "File to write: .jsonl or .parquet.", required=True)
flags.DEFINE_integer("k", 50, "How many items to recommend to each user.", lower_bound=1)
flags.DEFINE_bool("exclude_seen", True, "Leave out the items of the user's history.")
flags.DEFINE_float(
    "diversity",
    0.0,
    "How much score an item loses for each better one of its category (ComiRec's controllable aggregation).",
    lower_bound=0.0,
)
flags.DEFINE_string("item_categories", None, "For --diversity: a csv or tsv file: item id, category.")
flags.DEFINE_string("user_column", "user_id", "Name of the column of user ids.")
flags.DEFINE_string("history_column", "history", "Name of the column of histories, oldest item first.")
flags.DEFINE_string("history_separator", " ", "What separates the ids of a history that is one string.")
flags.DEFINE_enum("on_bad_row", "error", ["error", "skip"], "What to do with a row that cannot be read.")
flags.DEFINE_integer("show", 0, "Print the answers to the first so many users, in readable names.")
flags.DEFINE_bool("explain", False, "With --show: also the past items on which the answer rests most.")
flags.DEFINE_string("tower_address", None, "host:port of TensorFlow Serving's gRPC. None: in this process.")
flags.DEFINE_bool("overwrite", False, "Replace the output if it exists.")

_BATCH = 2048
_CANDIDATES_FOR_DIVERSITY = 5  # times k, so that there is something to choose from
_SHOWN_ITEMS = 10
_SHOWN_INFLUENCES = 3
_EXPLAINED_ITEMS = 50  # of fewer, a single past item often changes none


def main() -> None:
    """Reads, recommends, writes, and sums up."""
    if FLAGS.explain and not FLAGS.show:
        raise BundleError("--explain explains the answers that --show=N prints; give both.")
    if not FLAGS.history_separator:
        raise BundleError("--history_separator is empty; it must be at least one character.")
    if bool(FLAGS.diversity) != bool(FLAGS.item_categories):
        raise BundleError("--diversity is by the categories of --item_categories; give both.")
    paths = expand(FLAGS.input)
    categories = read_categories(Path(FLAGS.item_categories)) if FLAGS.item_categories else None
    writer = RecommendationWriter(Path(FLAGS.output), overwrite=FLAGS.overwrite)
    from export.item_index import check_k  # these load TensorFlow: what can be refused before it was
    from export.remote_tower import RemoteTower
    from export.retriever import Retriever

    tower = RemoteTower(FLAGS.tower_address) if FLAGS.tower_address else None
    retriever = Retriever.load(FLAGS.bundle, tower=tower)
    check_k(FLAGS.k, retriever.num_items)
    candidates = FLAGS.k
    if categories is not None:
        candidates = min(_CANDIDATES_FOR_DIVERSITY * FLAGS.k, retriever.num_items)

    shown: list[str] = []
    users = fallbacks = unknown = 0
    bad_rows: list[BundleError] = []
    started = time.perf_counter()
    size = sum(path.stat().st_size for path in paths)
    with writer, tqdm(total=size, unit="B", unit_scale=True, desc="retrieve") as bar:
        rows = read_histories(
            paths,
            Columns(FLAGS.user_column, FLAGS.history_column, FLAGS.history_separator),
            on_bad_row=bad_rows.append if FLAGS.on_bad_row == "skip" else None,
            on_progress=bar.update,
        )
        while batch := list(itertools.islice(rows, _BATCH)):
            answers = retriever.recommend([row.history for row in batch], candidates, FLAGS.exclude_seen)
            if categories is not None:
                answers = [diversify(one, categories, FLAGS.k, FLAGS.diversity) for one in answers]
            writer.write([row.user_id for row in batch], answers)
            for row, answer in zip(batch[: FLAGS.show - len(shown)], answers, strict=False):
                shown.append(_describe(retriever, row, answer))
            users += len(batch)
            fallbacks += sum(answer.fallback for answer in answers)
            unknown += sum(answer.num_unknown for answer in answers)
            bar.set_postfix(users=users, refresh=False)
        if not users:
            raise BundleError(f"{', '.join(FLAGS.input)} holds no history that can be read.")
    seconds = time.perf_counter() - started

    print("\n".join(shown), end="\n" if shown else "")
    for error in bad_rows[:5]:
        print(f"skipped: {error}")
    print(
        f"{users:,} users ({users / seconds:,.0f} a second), {fallbacks:,} answered with the most popular"
        f" items, {unknown:,} unknown items in their histories"
        + (f", {len(bad_rows):,} bad rows skipped" if bad_rows else "")
    )
    print(f"{FLAGS.output}: version {retriever.version}")


def _describe(retriever, row: HistoryRow, answer) -> str:
    def names(items: Sequence[str]) -> str:
        return " · ".join(map(retriever.name_of, items)) or "nothing"

    last = row.history[-_SHOWN_ITEMS:]
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
    if FLAGS.explain and not answer.fallback:
        top = min(_EXPLAINED_ITEMS, FLAGS.k)
        influences = retriever.explain(row.history, top, FLAGS.exclude_seen)
        lines.append(f"  leans most on (share of the top {top} that changes without it):")
        for one in influences[:_SHOWN_INFLUENCES]:
            lines.append(f"     {one.share:>4.0%}  {retriever.name_of(one.item)}")
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main, bad_input=(BundleError,))

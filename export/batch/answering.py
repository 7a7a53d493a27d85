"""The work of a batch job whoever does it: rows of histories in, rows of answers out."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from export.batch.history_files import HistoryRow, read_histories
from export.batch.job_settings import AnswerTally, JobSettings
from export.batch.recommendation_files import RecommendationWriter
from export.filters.availability import read_id_list
from export.filters.expression import read_filter
from export.item_rules import ItemRules
from export.lists.list_maker import ListMaker
from export.query import Event, Query
from export.retriever import Retriever
from export.store.bundle_errors import BundleError, FilterError
from export.towers.answers import Recommendation, Tower

BATCH = 2048

# The bytes of the inputs that were read since the last call, some rows, and their answers.
OnBatch = Callable[[int, list[HistoryRow], list[Recommendation]], None]


class Answering:
    """A retriever with the settings of a job."""

    def __init__(self, retriever: Retriever, settings: JobSettings):
        """Reads the categories; raises BundleError when they cannot be read, or the filter does not fit."""
        self.retriever, self.settings = retriever, settings
        retriever.rules.check(retriever.rules.default_filter, retriever.catalogue)
        self._make_lists = ListMaker.by(settings, retriever)

    @classmethod
    def open(
        cls,
        bundle: Path | str,
        settings: JobSettings,
        *,
        version: int | None = None,
        tower: Tower | None = None,
    ) -> "Answering":
        """Opens a bundle with what the job says about its items; raises as `Retriever.open` does."""
        rules = ItemRules(
            bundle,
            default_filter=read_filter(settings.filter) if settings.filter else None,
            allow=read_id_list(Path(settings.allow)) if settings.allow else None,
            deny=read_id_list(Path(settings.deny)) if settings.deny else (),
            category_column=settings.category_column,
        )
        return cls(
            Retriever.open(bundle, version=version, tower=tower, engine=settings.engine, rules=rules),
            settings,
        )

    def query(self, row: HistoryRow) -> Query:
        """What a row asks; raises BundleError where its filter does not fit the items."""
        try:
            self.retriever.rules.check(row.filter, self.retriever.catalogue)
        except FilterError as error:
            raise BundleError(f"{row.where}: {error}") from error
        return row.query(exclude_seen=self.settings.exclude_seen)

    def __call__(self, queries: Sequence[Query | Sequence[Event]]) -> list[Recommendation]:
        """Answers B queries, or bare histories with what the job says; raises as `Retriever.recommend` does.

        A `Query` names no k: that is the job's.
        """
        settings = self.settings
        asked = [
            one if isinstance(one, Query) else Query(one, exclude_seen=settings.exclude_seen)
            for one in queries
        ]
        return self._make_lists([dataclasses.replace(one, k=one.k or settings.k) for one in asked])


def write_similar(
    retriever: Retriever, items: Sequence[str], k: int, writer: RecommendationWriter
) -> tuple[int, str]:
    """Writes the nearest items of each item, in batches, so that memory does not grow with them.

    Returns:
      How many of them the version does not have, and which one it is.
    """
    unknown = 0
    for start in range(0, len(items), BATCH):
        answers = retriever.similar(items[start : start + BATCH], k)
        writer.write([answer.item for answer in answers], answers)
        unknown += sum(answer.unknown for answer in answers)
    return unknown, retriever.version


def _asked(
    answering: Answering, rows: Iterable[HistoryRow], on_bad_row: Callable[[BundleError], None] | None
) -> Iterator[tuple[HistoryRow, Query]]:
    for row in rows:
        try:
            query = answering.query(row)
        except BundleError as error:
            if on_bad_row is None:
                raise
            on_bad_row(error)
        else:
            yield row, query


def write_answers(
    answering: Answering, inputs: Sequence[Path], writer: RecommendationWriter, on_batch: OnBatch
) -> AnswerTally:
    """Answers the histories of some files into one, in batches, so that memory does not grow with them.

    Raises:
      BundleError: a file cannot be read, or a row when bad ones are not skipped.
    """
    tally = AnswerTally()
    settings = answering.settings
    num_bytes = 0

    def on_progress(more: int) -> None:
        nonlocal num_bytes
        num_bytes += more

    on_bad_row = tally.skip if settings.skip_bad_rows else None
    rows = read_histories(
        inputs,
        settings.columns,
        answering.retriever.columns,
        on_bad_row=on_bad_row,
        on_progress=on_progress,
    )
    asked = _asked(answering, rows, on_bad_row)
    while pairs := list(itertools.islice(asked, BATCH)):
        batch = [row for row, _ in pairs]
        answers = answering([query for _, query in pairs])
        writer.write([row.user_id for row in batch], answers)
        tally.count_given(batch)
        tally.count(answers, settings.k)
        on_batch(num_bytes, batch, answers)
        num_bytes = 0
    on_batch(num_bytes, [], [])
    return tally

"""What is asked of a batch job, and what came of it."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.batch.history_files import Columns, HistoryRow
from export.lists.exploration import POOLS
from export.store.bundle_errors import BundleError
from export.towers.answers import Recommendation

BAD_ROWS_TOLD = 5  # of a whole job
_LATER = (
    *("relevance", "category_cap", "category_column", "reranker", "reranker_ms", "explore", "explore_from"),
)


@dataclass(frozen=True)
class JobSettings:
    """What decides the answers of a job, beside the bundle and the histories.

    A user gets k items, or as many as there are. `diversity`, `relevance` and `category_cap` are those of
    `export.lists.choosing.Variety`; the file `item_categories` goes with the first and the last. A row that
    cannot be read ends the job, or is skipped and counted. `engine` is one of `export.index.engines`.
    `filter`, in JSON, holds for every user; `allow` and `deny` are files with an id a line.
    `category_column`, of the bundle's attributes, stands for `item_categories`. `reranker` is named as by
    `export.lists.reranking.Reranker.named`, and has `reranker_ms` for a batch of users; `explore` and
    `explore_from` are those of `export.lists.exploration.Exploration`.
    """

    k: int
    exclude_seen: bool = True
    diversity: float = 0.0
    item_categories: str | None = None
    columns: Columns = field(default_factory=Columns)
    skip_bad_rows: bool = False
    engine: str = "auto"
    filter: str | None = None
    allow: str | None = None
    deny: str | None = None
    relevance: float = 1.0
    category_cap: int = 0
    category_column: str | None = None
    reranker: str | None = None
    reranker_ms: int = 60_000
    explore: float = 0.0
    explore_from: str = POOLS[0]


def describe(settings: JobSettings) -> dict[str, Any]:
    """The settings as JSON, with hashes of the files: two jobs of the same description answer alike."""
    described = dataclasses.asdict(settings)
    if settings.engine == "auto":
        del described["engine"]  # as jobs were described before there was another
    for name in ("item_categories", "allow", "deny"):
        if described[name] is not None:
            described[name] = hashlib.sha256(Path(described[name]).read_bytes()).hexdigest()
    for name in ("filter", "allow", "deny"):
        if described[name] is None:
            del described[name]  # as jobs were described before there were filters
    # As jobs were described before there were these.
    for one in dataclasses.fields(JobSettings):
        if one.name in _LATER and described[one.name] == one.default:
            del described[one.name]
    if settings.columns.filter is None:
        del described["columns"]["filter"]
    return described


@dataclass
class AnswerTally:
    """What came of some histories.

    Attributes:
      counts: of `users` that were answered and `items` recommended to them, of users who got fewer than k
        (`short`) or of whom nothing was known (`fallbacks`), of `unknown_items` in histories, of
        `unknown_values` of features, of `bad_rows`.
      told: the errors of the first few bad rows.
    """

    counts: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def count(self, answers: Sequence[Recommendation], k: int) -> None:
        """Counts a batch of answers of at most k items."""
        self.counts += Counter(
            users=len(answers),
            items=sum(len(answer.items) for answer in answers),
            short=sum(len(answer.items) < k for answer in answers),
            fallbacks=sum(answer.fallback for answer in answers),
            unknown_items=sum(answer.num_unknown for answer in answers),
            unknown_values=sum(answer.num_unknown_values or 0 for answer in answers),
        )

    def count_given(self, rows: Sequence[HistoryRow]) -> None:
        """Counts, of rows, the users of whom each column of features says something: `given user_age`."""
        for row in rows:
            self.counts.update(f"given {name}" for name in row.given)

    def skip(self, error: BundleError) -> None:
        """Counts a row that could not be read."""
        self.counts["bad_rows"] += 1
        if len(self.told) < BAD_ROWS_TOLD:
            self.told.append(str(error))

    def add(self, other: "AnswerTally") -> None:
        """Adds what came of other histories."""
        self.counts += other.counts
        self.told = (self.told + other.told)[:BAD_ROWS_TOLD]

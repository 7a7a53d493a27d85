"""What is asked of a batch job, and what came of it."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.batch.history_files import Columns
from export.store.bundle_errors import BundleError
from export.towers.answers import Recommendation

BAD_ROWS_TOLD = 5  # of a whole job


@dataclass(frozen=True)
class JobSettings:
    """What decides the answers of a job, beside the bundle and the histories.

    Attributes:
      k: items for each user, or as many as there are.
      exclude_seen: leave out the items of the history.
      diversity: see `export.batch.diversity.diversified`; 0.0 with `item_categories` None.
      item_categories: file of the categories, or None.
      columns: of the files of histories.
      skip_bad_rows: count a row that cannot be read and go on, rather than end the job.
    """

    k: int
    exclude_seen: bool = True
    diversity: float = 0.0
    item_categories: str | None = None
    columns: Columns = field(default_factory=Columns)
    skip_bad_rows: bool = False


def describe(settings: JobSettings) -> dict[str, Any]:
    """The settings as JSON, with a hash of the categories: two jobs of the same description answer alike."""
    described = dataclasses.asdict(settings)
    if settings.item_categories is not None:
        content = Path(settings.item_categories).read_bytes()
        described["item_categories"] = hashlib.sha256(content).hexdigest()
    return described


@dataclass
class AnswerTally:
    """What came of some histories.

    Attributes:
      users: histories that were answered.
      items: that were recommended to them, altogether.
      short: users who got fewer than k of them.
      fallbacks: users of whom nothing was known.
      unknown_items: places of histories with an unknown item.
      bad_rows: rows that could not be read.
      told: the first few of their errors.
    """

    users: int = 0
    items: int = 0
    short: int = 0
    fallbacks: int = 0
    unknown_items: int = 0
    bad_rows: int = 0
    told: list[str] = field(default_factory=list)

    def count(self, answers: Sequence[Recommendation], k: int) -> None:
        """Counts a batch of answers of at most k items."""
        self.users += len(answers)
        self.items += sum(len(answer.items) for answer in answers)
        self.short += sum(len(answer.items) < k for answer in answers)
        self.fallbacks += sum(answer.fallback for answer in answers)
        self.unknown_items += sum(answer.num_unknown for answer in answers)

    def skip(self, error: BundleError) -> None:
        """Counts a row that could not be read."""
        self.bad_rows += 1
        if len(self.told) < BAD_ROWS_TOLD:
            self.told.append(str(error))

    def add(self, other: "AnswerTally") -> None:
        """Adds what came of other histories."""
        self.users += other.users
        self.items += other.items
        self.short += other.short
        self.fallbacks += other.fallbacks
        self.unknown_items += other.unknown_items
        self.bad_rows += other.bad_rows
        self.told = (self.told + other.told)[:BAD_ROWS_TOLD]

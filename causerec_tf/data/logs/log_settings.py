"""How the files of a log are read: their format, their columns, their times, and what becomes of bad rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from causerec_tf.data.logs import times
from causerec_tf.errors import InputError
from causerec_tf.schema import Column

ROLES = ("user", "item", "time")


@dataclass(frozen=True)
class LogSettings:
    """How the files of a log are read. The defaults are those of the scripts, too.

    Attributes:
      file_format: `csv`, `tsv`, `jsonl`, `parquet`, or `auto`: by the files' extensions.
      columns: for files without a header, what stands in each column: `user`, `item` and `time`,
        any other name for a column to ignore. None: the files name their columns.
      user_column: name of the column of user ids, where the files name their columns.
      item_column: the same for item ids.
      time_column: the same for times.
      time_format: how times are written, see `times.check_format`. None: in one of the notations that
        `times.parse_times` tells apart.
      order: `time`, or `file`: the time of an event is its position in the log, from 0, and no column is
        read as time.
      on_bad_row: `error`, or `skip`: leave it out and count it.
      features: columns of the schema that are read of each event.
    """

    file_format: str = "auto"
    columns: Sequence[str] | None = None
    user_column: str = "user_id"
    item_column: str = "item_id"
    time_column: str = "timestamp"
    time_format: str | None = None
    order: str = "time"
    on_bad_row: str = "error"
    features: Sequence[Column] = ()

    @property
    def header(self) -> tuple[str, ...] | None:
        """The columns' names where the files themselves have none, or None."""
        return None if self.columns is None else tuple(self.columns)

    @property
    def skip_bad(self) -> bool:
        """Whether bad rows are left out."""
        return self.on_bad_row == "skip"

    @property
    def notation(self) -> str | None:
        """How every file writes times, see `times.parse_times`; None: each tells by itself."""
        if self.order == "file":
            return times.POSITION
        return times.MOMENT if self.time_format is not None else None

    def roles(self) -> dict[str, str]:
        """The name of the column for each of `ROLES`; without `time` where the order of the file is it.

        Raises:
          InputError: the names do not tell the columns apart, or settings do not go together.
        """
        wanted = ROLES if self.order == "time" else ROLES[:2]
        if self.order == "file" and self.time_format is not None:
            raise InputError("order=file reads no times, so that time_format has no effect. Leave one out.")
        if self.time_format is not None:
            try:
                times.check_format(self.time_format)
            except ValueError as error:
                raise InputError(f"time_format {self.time_format!r} {error}.") from error
        if self.columns is not None:
            _check_header(self.columns, wanted)
            return dict(zip(wanted, wanted, strict=True))
        names = (self.user_column, self.item_column, self.time_column)
        roles = dict(zip(wanted, names, strict=False))
        if len(set(roles.values())) < len(roles):
            raise InputError(f"{_listed(wanted)} need different columns, got {roles}.")
        return roles


def _check_header(columns: Sequence[str], wanted: Sequence[str]) -> None:
    for role in wanted:
        if list(columns).count(role) != 1:
            hint = " For a log without times say --order=file." if role == "time" else ""
            raise InputError(
                f"columns {','.join(columns)!r} must name each of {_listed(wanted)} once,"
                " in the order of the file's columns; any other name is a column to ignore." + hint
            )
    if len(set(columns)) < len(columns):
        raise InputError(f"columns {','.join(columns)!r} name a column twice; give each its own name.")


def _listed(roles: Sequence[str]) -> str:
    return f"{', '.join(roles[:-1])} and {roles[-1]}"

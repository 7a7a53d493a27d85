"""How the files of a log are read: their format, their columns, and what becomes of bad rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from causerec_tf.data.log_rows import ROLES
from causerec_tf.errors import InputError


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
      on_bad_row: `error`, or `skip`: leave it out and count it.
    """

    file_format: str = "auto"
    columns: Sequence[str] | None = None
    user_column: str = "user_id"
    item_column: str = "item_id"
    time_column: str = "timestamp"
    on_bad_row: str = "error"

    @property
    def header(self) -> tuple[str, ...] | None:
        """The columns' names where the files themselves have none, or None."""
        return None if self.columns is None else tuple(self.columns)

    @property
    def skip_bad(self) -> bool:
        """Whether bad rows are left out."""
        return self.on_bad_row == "skip"

    def roles(self) -> dict[str, str]:
        """The name of the column for each of `log_rows.ROLES`.

        Raises:
          InputError: the names do not tell three columns.
        """
        if self.columns is not None:
            _check_header(self.columns)
            return dict(zip(ROLES, ROLES, strict=True))
        roles = dict(zip(ROLES, (self.user_column, self.item_column, self.time_column), strict=True))
        if len(set(roles.values())) < len(ROLES):
            raise InputError(f"user, item and time need three different columns, got {roles}.")
        return roles


def _check_header(columns: Sequence[str]) -> None:
    for role in ROLES:
        if list(columns).count(role) != 1:
            raise InputError(
                f"columns {','.join(columns)!r} must name each of user, item and time once,"
                " in the order of the file's columns; any other name is a column to ignore."
            )
    if len(set(columns)) < len(columns):
        raise InputError(f"columns {','.join(columns)!r} name a column twice; give each its own name.")

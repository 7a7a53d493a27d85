"""The rows of one file of a log -> checked events: user, item, time.

A bad row ends the reading with its file, line and column, or is left out and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from causerec_tf.data.logs import times
from causerec_tf.data.logs.column_values import checked_values, with_missing_replaced
from causerec_tf.data.logs.frames import Frame
from causerec_tf.data.logs.json_lines import JsonLinesFile
from causerec_tf.data.logs.log_files import LogFile
from causerec_tf.data.logs.log_records import Record
from causerec_tf.data.logs.log_settings import ROLES, LogSettings
from causerec_tf.errors import InputError

# Why a row is left out, in the order in which it is looked for.
REASONS = {
    "line": "a line that cannot be read",
    "user": "no user id",
    "item": "no item id",
    "time": "no readable time",
}
LogSource = LogFile | JsonLinesFile | Frame
_TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum, pl.Null)
_SKIP_HINT = "Mend it, or leave such rows out with --on_bad_row=skip."


@dataclass(frozen=True)
class FileRows:
    """What a file held.

    Attributes:
      events: columns `user` (text), `item` (text) and `time` (int64), and those of the schema by their keys;
        bad rows left out.
      notation: how the file writes times; see `times.parse_times`.
      rows_read: rows met, the bad ones included.
      skipped: reason -> number of bad rows left out for it.
      unreadable: key of a column of the schema -> values that cannot be used and count as missing.
    """

    events: pl.DataFrame
    notation: str
    rows_read: int
    skipped: dict[str, int]
    unreadable: dict[str, int] = field(default_factory=dict)


def read_rows(
    file: LogSource, settings: LogSettings, *, notation: str | None = None, events_above: int = 0
) -> FileRows:
    """Reads and checks a file.

    Args:
      file: the file.
      settings: how it is read.
      notation: how the file writes times, where `file` is but a part of it; None: `file` tells.
      events_above: of the log before `file`, for a log whose order is that of its rows.

    Raises:
      InputError: a column is missing or of no use, or a row is bad.
    """
    roles = settings.roles()
    wanted = [column.source for column in settings.features]
    file, table, num_unreadable = read_table(file, roles, settings.skip_bad, wanted)
    raw = table.select(*(pl.col(name).alias(role) for role, name in roles.items()))
    check_types(file.path, raw, roles, settings.time_format)
    ids = raw.select(pl.col("user", "item").cast(pl.String))
    events = ids
    if settings.order == "time":
        moments, notation = times.parse_times(raw["time"], notation, settings.time_format)
        events = ids.with_columns(moments.alias("time"))
    _refuse_control_characters(file, ids, roles)
    unreadable = {}
    for column in settings.features:
        values, num_bad = checked_values(
            column, table[column.source], str(file.path), file.place_of_row, skip_bad=settings.skip_bad
        )
        events = events.with_columns(with_missing_replaced(column, values).alias(column.key))
        if num_bad:
            unreadable[column.key] = num_bad

    skipped = {REASONS["line"]: num_unreadable} if num_unreadable else {}
    good = pl.repeat(True, len(events), dtype=pl.Boolean, eager=True)
    for role in roles:
        value = events[role]
        is_bad = good & (value.is_null() if role == "time" else value.fill_null("") == "")
        if not is_bad.any():
            continue
        row = _first(is_bad)
        if not settings.skip_bad:
            raise _bad_value(file, row, role, roles[role], raw[role][row], settings.time_format)
        good = good & ~is_bad
        skipped[REASONS[role]] = int(is_bad.sum())
    kept = events.filter(good) if skipped else events
    if settings.order == "file":
        notation = times.POSITION
        position = pl.int_range(events_above, events_above + pl.len(), dtype=pl.Int64)
        kept = kept.with_columns(position.alias("time"))
    assert notation is not None  # one of the two has settled it
    return FileRows(kept, notation, len(events) + num_unreadable, skipped, unreadable)


def check_types(path: Path | str, raw: pl.DataFrame, roles: dict[str, str], time_format: str | None) -> None:
    """Checks the types of a file's columns, `raw` by their roles.

    Raises:
      InputError: a column can be no id or no time, or its type has lost digits of the times.
    """
    for role in ("user", "item"):
        dtype = raw.schema[role]
        if not (dtype.is_integer() or dtype in _TEXT_TYPES):
            raise InputError(f"{path}: column {roles[role]!r} is of type {dtype}; ids are text or integers.")
    if "time" not in roles:
        return
    dtype = raw.schema["time"]
    if time_format is not None and dtype not in _TEXT_TYPES:
        raise InputError(
            f"{path}: column {roles['time']!r} is of type {dtype}; --time_format reads text. Leave it out."
        )
    if not (dtype.is_numeric() or dtype in (*_TEXT_TYPES, pl.Date, pl.Datetime)):
        raise InputError(
            f"{path}: column {roles['time']!r} is of type {dtype}; times are numbers, text,"
            " dates or datetimes."
        )
    coarse = times.too_coarse(raw["time"])
    if coarse is not None:
        raise InputError(
            f"{path}: column {roles['time']!r} is of type {dtype}, which is too coarse for {coarse:.0f}:"
            " different times may have become one. Write it anew from its source, as integers, Float64 or"
            " datetimes."
        )


def read_table(
    file: LogSource, roles: dict[str, str], skip_bad: bool, more: Sequence[str] = ()
) -> tuple[LogSource, pl.DataFrame, int]:
    """The file without its unreadable lines, its columns, and the number of those lines."""
    names = list(dict.fromkeys([*roles.values(), *more]))
    nothing = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    if isinstance(file, LogFile) and not file.has_rows():
        return file, nothing, 0
    found = file.column_names()
    missing = [name for name in names if name not in found]
    if isinstance(file, JsonLinesFile):
        ids = [roles["user"], roles["item"]]
        table, bad = file.table(names, ids, stop_at_bad=not skip_bad)
        if bad and not skip_bad:
            raise _unreadable(file, bad[0])
        # The first line may lack a key that the others have, and one part what another part has.
        missing = [name for name in missing if len(table) and table[name].null_count() == len(table)]
        if missing and not file.is_part:
            raise _missing(file, missing[0], found, roles)
        return file.without(bad), table, len(bad)
    if missing:
        raise _missing(file, missing[0], found, roles)
    if isinstance(file, Frame):
        return file, file.table(names), 0
    try:
        return file, file.table(names), 0
    except pl.exceptions.PolarsError as error:
        bad = []
        for record in file.unreadable():
            bad.append(record)
            if not skip_bad:
                raise _unreadable(file, record) from error
        if not bad:
            raise InputError(f"{file.path} cannot be read as {file.file_format}: {error}.") from error
    file = file.without(bad)
    return file, file.table(names) if file.has_rows() else nothing, len(bad)


def _refuse_control_characters(file: LogSource, ids: pl.DataFrame, roles: dict[str, str]) -> None:
    for role in ("user", "item"):
        # Polars reads half a surrogate pair in JSON as NUL, which would make different ids one.
        broken = ids[role].str.contains("[\r\n\0]").fill_null(False)
        if broken.any():
            row = _first(broken)
            raise InputError(
                f"{file.place_of_row(row)}: the id {ids[role][row]!r} in column {roles[role]!r}"
                " holds a line break or NUL, which the vocabulary cannot hold. Replace it in the log."
            )


def missing_column(
    path: Path | str, name: str, found: list[str], roles: tuple[str, ...] = ROLES
) -> InputError:
    """The error of a file that lacks a column of those for the roles."""
    names = ", ".join(map(repr, found)) or "none"
    separated = len(found) == 1 and next((mark for mark in ";|" if mark in found[0]), None)
    if separated:
        return InputError(
            f"{path} seems to be separated by {separated!r}; csv files are read by commas, tsv files by tabs."
            " Write it in one of these."
        )
    flags = [f"--{role}_column" for role in roles]
    return InputError(
        f"{path} has no column {name!r}. Columns found: {names}."
        f" Name yours with {', '.join(flags[:-1])} and {flags[-1]}; for a csv or tsv file"
        f" without a header say --columns={','.join(roles)}"
        + ("; for a log without times, --order=file." if "time" in roles else ".")
    )


def _missing(file: LogSource, name: str, found: list[str], roles: dict[str, str]) -> InputError:
    if name in roles.values():
        return missing_column(file.path, name, found, tuple(roles))
    return InputError(
        f"{file.path} has no column {name!r}, which the schema wants. Columns found:"
        f" {', '.join(map(repr, found))}. Name the file's column in the schema, with `column`."
    )


def _unreadable(file: LogFile | JsonLinesFile, record: Record) -> InputError:
    return InputError(f"{file.place_of_record(record)}: the row {record.problem}. {_SKIP_HINT}")


def _bad_value(
    file: LogSource, row: int, role: str, column: str, value: object, time_format: str | None
) -> InputError:
    problem = "is empty"
    if role == "time" and value not in (None, ""):
        problem = f"holds {value!r}, {_why_no_time(value, time_format)}"
    hint = ""
    if file.header is not None and row == 0:
        hint = " If this is a header, leave --columns out."
    return InputError(f"{file.place_of_row(row)}: column {column!r} {problem}. {_SKIP_HINT}{hint}")


def _why_no_time(value: object, time_format: str | None) -> str:
    if time_format is not None:
        return f"which is not read as a time by --time_format={time_format!r}"
    if isinstance(value, str) and times.is_cut(value):
        return (
            "a number whose last digits a spreadsheet has cut. Format the column there as text or as a whole"
            " number, and export it again"
        )
    why = (
        "which is not read as a time; wanted an integer, decimal seconds or ISO-8601, one notation in a file;"
        " others are read by --time_format"
    )
    if isinstance(value, float):
        return f"{why}. Decimals are seconds: write finer units as integers"
    return why


def _first(mask: pl.Series) -> int:
    """The position of the first true value of a mask that has one."""
    return int(mask.arg_true()[0])

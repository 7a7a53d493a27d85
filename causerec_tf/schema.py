"""What a log and its tables say beyond user, item and time: a schema of columns. No TensorFlow.

A schema is a TOML file:

    [[column]]
    name = "category"
    owner = "item"
    kind = "categorical"

Owners say where a column is known:

  * `item`: in the table of items, by item id;
  * `user`: in the table of users, by user id, and with a request;
  * `event`: in the log, of each event; it is read beside each item of the history;
  * `request`: in the log, of the event that is the target, and with a request: what is known when the list is
    asked for, such as the device.

Kinds say what a value is. As stored, for which `num_values` is the size of the vocabulary:

  kind           stored as          meaning
  categorical    int32 []           0: missing; 1: not in the vocabulary; 2 to num_values + 1: a value
  multi          int32 [length]     several of these, distinct, in the row's order; 0 fills up on the right
  numeric        float32 []         NaN: missing
  embedding      float32 [size]     a vector made elsewhere; zeros: missing
  text           int32 [length]     1 to size: hashed words, distinct, in the text's order; 0 fills up
  hour, weekday, gap, age           nothing: they are computed of times

`hour` and `weekday` are of the event's time, or of the request's; `gap` is the time since the user's event
before, and `age` the time from the event to the request.
"""

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causerec_tf.errors import InputError

OWNERS = ("item", "user", "event", "request")
# Of times, and not of a column.
TIME_KINDS = ("hour", "weekday", "gap", "age")
# Owner -> the kinds that it may have.
_KINDS = {
    "item": ("categorical", "multi", "numeric", "embedding", "text"),
    "user": ("categorical", "multi", "numeric", "embedding", "text"),
    "event": ("categorical", "numeric", *TIME_KINDS),
    "request": ("categorical", "numeric", "hour", "weekday"),
}
KINDS = tuple(dict.fromkeys(kind for kinds in _KINDS.values() for kind in kinds))
MISSING, UNKNOWN = 0, 1  # as stored: no value, and a value that is not in the vocabulary
FIRST_VALUE = 2  # the first of a vocabulary
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Of an entry: the kinds that read it, and its default. None: it must be given.
_ENTRIES: dict[str, tuple[tuple[str, ...], Any]] = {
    "size": (("categorical", "multi", "text", "embedding"), {"text": 20_000, "embedding": None}),
    "length": (("multi", "text"), {"text": 32}),
    "separator": (("multi",), {}),
    "missing": (("categorical", "numeric"), {}),
}
_DEFAULTS = {"size": 100_000, "length": 16, "separator": "|", "missing": None}


@dataclass(frozen=True)
class Column:
    """A column of a schema.

    Attributes:
      name: of the feature: letters, digits and `_`; no two of one owner have the same.
      owner: one of `OWNERS`.
      kind: one of `KINDS`.
      column: the column's name in the files; empty: as `name`.
      size: categorical, multi: the largest vocabulary, the most frequent values; text: the number of buckets
        that words are hashed into; embedding: the length of a vector.
      length: multi, text: so many values of a row are read, the first.
      separator: multi: what stands between values where they are text, as in CSV.
      missing: categorical, numeric: the value put where none is; None: that none is there is what is learned
        from.
    """

    name: str
    owner: str
    kind: str
    column: str = ""
    size: int = 0
    length: int = 0
    separator: str = ""
    missing: str | float | None = None

    @property
    def source(self) -> str:
        """The column's name in the files."""
        return self.column or self.name

    @property
    def key(self) -> str:
        """What it is called in records and batches, such as `item/category`."""
        return f"{self.owner}/{self.name}"

    @property
    def is_of_time(self) -> bool:
        """Whether it is computed of times."""
        return self.kind in TIME_KINDS

    @property
    def is_integer(self) -> bool:
        """Whether it is stored as integers, and not as float32."""
        return self.kind in ("categorical", "multi", "text")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one stored value."""
        if self.kind in ("multi", "text"):
            return (self.length,)
        return (self.size,) if self.kind == "embedding" else ()

    def description(self) -> dict[str, Any]:
        """What a schema file says of it."""
        entries = dataclasses.asdict(self)
        read = {name for name, (kinds, _) in _ENTRIES.items() if self.kind in kinds}
        return {
            name: value
            for name, value in entries.items()
            if (name not in _ENTRIES or name in read) and value is not None and value != ""
        }


@dataclass(frozen=True)
class Schema:
    """The columns beyond user, item and time, in the order of the file."""

    columns: tuple[Column, ...] = ()

    def __post_init__(self):
        """Checks that no two columns of an owner have one name."""
        keys = [column.key for column in self.columns]
        for key in keys:
            if keys.count(key) > 1:
                owner, name = key.split("/")
                raise InputError(f"the schema has two {owner} columns named {name!r}: wanted one.")

    def __bool__(self) -> bool:
        """Whether it has a column."""
        return bool(self.columns)

    def of(self, owner: str) -> tuple[Column, ...]:
        """The columns of one of `OWNERS`."""
        return tuple(column for column in self.columns if column.owner == owner)

    @property
    def needs_times(self) -> bool:
        """Whether a column is computed of times."""
        return any(column.is_of_time for column in self.columns)

    def description(self) -> list[dict[str, Any]]:
        """The columns, as `schema_of` reads them."""
        return [column.description() for column in self.columns]


@dataclass(frozen=True)
class FittedColumn:
    """A column, and what the training events say of it.

    Attributes:
      column: as the schema has it.
      num_values: categorical, multi: the size of the vocabulary.
      vocabulary: categorical, multi: the file of its values, a line each, the first stored as `FIRST_VALUE`.
      mean: numeric: of the values that are there.
      std: numeric: their standard deviation; 1 where they are all alike.
    """

    column: Column
    num_values: int = 0
    vocabulary: Path | None = None
    mean: float = 0.0
    std: float = 1.0

    def values(self) -> tuple[str, ...]:
        """The vocabulary; none of a kind that has none.

        Raises:
          InputError: the file cannot be read, or has another number of values.
        """
        if self.vocabulary is None:
            return ()
        try:
            values = tuple(self.vocabulary.read_bytes().decode().split("\n")[:-1])
        except (OSError, ValueError) as error:
            raise InputError(
                f"the vocabulary {self.vocabulary} cannot be read ({error}); prepare again."
            ) from error
        if len(values) != self.num_values:
            raise InputError(
                f"the vocabulary {self.vocabulary} has {len(values)} values, and the dataset says"
                f" {self.num_values}; prepare again."
            )
        return values

    def stored_where_missing(self) -> int | float:
        """What is stored where a row has no value of a categorical or a numeric column."""
        missing = self.column.missing
        if self.column.kind == "numeric":
            return float("nan") if missing is None else float(missing)
        if missing is None:
            return MISSING
        values = self.values()
        return FIRST_VALUE + values.index(str(missing)) if missing in values else UNKNOWN


def read_schema(path: str | Path) -> Schema:
    """Reads a schema file.

    Raises:
      InputError: there is no such file, it is not TOML, or it does not describe columns.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the schema {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"the schema {path} is not TOML: {error}.") from error
    if set(found) != {"column"} or not isinstance(found["column"], list):
        raise InputError(
            f"the schema {path} has {', '.join(found) or 'nothing'}: wanted one [[column]] for each column."
        )
    try:
        return schema_of(found["column"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def schema_of(columns: Sequence[Mapping[str, Any] | Column]) -> Schema:
    """A schema of columns that are described as in a schema file.

    Raises:
      InputError: an entry is missing, unknown or out of range.
    """
    return Schema(tuple(one if isinstance(one, Column) else _column(one) for one in columns))


def _column(entries: Mapping[str, Any]) -> Column:
    known = [field.name for field in dataclasses.fields(Column)]
    name = entries.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"a column has name={name!r}: wanted a letter, then letters, digits and '_'. The column's name in"
            " the files, where it is another, is `column`."
        )
    for entry in entries:
        if entry not in known:
            raise InputError(f"column {name!r} has {entry!r}: wanted some of {', '.join(known)}.")
    owner, kind = entries.get("owner"), entries.get("kind")
    if owner not in OWNERS:
        raise InputError(f"column {name!r} has owner={owner!r}: wanted one of {', '.join(OWNERS)}.")
    if kind not in _KINDS[owner]:
        raise InputError(
            f"column {name!r} of the {owner} has kind={kind!r}: wanted one of {', '.join(_KINDS[owner])}."
        )
    values: dict[str, Any] = {"name": name, "owner": owner, "kind": kind}
    values["column"] = _text(name, "column", entries.get("column", ""))
    for entry, (kinds, defaults) in _ENTRIES.items():
        if kind not in kinds:
            if entry in entries:
                raise InputError(f"column {name!r} has {entry!r}, which acts on {', '.join(kinds)} alone.")
            continue
        value = entries.get(entry, defaults.get(kind, _DEFAULTS[entry]))
        if entry in ("size", "length"):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"column {name!r} has {entry}={value!r}: wanted a whole number, 1 or more.")
        elif entry == "separator":
            value = _text(name, entry, value)
        elif value is not None:
            value = _replacement(name, kind, value)
        values[entry] = value
    return Column(**values)


def _text(name: str, entry: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"column {name!r} has {entry}={value!r}: wanted text.")
    return value


def _replacement(name: str, kind: str, value: Any) -> str | float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "numeric" and is_number and abs(value) < float("inf"):
        return float(value)
    if kind == "categorical" and (isinstance(value, str) or is_number):
        return str(value)
    wanted = "a finite number" if kind == "numeric" else "a text"
    raise InputError(f"column {name!r} has missing={value!r}: wanted {wanted}.")

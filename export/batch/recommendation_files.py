"""Writes recommendations to JSON lines or Parquet: beside the output's place, then renamed."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl

from export.batch.job_settings import JobSettings
from export.batch.unfinished import unfinished_beside
from export.store.bundle_errors import BundleError
from export.store.disk import full_disk_named
from export.store.layout import to_disk
from export.tower_columns import TowerColumns
from export.towers.answers import Recommendation, SimilarItems

# Of an output: the first column is whose the answer is, the others are of the answer.
SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "items": pl.List(pl.String),
    "scores": pl.List(pl.Float32),
    "num_unknown": pl.Int64,
    "fallback": pl.Boolean,
    "version": pl.String,
    "plan": pl.String,
}
SIMILAR_SCHEMA: dict[str, Any] = {
    "item_id": pl.String,
    "items": pl.List(pl.String),
    "scores": pl.List(pl.Float32),
    "unknown": pl.Boolean,
    "version": pl.String,
}
_STEPS = ("reranker", "explored")
# Legal inside JSON, but some readers of lines, Python's splitlines among them, break a line here.
_LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}


def schema_of(columns: TowerColumns, settings: JobSettings) -> dict[str, Any]:
    """The columns of an output: those of `SCHEMA`, and what the features and the steps of a job add."""
    more: dict[str, Any] = {"num_unknown_values": pl.Int64} if columns else {}
    more |= {"reranker": pl.String} if settings.reranker is not None else {}
    return SCHEMA | more | ({"explored": pl.List(pl.String)} if settings.explore else {})


def row(user_id: str, recommendation: Recommendation, schema: Mapping[str, Any] = SCHEMA) -> dict[str, Any]:
    """A row of an output."""
    return {"user_id": user_id} | {name: _value(recommendation, name) for name in [*schema][1:]}


def json_line(user_id: str, recommendation: Recommendation, schema: Mapping[str, Any] = SCHEMA) -> str:
    """A row as one line of JSON, without its end."""
    return _line(row(user_id, recommendation, schema))


def _value(answer: Recommendation | SimilarItems, name: str) -> Any:
    """A value of an answer, or of what was done to its list."""
    return (getattr(answer, "steps", None) or {}).get(name) if name in _STEPS else getattr(answer, name)


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False).translate(_LINE_ENDS)


class RecommendationWriter:
    """Writes rows of the columns of `SCHEMA`, or of another schema, a batch at a time.

    As a context manager it leaves the whole file under its name, or, after an exception, nothing.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool,
        work: Path | None = None,
        schema: Mapping[str, Any] = SCHEMA,
    ):
        """Checks that the file can be written.

        Its extension decides the format, .jsonl or .parquet; a link stands for what it points to. What is not
        finished lies in `work`, on the same file system, which is the caller's to clear; beside the file when
        None.

        Raises:
          BundleError: the extension is another, the file exists, or there is no such directory.
        """
        if path.suffix not in (".jsonl", ".parquet"):
            raise BundleError(
                f"{path} ends in {path.suffix!r}; the output is .jsonl or .parquet, or a directory of"
                " shards, whose name ends in /."
            )
        if path.is_dir():
            raise BundleError(f"{path} is a directory; give the name of a file.")
        self._path = path.resolve() if path.is_symlink() else path
        self._overwrite = overwrite
        self._check_free()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._work = work
        self._schema = dict(schema)
        self._parts = 0

    def __enter__(self) -> "RecommendationWriter":
        """Makes the place where the parts are gathered.

        Raises:
          BundleError: another process writes the same file, or has written it meanwhile.
        """
        with ExitStack() as stack:
            work = self._work or stack.enter_context(unfinished_beside(self._path))
            self._check_free()
            # Two shards of one directory may have the same name.
            parts = tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True)
            self._beside = Path(stack.enter_context(parts))
            self._clearing = stack.pop_all()
        return self

    def _check_free(self) -> None:
        if self._path.exists() and not self._overwrite:
            raise BundleError(f"{self._path} exists; give another name, or --overwrite to replace it.")

    def write(self, ids: Sequence[str], answers: Sequence[Recommendation | SimilarItems]) -> None:
        """Writes a batch; raises OSError where that is not possible, as on a full disk."""
        key, *names = self._schema
        with full_disk_named(self._path):
            if self._path.suffix == ".parquet":
                # Parts, since a Parquet file cannot be appended to and must not be held in memory whole.
                columns = {name: [_value(one, name) for one in answers] for name in names}
                frame = pl.DataFrame({key: ids} | columns, schema=self._schema)
                frame.write_parquet(self._beside / f"{self._parts:08d}.parquet")
                self._parts += 1
                return
            with (self._beside / "rows.jsonl").open("a", encoding="utf-8", newline="\n") as file:
                for one_id, one in zip(ids, answers, strict=True):
                    file.write(_line({key: one_id} | {name: _value(one, name) for name in names}) + "\n")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Renames the finished file into place, or clears away."""
        with self._clearing, full_disk_named(self._path):
            if kind is None:
                whole = self._beside / "rows.jsonl"
                if self._path.suffix == ".parquet":
                    whole = self._beside / "whole.parquet"
                    parts = sorted(self._beside.glob("*.parquet"))
                    pl.scan_parquet(parts, glob=False).sink_parquet(whole, maintain_order=True)
                to_disk(whole)
                whole.replace(self._path)

"""Raw values of users, requests and events -> stored ones, in operations of TensorFlow.

A served graph gets what a client knows: text, numbers, times. It is stored here as a dataset stores it, see
`schema`, by the vocabularies that training fitted.
Shape legend: B requests, L places of a history.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from causerec_tf.data.columns.hashed_words import hashed_words
from causerec_tf.errors import InputError
from causerec_tf.schema import FIRST_VALUE, MISSING, UNKNOWN, FittedColumn

# Of a vocabulary, for people who ask by hand.
_EXAMPLE_VALUES, _LONGEST_EXAMPLE = 20, 100
TIME = "time"


class ReadValues(NamedTuple):
    """Stored values, and how much of what was given is known.

    Attributes:
      stored: by column int32 or float32 [B, ...]; of a whole request by key.
      num_known: int64 [B], how many values are there that training knows.
      num_unknown: int64 [B], how many are there that it does not.
    """

    stored: Any
    num_known: tf.Tensor
    num_unknown: tf.Tensor


class RawColumn(tf.Module):
    """Reads the raw values of one column.

    Raw is, by kind: categorical: text [B], or [B, L] of events; multi: text [B, any], also ragged; text:
    text [B]; numeric: float32 [B] or [B, L]; embedding: float32 [B, size]. Missing is an empty text, NaN, a
    vector of zeros.
    """

    def __init__(self, fitted: FittedColumn):
        """Opens the vocabulary.

        Raises:
          InputError: it cannot be read.
        """
        super().__init__()
        self.column = fitted.column
        self._table = None
        self._replacement = fitted.stored_where_missing()
        self.vocabulary = fitted.values()
        if self.vocabulary:  # TensorFlow opens no empty file
            self._table = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(
                    str(fitted.vocabulary),
                    key_dtype=tf.string,
                    key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
                    value_dtype=tf.int64,
                    value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
                    vocab_size=len(self.vocabulary),
                ),
                default_value=UNKNOWN - FIRST_VALUE,
            )

    def nothing(self, shape: tf.Tensor) -> tf.Tensor:
        """What is stored where no value is: [B, ...] for a `shape` of [B] or [B, L]."""
        kind = tf.int32 if self.column.is_integer else tf.float32
        return tf.fill(tf.concat([shape, self.column.shape], axis=0), tf.constant(self._replacement, kind))

    def raw_of(self, stored: np.ndarray) -> Any:
        """What could have been given for a stored value, or for those of a history; not of text."""
        kind = self.column.kind
        if kind == "embedding":
            return stored.tolist() if stored.any() else None
        if kind == "multi":
            return [self._text_of(code) for code in stored.tolist() if code != MISSING] or None
        one = self._text_of if kind == "categorical" else _number_of
        return [one(value) for value in stored.tolist()] if stored.ndim else one(stored.item())

    def _text_of(self, code: int) -> str | None:
        if code == UNKNOWN:
            return next(text for n in itertools.count(1) if (text := "?" * n) not in self.vocabulary)
        return None if code == MISSING else self.vocabulary[code - FIRST_VALUE]

    def __call__(self, raw: Any) -> ReadValues:
        """Reads values; those of events are counted over all L places."""
        kind = self.column.kind
        if kind == "numeric":
            return self._read_numbers(raw)
        if kind == "categorical":
            codes = self._codes(raw)
            stored = tf.where(codes == MISSING, self._replacement, codes)
            return ReadValues(stored, _count(codes >= FIRST_VALUE), _count(codes == UNKNOWN))
        if kind == "embedding":
            is_vector = tf.reduce_all(tf.math.is_finite(raw), axis=1, keepdims=True)
            stored = tf.where(is_vector, raw, tf.zeros_like(raw))
            is_there = tf.reduce_any(stored != 0.0, axis=1)
            return ReadValues(stored, _count(is_there), _count(~is_vector[:, 0]))
        if kind == "text":
            stored = _distinct(hashed_words(raw, self.column.size), self.column.length)
            return ReadValues(stored, _count(stored[:, 0] > 0), _count((raw != "") & (stored[:, 0] == 0)))
        values = _first_distinct(raw, self.column.length)
        codes = values.with_flat_values(self._codes(values.flat_values))
        stored = _distinct(codes, self.column.length)
        known, unknown = (
            tf.reduce_sum(tf.cast(codes.with_flat_values(one), tf.int64), axis=1)
            for one in (codes.flat_values >= FIRST_VALUE, codes.flat_values == UNKNOWN)
        )
        return ReadValues(stored, known, unknown)

    def _read_numbers(self, raw: tf.Tensor) -> ReadValues:
        is_there = tf.math.is_finite(raw)
        stored = tf.where(is_there, raw, self._replacement)
        return ReadValues(stored, _count(is_there), _count(tf.math.is_inf(raw)))

    def _codes(self, raw: tf.Tensor) -> tf.Tensor:
        """The codes of texts, int32, of any shape."""
        if self._table is None:
            codes = tf.fill(tf.shape(raw), UNKNOWN)
        else:
            codes = tf.cast(self._table.lookup(raw), tf.int32) + FIRST_VALUE
        return tf.where(raw == "", MISSING, codes)


class ContextReader(tf.Module):
    """Reads all that is given beside item ids: what `export.towers` serves a model's context with."""

    def __init__(self, columns: Sequence[FittedColumn]):
        """Takes the columns of a dataset; those of items and of times need no reading.

        Raises:
          InputError: a column of events or of requests is named as what every history has, an id and a time.
        """
        super().__init__()
        given = [one for one in columns if one.column.owner != "item" and not one.column.is_of_time]
        for one in given:
            reserved = {"event": ("id", TIME), "request": (TIME,)}.get(one.column.owner, ())
            if one.column.name in reserved:
                raise InputError(
                    f"the schema has {one.column.key}, a name that requests have for something else; name it"
                    " another way, with `column` for the files, and prepare again."
                )
        self._columns = [RawColumn(one) for one in given]
        self._needs_times = any(one.column.is_of_time for one in columns)

    def __bool__(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._columns) or self._needs_times

    @property
    def columns(self) -> list[dict[str, Any]]:
        """The columns as a tower describes them, so that a client needs no schema."""
        described = []
        for one in self._columns:
            entries = one.column.description()
            kept = {name: entries[name] for name in entries if name not in ("column", "missing")}
            values = [value for value in one.vocabulary[:_EXAMPLE_VALUES] if len(value) <= _LONGEST_EXAMPLE]
            described.append(kept | ({"values": values} if values else {}))
        if self._needs_times:
            described += [{"name": TIME, "owner": owner, "kind": TIME} for owner in ("event", "request")]
        return described

    @property
    def fingerprint(self) -> str:
        """Hashes all that decides what is read: 64 hexadecimal digits."""
        digest = hashlib.sha256(f"{self._needs_times}".encode())
        for one in self._columns:
            digest.update(json.dumps(one.column.description()).encode())
            digest.update(json.dumps(one.vocabulary).encode())
        return digest.hexdigest()

    def __call__(self, raw: Mapping[str, Any], mask_BL: tf.Tensor) -> ReadValues:
        """Reads a request.

        Args:
          raw: by `column.key` what `RawColumn` reads, and int64 seconds `event/time` [B, L] and
            `request/time` [B]; what is not there is missing. Of events beside the items of the history.
          mask_BL: bool, which items are real.

        Returns:
          By key what `CauseRec.encode` takes as context; how many values of the user and of the request are
          known, for those of events say nothing without their items; how many of all are not.
        """
        shapes = {"event": tf.shape(mask_BL)}
        request = shapes["event"][:1]
        stored: dict[str, tf.Tensor] = {}
        num_known = num_unknown = tf.zeros(request, tf.int64)
        for one in self._columns:
            column = one.column
            if column.key not in raw:
                values = one.nothing(shapes.get(column.owner, request))
            elif column.owner == "event":
                # What stands beside no item is not read, and not counted.
                filler = "" if column.kind == "categorical" else float("nan")
                values, _, unknown = one(tf.where(mask_BL, raw[column.key], filler))
                num_unknown += unknown
            else:
                values, known, unknown = one(raw[column.key])
                num_known, num_unknown = num_known + known, num_unknown + unknown
            if column.owner == "event":
                nothing = tf.constant(MISSING if column.is_integer else float("nan"), values.dtype)
                values = tf.where(mask_BL, values, nothing)
            stored[column.key] = values
        if self._needs_times:
            times = raw.get("event/time", tf.zeros(shapes["event"], tf.int64))
            stored["time"] = tf.where(mask_BL, times, tf.zeros_like(times))
            stored["request_time"] = raw.get("request/time", tf.zeros(request, tf.int64))
        return ReadValues(stored, num_known, num_unknown)

    def raw_of(self, context: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """What could have been given for stored values, for users of a dataset who show what is asked.

        Args:
          context: by key, [B, ...], as of `EvaluationUsers`.

        Returns:
          For each of B users by key a text, a list of texts, a number or a list of numbers, of events a list
          [L]; None where it is missing. Hashed words cannot be told any more: text is left out.
        """
        size = len(next(iter(context.values()))) if context else 0
        users: list[dict[str, Any]] = [{} for _ in range(size)]
        for one in self._columns:
            if one.column.key in context and one.column.kind != "text":
                for user, stored in zip(users, context[one.column.key], strict=True):
                    user[one.column.key] = one.raw_of(stored)
        if self._needs_times:
            for user, time, asked in zip(users, context["time"], context["request_time"], strict=True):
                user["event/time"] = [int(one) or None for one in time]
                user["request/time"] = int(asked) or None
        return users


def _number_of(value: float) -> float | None:
    return None if math.isnan(value) else value


def _count(holds: tf.Tensor) -> tf.Tensor:
    """How many hold of each row, int64 [B]."""
    counted = tf.cast(holds, tf.int64)
    return counted if holds.shape.rank == 1 else tf.reduce_sum(counted, axis=1)


def _first_distinct(raw: Any, length: int) -> tf.RaggedTensor:
    """The first `length` distinct texts of each row that are not empty, in their order: text [B, ragged]."""
    ragged = raw if isinstance(raw, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(raw)
    # `tf.ragged.boolean_mask` would hold a rectangle meanwhile, and a row is as long as the client likes.
    is_there = ragged.flat_values != ""
    rows = tf.boolean_mask(ragged.value_rowids(), is_there)
    values = tf.boolean_mask(ragged.flat_values, is_there)
    _, of_place = tf.unique(tf.strings.join([tf.strings.as_string(rows), values], ":"))
    num_distinct = tf.reduce_max(tf.concat([[-1], of_place], axis=0)) + 1
    firsts = tf.math.unsorted_segment_min(tf.range(tf.size(of_place)), of_place, num_distinct)
    distinct = tf.RaggedTensor.from_value_rowids(
        tf.gather(values, firsts), tf.gather(rows, firsts), ragged.nrows()
    )
    return distinct[:, :length]


def _distinct(codes: tf.RaggedTensor, length: int) -> tf.Tensor:
    """The first `length` distinct codes of each row, filled up with 0 on the right: int32 [B, length]."""
    rows = codes.value_rowids()
    values = tf.cast(codes.flat_values, tf.int64)
    width = tf.reduce_max(tf.concat([[0], values], axis=0)) + 1
    # One number for a row and a code; what is met first comes first, so rows stay together.
    unique, _ = tf.unique(rows * width + values)
    kept = tf.RaggedTensor.from_value_rowids(unique % width, unique // width, codes.nrows())
    return tf.cast(kept.to_tensor(0, shape=[None, length]), tf.int32)

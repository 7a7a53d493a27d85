"""The user tower alone as a SavedModel: its signatures, warm-up requests, a reload check.

Nothing of Keras and nothing of the item index goes into it, so a stock TensorFlow Serving loads it.
Shape legend: B requests, L = max_history, V items, d embedding size, K vectors a user.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.index.labels import check_ids, lines_of
from export.store.bundle_errors import BundleError
from export.store.disk import full_disk_named
from export.store.layout import (
    MOST_WARM_UP_HISTORIES,
    TOWER_DESCRIPTION,
    TOWER_EXTRA,
    TOWER_VOCABULARY,
    TOWER_WARM_UP,
)
from export.store.runtime import tf
from export.tower_columns import NO_COLUMNS, NOTHING, Given, TowerColumns
from export.towers.requests import (
    at_places,
    padded_histories,
    tensors,
    tower_requests,
    write_warm_up,
)
from export.towers.served_tower import (
    HistoryScorer,
    ServedReader,
    ServedTower,
    TowerLayer,
    of_history,
)

_TOLERANCE = 1e-5
_IDS_ALONE = ("serving_default", "string_ids")


@dataclass(frozen=True)
class ServedContext:
    """What a tower reads beside ids, and some of it to warm up and to be checked with.

    Attributes:
      reader: reads raw values, inside the exported graph.
      given: of each warm-up history what is given.
      stored: by the keys of the context what training has for these histories, [B, ...]; the reader must make
        the same of what is given. What is not there is not compared.
    """

    reader: ServedReader
    given: Sequence[Given] = ()
    stored: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def columns(self) -> TowerColumns:
        """The columns that the reader reads."""
        return TowerColumns.described({"columns": list(self.reader.columns)}, "the tower's")


def export_user_tower(
    directory: Path,
    *,
    item_embeddings: np.ndarray,
    user_tower: TowerLayer,
    item_ids: Sequence[str],
    max_history: int,
    version: str,
    warm_up_histories: Sequence[Sequence[int]],
    history_scores: HistoryScorer | None = None,
    context: ServedContext | None = None,
) -> None:
    """Writes the user tower as a SavedModel, reloads it and compares it with the original.

    Signatures, each answering `user_vectors` float32 [B, d] or [B, K, d], `num_known` int64 [B] and
    `version` string [B]:

    * `serving_default`: `item_ids` int64 [B, L], vocabulary indices from 1, 0 is padding;
    * `string_ids`: `item_ids` string [B, L], "" is padding;
    * `examples`: `examples` string [B], serialised tf.Example with a bytes feature `item_ids`
      of any length, of which the last `max_history` known ones are read.

    A tower that reads a context takes ids alone by these, too; `examples` may also hold features named by
    `TowerColumn.key`, those of events with a value for each id. It has one more signature, `with_features`:
    `item_ids` string [B, L] and all columns, by `TowerColumn.input`: text is string, times are int64, numbers
    float32; [B], of events [B, L], of several values and of vectors [B, their length]. "", NaN and 0 are
    missing. These two also answer `num_known_values` int64 [B], of the user and the request, and
    `num_unknown_values`; a user of whom no item but some value is known has a vector.

    Unknown items are ignored: the vector is that of the history without them. A history with
    nothing known gets a vector of zeros. A tower that learned how likely users come back also answers
    `history_items` int64 [B, L], the vocabulary indices of the distinct items that it read, 0 elsewhere, and
    `history_scores` float32 [B, L]: what these items have in place of their inner product with the vector.

    Args:
      directory: made here; it must not exist. The caller renames it into place when all is well.
      item_embeddings: float32 [V + 1, d]; row 0 is padding and zero.
      user_tower: a layer called as `user_tower(concepts [B, L, d] float32, mask [B, L] bool)`, with
        `.variables`; it returns [B, d] or [B, K, d] float32.
      item_ids: the V ids; id number i belongs to row i + 1 of `item_embeddings`.
      max_history: L, how many items the tower reads.
      version: what the tower answers in `version`: the fingerprint of its bundle.
      warm_up_histories: vocabulary indices, oldest first; each becomes a warm-up request to every
        signature, so that the first real request of a server is not the slow one. May be empty; at most
        `MOST_WARM_UP_HISTORIES`.
      history_scores: of a model that learned returns.
      context: what the tower reads beside ids; it then takes a third argument.

    Raises:
      BundleError: the pieces do not fit together, or the reloaded tower answers something else.
    """
    item_embeddings = _checked_embeddings(item_embeddings, item_ids)
    check_ids(item_ids)
    if max_history < 1:
        raise BundleError(f"max_history is {max_history}; it must be at least 1.")
    if len(warm_up_histories) > MOST_WARM_UP_HISTORIES:
        raise BundleError(
            f"{len(warm_up_histories)} warm-up histories; TensorFlow Serving takes {MOST_WARM_UP_HISTORIES}."
        )
    if directory.exists():
        raise BundleError(f"{directory} exists already; a tower is written to a new directory.")

    histories = [[int(i) for i in history][-max_history:] for history in warm_up_histories]
    # First of all, since a layer makes its variables when it is first called.
    checked = histories or [[1]]
    columns, reader, given = NO_COLUMNS, None, [NOTHING] * len(checked)
    parts = (item_embeddings, user_tower, history_scores)
    ids_BL = padded_histories(checked, max_history)
    if context is None:
        alone = expected = _expected(*parts, ids_BL)
    else:
        columns, reader = context.columns, context.reader
        given = [*context.given] or given
        # A user without a history, too: who is known by the rest alone must have a vector.
        checked, given = [*checked, []], [*given, at_places(columns, given[0], [])]
        ids_BL = padded_histories(checked, max_history)
        names = [[item_ids[i - 1] for i in history] for history in checked]
        inputs = tensors(names, max_history, columns, given)
        raw = {column.key: inputs[column.input] for column in columns.columns}
        mask_BL = tf.constant(ids_BL > 0)
        alone = _expected(*parts, ids_BL, reader({}, mask_BL))
        expected = _expected(*parts, ids_BL, _compared(context, reader(raw, mask_BL)))
    vectors = expected["user_vectors"]

    with tempfile.TemporaryDirectory() as scratch:
        # The table reads its ids from a file that travels as an asset: a list would go into the
        # graph, where 300,000 ids take half a minute to save.
        vocabulary = Path(scratch) / Path(TOWER_VOCABULARY).name
        with full_disk_named(vocabulary):
            vocabulary.write_bytes(lines_of(item_ids))
        served = ServedTower(
            *(item_embeddings, user_tower, history_scores, vocabulary, max_history, version, reader, columns)
        )
        tf.saved_model.save(served, str(directory), signatures=dict(served.functions))

    extra = directory / TOWER_EXTRA
    extra.mkdir()
    description = {
        "version": version,
        "items": len(item_ids),
        "dimension": int(vectors.shape[-1]),
        "vectors_per_user": int(vectors.shape[1]) if vectors.ndim == 3 else 1,
        "max_history": max_history,
    }
    if reader is not None:
        description["columns"] = list(reader.columns)
    (extra / TOWER_DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    if histories:
        write_warm_up(directory / TOWER_WARM_UP, histories, item_ids, max_history, columns, given)
    requests = tower_requests(checked, item_ids, max_history, columns, given)
    of_signature = {name: alone if name in _IDS_ALONE else expected for name in requests}
    _check_reloaded(directory, requests, of_signature, version)


def _checked_embeddings(item_embeddings: np.ndarray, item_ids: Sequence[str]) -> np.ndarray:
    embeddings = np.asarray(item_embeddings, np.float32)
    if embeddings.ndim != 2 or len(embeddings) != len(item_ids) + 1 or not len(item_ids):
        raise BundleError(
            f"item_embeddings is {list(embeddings.shape)} for {len(item_ids)} item ids; wanted"
            f" [{len(item_ids) + 1}, d]: a row of zeros for padding, then one row an item."
        )
    if not np.isfinite(embeddings).all():
        raise BundleError("item_embeddings holds values that are not finite; the run diverged.")
    if embeddings[0].any():
        raise BundleError("Row 0 of item_embeddings is padding and must be zero, but it is not.")
    return embeddings


def _compared(context: ServedContext, read: tuple[Any, tf.Tensor, tf.Tensor]) -> tuple:
    """What is read, with what training has in its place; raises BundleError where they differ."""
    stored, known, unknown = read
    for key, wanted in context.stored.items():
        got = stored[key].numpy()[: len(wanted)]
        if not np.array_equal(got, wanted, equal_nan=got.dtype.kind == "f"):
            row = int(np.flatnonzero((got != wanted).reshape(len(got), -1).any(axis=1))[0])
            raise BundleError(
                f"{key} of a warm-up history is {wanted[row]} in training, and {got[row]} as the tower reads"
                " what is given; nothing was published."
            )
    trained = {
        name: tf.concat([context.stored[name], value[len(context.stored[name]) :]], axis=0)
        if name in context.stored
        else value
        for name, value in stored.items()
    }
    return trained, known, unknown


def _expected(
    item_embeddings: np.ndarray,
    user_tower: TowerLayer,
    history_scores: HistoryScorer | None,
    ids_BL: np.ndarray,
    read: tuple[Any, tf.Tensor, tf.Tensor] | None = None,
) -> dict[str, np.ndarray]:
    """What the tower answers to histories, and to what a reader reads beside them."""

    # As a graph, since what is saved is one: TensorFlow fuses a graph's products with what follows them,
    # which in bfloat16 rounds less often than one operation after the other does.
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, ids_BL.shape[1]], tf.int64),
            tf.TensorSpec([None, ids_BL.shape[1], item_embeddings.shape[1]], tf.float32),
        ],
        autograph=False,
    )
    def answer(ids_BL, concepts_BLD):
        context = [] if read is None else [read[0]]
        vectors = user_tower(concepts_BLD, ids_BL > 0, *context)
        answered = {"user_vectors": vectors}
        if history_scores is not None:
            answered |= of_history(history_scores, ids_BL, concepts_BLD, vectors)
        return answered

    answered = answer(tf.constant(ids_BL), tf.constant(item_embeddings[ids_BL]))
    answer_of = {name: np.array(value) for name, value in answered.items()}
    if read is not None:  # of whom nothing is known, the exported tower answers zeros
        is_known = (ids_BL > 0).any(axis=1) | (read[1].numpy() > 0)
        answer_of["user_vectors"][~is_known] = 0.0
    return answer_of


def _check_reloaded(
    directory: Path,
    requests: Mapping[str, Mapping[str, tf.Tensor]],
    expected: Mapping[str, Mapping[str, np.ndarray]],
    version: str,
) -> None:
    reloaded = tf.saved_model.load(str(directory))
    for signature, inputs in requests.items():
        answer = reloaded.signatures[signature](**inputs)
        for name, wanted in expected[signature].items():
            difference = np.max(np.abs(answer[name].numpy() - wanted), initial=0.0)
            if not difference <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
                raise BundleError(
                    f"{name} of signature {signature} of the reloaded tower differ from the tower's by"
                    f" {difference} (at most {_TOLERANCE} is allowed); nothing was published."
                )
        versions = set(answer["version"].numpy().tolist())
        if versions != {version.encode()}:
            raise BundleError(f"Signature {signature} answers version {versions}, not {version!r}.")

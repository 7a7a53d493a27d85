"""The graph that is exported: ids, and what is known beside them, to user vectors.

Shape legend: B requests, L = max_history, V items, d embedding size, K vectors a user.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from export.store.layout import MODEL_NAME
from export.store.runtime import tf
from export.tower_columns import TIME, TowerColumn, TowerColumns
from export.towers.requests import WITH_FEATURES

# (concepts [B, L, d] float32, mask [B, L] bool) -> [B, d] or [B, K, d] float32; a Keras layer is one. One
# that reads a context takes it as the third. What a client asks is `export.towers.answers.Tower`.
TowerLayer = Callable[..., tf.Tensor]
# (item ids [B, L] int64, concepts, the vectors of the tower) -> the ids, each at its last position, else 0,
# and float32 [B, L], the scores of these items. It has `.variables`, too.
HistoryScorer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

_TYPES = {"numeric": tf.float32, "embedding": tf.float32, TIME: tf.int64}


class ServedReader(Protocol):
    """Turns raw values into what the tower layer takes as its context; a tf.Module, with its vocabularies."""

    @property
    def columns(self) -> Sequence[Mapping[str, Any]]:
        """The columns as `export.tower_columns.TowerColumns.described` reads them."""

    @property
    def fingerprint(self) -> str:
        """Hashes all that decides what is read."""

    def __call__(self, raw: Mapping[str, Any], mask_BL: tf.Tensor) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Reads raw values.

        Args:
          raw: by `TowerColumn.key` text, float32 or int64: of users and requests [B], [B, size] of an
            embedding, [B, any] of several values, also ragged; of events [B, L]. What is missing may be
            left out.
          mask_BL: bool, which items are real.

        Returns:
          The context; int64 [B], how many values of the user and of the request are known; and how many of
          all are not.
        """


class _Asked(NamedTuple):
    """Ids int64 [B, L], left-aligned, 0 where nothing is; raw values by key, those of events beside them."""

    ids_BL: tf.Tensor
    raw: dict[str, Any]
    num_unread: tf.Tensor | int = 0


class ServedTower(tf.Module):
    """What is saved: the embedding table, the tower's variables, the tables of ids and values, functions."""

    def __init__(
        self,
        item_embeddings: np.ndarray,
        user_tower: TowerLayer,
        history_scores: HistoryScorer | None,
        vocabulary: Path,
        max_history: int,
        version: str,
        reader: ServedReader | None = None,
        columns: TowerColumns | None = None,
    ):
        """Makes the functions, each a signature; see `export.towers.user_tower.export_user_tower`."""
        super().__init__(name=MODEL_NAME)
        self._embeddings = tf.Variable(item_embeddings, trainable=False, name="item_embeddings")
        # The variables are tracked, the layer is not: it would bring its Keras description along.
        self._tower_variables = [*variables_of(user_tower), *variables_of(history_scores)]
        self._reader = reader
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(vocabulary),
                key_dtype=tf.string,
                key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
                value_dtype=tf.int64,
                value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
                vocab_size=len(item_embeddings) - 1,
            ),
            default_value=-1,
        )
        num_items = len(item_embeddings) - 1
        embeddings, table = self._embeddings, self._table

        def encode(left_aligned_BL: tf.Tensor, asked: _Asked | None = None) -> dict[str, tf.Tensor]:
            """Answers ids, and what is asked with them; None: these signatures take ids alone."""
            mask_BL = left_aligned_BL > 0
            num_known_B = tf.reduce_sum(tf.cast(mask_BL, tf.int64), axis=1)
            concepts_BLD = tf.gather(embeddings, left_aligned_BL)
            known_B, of_values = num_known_B, {}
            if reader is None:
                vectors = user_tower(concepts_BLD, mask_BL)
            else:
                context, known, unknown = reader({} if asked is None else asked.raw, mask_BL)
                vectors = user_tower(concepts_BLD, mask_BL, context)
                if asked is not None:
                    known_B = num_known_B + known
                    unread = tf.cast(asked.num_unread, tf.int64)
                    of_values = {"num_known_values": known, "num_unknown_values": unknown + unread}
            # An attention over nothing may be 0 / 0; such a row answers zeros.
            any_known = tf.reshape(known_B > 0, [-1] + [1] * (vectors.shape.rank - 1))
            answer = {
                "user_vectors": tf.where(any_known, vectors, tf.zeros_like(vectors)),
                "num_known": num_known_B,
                "version": tf.fill([tf.shape(left_aligned_BL)[0]], version),
            }
            if history_scores is not None:
                answer |= of_history(history_scores, left_aligned_BL, concepts_BLD, vectors)
            return answer | of_values

        def left_aligned(item_ids_BL: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """Moves the known ids to the left, in order, and fills up with 0; and the places they were at."""
            known_BL = (item_ids_BL > 0) & (item_ids_BL <= num_items)
            place_L = tf.range(max_history)
            order_BL = tf.argsort(tf.where(known_BL, place_L, place_L + max_history), axis=1)
            ids_BL = tf.where(known_BL, item_ids_BL, tf.zeros_like(item_ids_BL))
            return tf.gather(ids_BL, order_BL, batch_dims=1), order_BL

        @tf.function(
            input_signature=[tf.TensorSpec([None, max_history], tf.int64, "item_ids")], autograph=False
        )
        def from_indices(item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return encode(left_aligned(item_ids)[0])

        @tf.function(
            input_signature=[tf.TensorSpec([None, max_history], tf.string, "item_ids")], autograph=False
        )
        def from_strings(item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return encode(left_aligned(table.lookup(item_ids) + 1)[0])

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")], autograph=False)
        def from_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            feature = {"item_ids": tf.io.RaggedFeature(tf.string)}
            if columns:
                kinds = {column.key: _TYPES.get(column.kind, tf.string) for column in columns.columns}
                for key, kind in {"item_ids": tf.string, **kinds}.items():
                    feature[key] = tf.io.RaggedFeature(kind, row_splits_dtype=tf.int64)
            parsed = tf.io.parse_example(examples, feature)
            ragged = parsed.pop("item_ids")
            indices = ragged.with_values(table.lookup(ragged.values) + 1)
            if not columns:
                return encode(last_known(indices, max_history))
            asked = _of_examples(indices, parsed, columns, max_history)
            return encode(asked.ids_BL, asked)

        self.functions = {
            "serving_default": from_indices,
            "string_ids": from_strings,
            "examples": from_examples,
        }
        if columns:
            by_input = {column.input: column for column in columns.columns}
            specs = {"item_ids": tf.TensorSpec([None, max_history], tf.string, "item_ids")}
            for name, column in by_input.items():
                length = max_history if column.owner == "event" else column.width
                shape = [None] if length is None else [None, length]
                specs[name] = tf.TensorSpec(shape, _TYPES.get(column.kind, tf.string), name)

            def with_features(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
                ids_BL, order_BL = left_aligned(table.lookup(inputs["item_ids"]) + 1)
                raw = {}
                for name, column in by_input.items():
                    value = inputs[name]
                    is_event = column.owner == "event"
                    raw[column.key] = tf.gather(value, order_BL, batch_dims=1) if is_event else value
                return encode(ids_BL, _Asked(ids_BL, raw))

            self.functions[WITH_FEATURES] = tf.function(with_features, autograph=False).get_concrete_function(
                **specs
            )


def variables_of(layer: Any) -> list[tf.Variable]:
    """The variables of a layer, or of a plain function or None, which have none."""
    return list(getattr(layer, "variables", []))


def of_history(history_scores: HistoryScorer, ids_BL, concepts_BLD, vectors) -> dict[str, tf.Tensor]:
    """What a tower answers of the items of histories."""
    items_BL, scores_BL = history_scores(ids_BL, concepts_BLD, vectors)
    # What stands beside no item, from vectors of nothing perhaps, is no score.
    return {"history_items": items_BL, "history_scores": tf.where(items_BL > 0, scores_BL, 0.0)}


def last_known(ids: tf.RaggedTensor, width: int) -> tf.Tensor:
    """The last known ids of each row, in order, filled up with 0 on the right.

    Args:
      ids: int64 [B, any], 0 where unknown.
      width: how many are kept of a row.

    Returns:
      int64 [B, width].
    """
    return _last_known(ids, width)(ids.flat_values, 0)


def _last_known(ids: tf.RaggedTensor, width: int) -> Callable[[tf.Tensor, Any], tf.Tensor]:
    """Gives what takes values from beside the last known ids of each row.

    No tensor here is larger than all ids or [B, width]. `tf.ragged.boolean_mask` would hold a rectangle
    meanwhile, all rows by the longest of them, and the length of a row is the client's.
    """
    is_known = ids.flat_values > 0
    before = tf.concat([[0], tf.cumsum(tf.cast(is_known, tf.int64))], axis=0)  # known ids before each place
    starts_B, ends_B = tf.gather(before, ids.row_starts()), tf.gather(before, ids.row_limits())
    places_BL = tf.maximum(starts_B, ends_B - width)[:, tf.newaxis] + tf.range(width, dtype=tf.int64)
    is_filling_BL = places_BL >= ends_B[:, tf.newaxis]

    def beside(flat_values: tf.Tensor, filler: Any) -> tf.Tensor:
        """Values of each id, laid out [B, width]."""
        known = tf.concat([tf.boolean_mask(flat_values, is_known), [filler]], axis=0)  # the last one fills up
        return tf.gather(known, tf.where(is_filling_BL, tf.size(known, tf.int64) - 1, places_BL))

    return beside


def _of_examples(
    ids: tf.RaggedTensor, parsed: Mapping[str, tf.RaggedTensor], columns: TowerColumns, max_history: int
) -> _Asked:
    """What examples ask, whose ids are int64 [B, any], 0 where unknown.

    A column of events is read where it has a value for each id, and a vector where it has its length;
    elsewhere all its values are missing, and count as unknown.
    """
    beside = _last_known(ids, max_history)
    raw: dict[str, Any] = {}
    num_unread = tf.zeros([ids.nrows()], tf.int64)
    for column in columns.columns:
        values = parsed[column.key]
        lengths_B = values.row_lengths()
        if column.owner == "event":
            fits_B = lengths_B == ids.row_lengths()
            filler = _missing(column)
            # The place of an id's value: as far from the row's first value as the id from the row's first.
            rows = ids.value_rowids()
            places = tf.range(tf.size(rows, tf.int64)) - tf.gather(ids.row_starts(), rows)
            places += tf.gather(values.row_starts(), rows)
            flat = tf.concat([values.flat_values, [filler]], axis=0)
            last = tf.size(flat, tf.int64) - 1
            raw[column.key] = beside(tf.gather(flat, tf.where(tf.gather(fits_B, rows), places, last)), filler)
        elif column.kind == "embedding":
            fits_B = lengths_B == column.size
            vectors = values.to_tensor(0.0, shape=[None, column.size])
            raw[column.key] = tf.where(fits_B[:, tf.newaxis], vectors, tf.zeros_like(vectors))
        elif column.kind == "multi":
            fits_B = lengths_B >= 0
            raw[column.key] = values
        else:
            fits_B = lengths_B <= 1
            raw[column.key] = values.to_tensor(_missing(column), shape=[None, 1])[:, 0]
        num_unread += tf.where(fits_B, tf.zeros_like(lengths_B), lengths_B)
    return _Asked(beside(ids.flat_values, 0), raw, num_unread)


def _missing(column: TowerColumn) -> Any:
    kind = _TYPES.get(column.kind, tf.string)
    return tf.constant({tf.string: "", tf.float32: float("nan"), tf.int64: 0}[kind], kind)

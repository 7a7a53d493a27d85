"""The user tower alone as a SavedModel: three signatures, warm-up requests, a reload check.

Nothing of Keras and nothing of the item index goes into it, so a stock TensorFlow Serving loads it.
Shape legend: B requests, L = max_history, V items, d embedding size, K vectors a user.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.index.labels import check_ids, lines_of
from export.store.bundle_errors import BundleError
from export.store.disk import full_disk_named
from export.store.layout import (
    MODEL_NAME,
    MOST_WARM_UP_HISTORIES,
    TOWER_DESCRIPTION,
    TOWER_EXTRA,
    TOWER_VOCABULARY,
    TOWER_WARM_UP,
)
from export.store.runtime import tf
from export.towers.requests import padded_histories, tower_requests, write_warm_up

_TOLERANCE = 1e-5

# (concepts [B, L, d] float32, mask [B, L] bool) -> [B, d] or [B, K, d] float32; a Keras layer is one. What a
# client asks, with item ids, is `export.towers.answers.Tower`.
TowerLayer = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
# (item ids [B, L] int64, concepts, the vectors of the tower) -> the ids, each at its last position, else 0,
# and float32 [B, L], the scores of these items. It has `.variables`, too.
HistoryScorer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


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
) -> None:
    """Writes the user tower as a SavedModel, reloads it and compares it with the original.

    Signatures, each answering `user_vectors` float32 [B, d] or [B, K, d], `num_known` int64 [B] and
    `version` string [B]:

    * `serving_default`: `item_ids` int64 [B, L], vocabulary indices from 1, 0 is padding;
    * `string_ids`: `item_ids` string [B, L], "" is padding;
    * `examples`: `examples` string [B], serialised tf.Example with a bytes feature `item_ids`
      of any length, of which the last `max_history` known ones are read.

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
    expected = _expected(item_embeddings, user_tower, history_scores, histories or [[1]], max_history)
    vectors = expected["user_vectors"]

    with tempfile.TemporaryDirectory() as scratch:
        # The table reads its ids from a file that travels as an asset: a list would go into the
        # graph, where 300,000 ids take half a minute to save.
        vocabulary = Path(scratch) / Path(TOWER_VOCABULARY).name
        with full_disk_named(vocabulary):
            vocabulary.write_bytes(lines_of(item_ids))
        served = _ServedTower(item_embeddings, user_tower, history_scores, vocabulary, max_history, version)
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
    (extra / TOWER_DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    if histories:
        write_warm_up(directory / TOWER_WARM_UP, histories, item_ids, max_history)
    _check_reloaded(directory, histories or [[1]], expected, item_ids, max_history, version)


class _ServedTower(tf.Module):
    """What is saved: the embedding table, the tower's variables, the id table, three functions."""

    def __init__(
        self,
        item_embeddings: np.ndarray,
        user_tower: TowerLayer,
        history_scores: HistoryScorer | None,
        vocabulary: Path,
        max_history: int,
        version: str,
    ):
        super().__init__(name=MODEL_NAME)
        self._embeddings = tf.Variable(item_embeddings, trainable=False, name="item_embeddings")
        # The variables are tracked, the layer is not: it would bring its Keras description along.
        self._tower_variables = [*variables_of(user_tower), *variables_of(history_scores)]
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

        def encode(left_aligned_BL: tf.Tensor) -> dict[str, tf.Tensor]:
            mask_BL = left_aligned_BL > 0
            num_known_B = tf.reduce_sum(tf.cast(mask_BL, tf.int64), axis=1)
            concepts_BLD = tf.gather(embeddings, left_aligned_BL)
            vectors = user_tower(concepts_BLD, mask_BL)
            # An attention over nothing may be 0 / 0; such a row answers zeros.
            any_known = tf.reshape(num_known_B > 0, [-1] + [1] * (vectors.shape.rank - 1))
            answer = {
                "user_vectors": tf.where(any_known, vectors, tf.zeros_like(vectors)),
                "num_known": num_known_B,
                "version": tf.fill([tf.shape(left_aligned_BL)[0]], version),
            }
            if history_scores is not None:
                answer |= _of_history(history_scores, left_aligned_BL, concepts_BLD, vectors)
            return answer

        def without_unknown(item_ids_BL: tf.Tensor) -> tf.Tensor:
            """Moves the known ids to the left, in order, and fills up with 0."""
            known_BL = (item_ids_BL > 0) & (item_ids_BL <= num_items)
            place_L = tf.range(max_history)
            order_BL = tf.argsort(tf.where(known_BL, place_L, place_L + max_history), axis=1)
            ids_BL = tf.where(known_BL, item_ids_BL, tf.zeros_like(item_ids_BL))
            return tf.gather(ids_BL, order_BL, batch_dims=1)

        @tf.function(input_signature=[tf.TensorSpec([None, max_history], tf.int64, "item_ids")])
        def from_indices(item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return encode(without_unknown(item_ids))

        @tf.function(input_signature=[tf.TensorSpec([None, max_history], tf.string, "item_ids")])
        def from_strings(item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return encode(without_unknown(table.lookup(item_ids) + 1))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
        def from_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            feature = {"item_ids": tf.io.RaggedFeature(tf.string)}
            ragged = tf.io.parse_example(examples, feature)["item_ids"]
            return encode(last_known(ragged.with_values(table.lookup(ragged.values) + 1), max_history))

        self.functions = {
            "serving_default": from_indices,
            "string_ids": from_strings,
            "examples": from_examples,
        }


def variables_of(layer: Any) -> list[tf.Variable]:
    """The variables of a layer, or of a plain function or None, which have none."""
    return list(getattr(layer, "variables", []))


def _of_history(history_scores: HistoryScorer, ids_BL, concepts_BLD, vectors) -> dict[str, tf.Tensor]:
    items_BL, scores_BL = history_scores(ids_BL, concepts_BLD, vectors)
    # What stands beside no item, from vectors of nothing perhaps, is no score.
    return {"history_items": items_BL, "history_scores": tf.where(items_BL > 0, scores_BL, 0.0)}


def last_known(ids: tf.RaggedTensor, width: int) -> tf.Tensor:
    """The last known ids of each row, in order, filled up with 0 on the right.

    No tensor here is larger than all ids or [B, width]. `tf.ragged.boolean_mask` would hold a rectangle
    meanwhile, all rows by the longest of them, and the length of a row is the client's.

    Args:
      ids: int64 [B, any], 0 where unknown.
      width: how many are kept of a row.

    Returns:
      int64 [B, width].
    """
    is_known = ids.flat_values > 0
    known = tf.concat([tf.boolean_mask(ids.flat_values, is_known), [0]], axis=0)  # the last one fills up
    before = tf.concat([[0], tf.cumsum(tf.cast(is_known, tf.int64))], axis=0)  # known ids before each place
    starts_B, ends_B = tf.gather(before, ids.row_starts()), tf.gather(before, ids.row_limits())
    places_BL = tf.maximum(starts_B, ends_B - width)[:, tf.newaxis] + tf.range(width, dtype=tf.int64)
    is_filling_BL = places_BL >= ends_B[:, tf.newaxis]
    return tf.gather(known, tf.where(is_filling_BL, tf.size(known, tf.int64) - 1, places_BL))


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


def _expected(
    item_embeddings: np.ndarray,
    user_tower: TowerLayer,
    history_scores: HistoryScorer | None,
    histories: Sequence[Sequence[int]],
    max_history: int,
) -> dict[str, np.ndarray]:
    # As a graph, since what is saved is one: TensorFlow fuses a graph's products with what follows them,
    # which in bfloat16 rounds less often than one operation after the other does.
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, max_history], tf.int64),
            tf.TensorSpec([None, max_history, item_embeddings.shape[1]], tf.float32),
        ]
    )
    def answer(ids_BL, concepts_BLD):
        vectors = user_tower(concepts_BLD, ids_BL > 0)
        answered = {"user_vectors": vectors}
        if history_scores is not None:
            answered |= _of_history(history_scores, ids_BL, concepts_BLD, vectors)
        return answered

    padded_BL = padded_histories(histories, max_history)
    answered = answer(tf.constant(padded_BL), tf.constant(item_embeddings[padded_BL]))
    return {name: value.numpy() for name, value in answered.items()}


def _check_reloaded(
    directory: Path,
    histories: Sequence[Sequence[int]],
    expected: dict[str, np.ndarray],
    item_ids: Sequence[str],
    max_history: int,
    version: str,
) -> None:
    reloaded = tf.saved_model.load(str(directory))
    for signature, inputs in tower_requests(histories, item_ids, max_history).items():
        answer = reloaded.signatures[signature](**inputs)
        for name, wanted in expected.items():
            difference = np.max(np.abs(answer[name].numpy() - wanted), initial=0.0)
            if not difference <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
                raise BundleError(
                    f"{name} of signature {signature} of the reloaded tower differ from the tower's by"
                    f" {difference} (at most {_TOLERANCE} is allowed); nothing was published."
                )
        versions = set(answer["version"].numpy().tolist())
        if versions != {version.encode()}:
            raise BundleError(f"Signature {signature} answers version {versions}, not {version!r}.")

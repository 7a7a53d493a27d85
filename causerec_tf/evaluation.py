"""A model over evaluation users: ranked items, then figures of each user."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from causerec_tf import metrics, retrieval
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.ragged import ItemLists
from causerec_tf.metrics import CUTOFFS
from causerec_tf.model import CauseRec

VECTORS_PER_BLOCK = 256  # users ranked at once, divided by the vectors that each of them has
HISTORIES_PER_BLOCK = 1024  # encoded at once where nothing is ranked
SCORES_PER_BLOCK = 10_000_000  # of a baseline, which has one for every user and item
# What becomes of seen items: kept in the lists, or left out, as the parameter `exclude_seen` says.
POLICIES = (False, True)

_top_k = tf.function(retrieval.top_k_of_each, autograph=False)


def user_vectors(
    model: CauseRec, history: np.ndarray, context: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """User vectors of histories, block by block, so that memory does not grow but by the answer.

    Args:
      model: the model.
      history: int [users, L], one or more, oldest first, padded with 0 on the right.
      context: what is known beside them, a row a user, as `EvaluationUsers.context`; None: nothing.

    Returns:
      float32 [users, d], or [users, K, d] where the tower gives K vectors.
    """
    blocks = _blocks(len(history), HISTORIES_PER_BLOCK)
    return np.concatenate([_encode(model, history, context or {}, block).numpy() for block in blocks])


def _encode(
    model: CauseRec, history: np.ndarray, context: Mapping[str, np.ndarray], block: slice
) -> tf.Tensor:
    """The vectors of the users of a block."""
    beside = {key: tf.constant(values[block]) for key, values in context.items()}
    # A model without a context is traced without one.
    return model.encode(tf.constant(history[block]), *([beside] if beside else []))


def rank_users(model: CauseRec, users: EvaluationUsers, k: int, *, exclude_seen: bool) -> np.ndarray:
    """The model's k best items of all that training knew for each user.

    Args:
      model: the model.
      users: whom to rank for.
      k: items a user.
      exclude_seen: leave out every item of the user's whole history.

    Returns:
      int32 [users, k], best first; 0 where exclusions leave no item.
    """
    return rank_by_policies(model, users, k, [exclude_seen])[0]


def rank_by_policies(
    model: CauseRec, users: EvaluationUsers, k: int, policies: Sequence[bool]
) -> list[np.ndarray]:
    """What `rank_users` gives for each `exclude_seen`, from one pass over the catalogue."""
    users_per_block = max(1, VECTORS_PER_BLOCK // model.user_tower.num_interests)
    ranked = [np.zeros([len(users), k], np.int32) for _ in policies]
    scores = [np.full([len(users), k], -np.inf, np.float32) for _ in policies]
    first = 0
    # Of a table in parts, as one that lies on parameter servers, only a part is here at a time.
    for part_ID in model.item_vectors_in_parts():
        # place_of: of each item of the part among those that are ranked, from 1; 0: it is not
        ids, place_of = _ranked_of(model.trained_items, first, len(part_ID))
        if len(ids):
            catalogue = retrieval.in_blocks(part_ID if len(ids) == len(part_ID) else part_ID[ids - first - 1])
            item_at = np.append(0, ids)  # by place; 0, no item, stays 0
            for block in _blocks(len(users), users_per_block):
                vectors = _encode(model, users.history, users.context, block)
                seen = _excluded(users.seen, block, place_of, first) if any(policies) else None
                own = None
                if model.returns is not None and not all(policies):
                    own = _places_of(_pairs_of(users.history[block]), place_of, first)
                exclusions = [seen if exclude_seen else own for exclude_seen in policies]
                found = _ranked(vectors, catalogue, min(k, len(ids)), exclusions)
                for best, ranks, (new_scores, places) in zip(scores, ranked, found, strict=True):
                    _merge(best[block], ranks[block], new_scores.numpy(), item_at[places.numpy()])
        first += len(part_ID)
    if model.returns is not None:
        for exclude_seen, best, ranks in zip(policies, scores, ranked, strict=True):
            if not exclude_seen:
                _merge_own_items(model, users, best, ranks)
    return ranked


def _merge_own_items(model: CauseRec, users: EvaluationUsers, scores: np.ndarray, ranked: np.ndarray) -> None:
    """Puts the items that the tower reads among the others, in place, by scores that know of returns."""
    for block in _blocks(len(users), HISTORIES_PER_BLOCK):
        history = tf.constant(users.history[block])
        own = model.history_scores(history, _encode(model, users.history, users.context, block))
        items_BL, scores_BL = (one.numpy() for one in own)
        is_known_BL = items_BL > 0
        if model.trained_items is not None:
            is_known_BL &= np.isin(items_BL, model.trained_items)
        scores_BL = np.where(is_known_BL, scores_BL, -np.inf).astype(np.float32)
        _merge(scores[block], ranked[block], scores_BL, np.where(is_known_BL, items_BL, 0))


def rank_by_scores(
    scores: Callable[[EvaluationUsers], np.ndarray],
    num_items: int,
    users: EvaluationUsers,
    k: int,
    policies: Sequence[bool],
    *,
    candidates: np.ndarray | None = None,
) -> list[np.ndarray]:
    """What `rank_users` gives for each `exclude_seen`, in the order of `POLICIES`, by scores of all items.

    Args:
      scores: of a block of users; see `Baseline.scores`. Ties go to the lower index.
      num_items: V.
      users: whom to rank for.
      k: items a user.
      policies: some of `POLICIES`.
      candidates: int, the items that are ranked; None: all.
    """
    ranked = [np.zeros([len(users), k], np.int32) for _ in policies]
    is_candidate_V = np.zeros(num_items, bool)
    is_candidate_V[slice(None) if candidates is None else candidates - 1] = True
    for block in _blocks(len(users), max(1, SCORES_PER_BLOCK // num_items)):
        part = users.part(block.start, block.stop)
        scores_BV = scores(part)
        scores_BV[:, ~is_candidate_V] = -np.inf
        for ranks, exclude_seen in zip(ranked, policies, strict=True):
            if exclude_seen:
                rows, _ = part.seen.rows_and_positions()
                scores_BV[rows, part.seen.items - 1] = -np.inf
            best, places = tf.math.top_k(scores_BV, min(k, num_items))
            ranks[block, : places.shape[1]] = np.where(np.isneginf(best), 0, places + 1)
    return ranked


def rank_by_popularity(num_items: int, users: EvaluationUsers, k: int, *, exclude_seen: bool) -> np.ndarray:
    """POP by the vocabulary, whose items are numbered by falling training frequency; see `rank_users`."""

    def scores(part: EvaluationUsers) -> np.ndarray:
        return np.tile(-np.arange(num_items, dtype=np.float32), (len(part), 1))

    return rank_by_scores(scores, num_items, users, k, [exclude_seen])[0]


def per_user(
    ranked: np.ndarray, users: EvaluationUsers, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, np.ndarray]:
    """Every metric at every cut-off for each user, `recall@20` and so on -> float64 [users].

    Args:
      ranked: int [users, at least the largest cut-off].
      users: whose targets count.
      cutoffs: the k of each metric.
    """
    values: dict[str, np.ndarray] = {}
    for k in cutoffs:
        at_k = metrics.per_user(ranked, users.targets.items, users.targets.row_splits, k)
        values |= {f"{name}@{k}": at_k[name] for name in metrics.NAMES}
    return values


def means(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Metric -> its mean over users."""
    return {name: float(one.mean()) for name, one in values.items()}


def figures(ranked: np.ndarray, users: EvaluationUsers, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """What `per_user` gives, the mean over users."""
    return means(per_user(ranked, users, cutoffs))


def _ranked(
    users: tf.Tensor, catalogue: list[tf.Tensor], k: int, exclusions: list[tf.Tensor | None]
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """`retrieval.top_k_of_each`, traced once for any number of users and of exclusions."""
    any_users = tf.TensorSpec([None, *users.shape[1:]], users.dtype)
    any_excluded = [None if one is None else tf.TensorSpec([None, 2], one.dtype) for one in exclusions]
    # Not by `reduce_retracing`, which would take the sizes of two catalogues for any size.
    traced = _top_k.get_concrete_function(any_users, catalogue, k, any_excluded)
    return traced(users, catalogue, k, exclusions)


def _rows_and_items(lists: ItemLists, block: slice) -> tf.Tensor:
    """What the users of a block have: int32 [N, 2], the row in the block and a distinct item of the user."""
    users = lists.part(block.start, block.stop)
    rows, _ = users.rows_and_positions()
    pairs = np.stack([rows.astype(np.int32), users.items], axis=1)
    return tf.constant(np.unique(pairs, axis=0))


def _blocks(num_users: int, users_per_block: int) -> list[slice]:
    """Users that are handled at once: so memory does not grow with their number."""
    starts = range(0, num_users, users_per_block)
    return [slice(start, min(start + users_per_block, num_users)) for start in starts]


def _ranked_of(trained: np.ndarray | None, first: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The trained items among the `size` items behind the `first` ones; and each item's place among them.

    Returns:
      int32 [C], ascending, and int32 [size + 1]: of the item `first + i` the place from 1, or 0.
    """
    if trained is None:
        ids = np.arange(first + 1, first + size + 1, dtype=np.int32)
    else:
        ids = trained[(trained > first) & (trained <= first + size)]
    place_of = np.zeros(size + 1, np.int32)
    place_of[ids - first] = np.arange(1, len(ids) + 1)
    return ids, place_of


def _excluded(lists: ItemLists, block: slice, place_of: np.ndarray, first: int) -> tf.Tensor:
    """What the users of a block have of a part: int32 [N, 2], the row in the block and the item's place."""
    return _places_of(_rows_and_items(lists, block).numpy(), place_of, first)


def _pairs_of(history_BL: np.ndarray) -> np.ndarray:
    """The row and each distinct item of padded histories, int [N, 2]."""
    rows, columns = np.nonzero(history_BL)
    return np.unique(np.stack([rows.astype(np.int32), history_BL[rows, columns]], axis=1), axis=0)


def _places_of(pairs: np.ndarray, place_of: np.ndarray, first: int) -> tf.Tensor:
    inside = (pairs[:, 1] > first) & (pairs[:, 1] < first + len(place_of))
    rows, places = pairs[inside, 0], place_of[pairs[inside, 1] - first]
    return tf.constant(np.stack([rows, places], axis=1)[places > 0])


def _merge(
    best_scores_BK: np.ndarray, best_BK: np.ndarray, scores_BJ: np.ndarray, items_BJ: np.ndarray
) -> None:
    """Puts the best items of a part among the best so far, in place."""
    all_scores = np.concatenate([best_scores_BK, scores_BJ], axis=1)
    all_items = np.concatenate([best_BK, items_BJ], axis=1)
    # Stable, and earlier parts stand first: ties go to the lower index.
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, : best_BK.shape[1]]
    best_scores_BK[:] = np.take_along_axis(all_scores, order, axis=1)
    best_BK[:] = np.take_along_axis(all_items, order, axis=1)

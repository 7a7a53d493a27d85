"""A model, and baselines beside it, over evaluation users: ranked items, then figures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from causerec_tf import metrics, retrieval
from causerec_tf.baselines.baseline import Baseline
from causerec_tf.baselines.popularity import Popular
from causerec_tf.data.holdout import EvaluationUsers, evaluation_users
from causerec_tf.data.protocols import EVERYTHING
from causerec_tf.data.ragged import ItemLists
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.errors import InputError
from causerec_tf.groups import Groups
from causerec_tf.metrics import CUTOFFS
from causerec_tf.model import CauseRec

VECTORS_PER_BLOCK = 256  # users ranked at once, divided by the vectors that each of them has
HISTORIES_PER_BLOCK = 1024  # encoded at once where nothing is ranked
SCORES_PER_BLOCK = 10_000_000  # of a baseline, which has one for every user and item
# What becomes of seen items: kept in the lists, or left out, as the parameter `exclude_seen` says.
POLICIES = (False, True)

_top_k = tf.function(retrieval.top_k_of_each)


class Measured(NamedTuple):
    """What evaluation users gave, seen items kept or left out.

    Attributes:
      num_users: how many they are.
      model: metric -> value of the model: the means over users of `per_user`, and `metrics.of_lists`.
      baselines: name -> the same of each.
      per_user: metric -> float32 [users], the model's value of each, in the order of the dataset.
      groups: group -> `meaning`, `users`, `targets`, and `figures`, system -> metric -> mean over its users;
        the model is `model`. Empty if not asked for.
    """

    num_users: int
    model: dict[str, float]
    baselines: dict[str, dict[str, float]]
    per_user: dict[str, np.ndarray]
    groups: dict[str, dict[str, Any]]

    @property
    def pop(self) -> dict[str, float]:
        """The figures of POP."""
        return self.baselines["pop"]


def users_of(
    dataset: Dataset, split: str, max_history: int, *, exclude_seen: bool = False
) -> EvaluationUsers:
    """The evaluation users of a split.

    Args:
      dataset: theirs.
      split: `validation` or `test`.
      max_history: how many of the last items the tower reads.
      exclude_seen: without targets that are in the history, and users who have no others.

    Raises:
      InputError: there is none.
    """
    if dataset.protocol["name"] == EVERYTHING:
        raise InputError(f"{dataset.directory} was prepared with --protocol=none: it has no {split} users.")
    users = evaluation_users(dataset.read(split), max_history)
    if exclude_seen:
        users = users.with_unseen_targets()
    if len(users) == 0:
        raise InputError(
            f"{dataset.directory} has no {split} user with two events or more"
            + (" and a target that is not in the history" if exclude_seen else "")
            + ": there is nothing to measure. Prepare a larger log, or try another --split_seed."
        )
    return users


def evaluate(model: CauseRec, dataset: Dataset, split: str, *, exclude_seen: bool) -> Measured:
    """The model and POP on the users of a split.

    Args:
      model: the trained model.
      dataset: it was trained on.
      split: `validation` or `test`.
      exclude_seen: leave out the items of a user's history, of the lists and of the targets.

    Raises:
      InputError: no user of the split has two events, or with `exclude_seen` a target that is new.
    """
    users = users_of(dataset, split, model.max_history, exclude_seen=exclude_seen)
    measured = measure(
        model, users, TrainingEvents(dataset), policies=[exclude_seen], baselines={"pop": Popular()}
    )
    return measured[exclude_seen]


def measure(
    model: CauseRec,
    users: EvaluationUsers,
    training: TrainingEvents,
    *,
    policies: Sequence[bool] = POLICIES,
    cutoffs: Sequence[int] = CUTOFFS,
    baselines: Mapping[str, Baseline] | None = None,
    groups: bool = False,
    on_baseline: Callable[[str], None] = lambda name: None,
) -> dict[bool, Measured]:
    """The model and baselines on the same users and candidates, ranked once for both policies.

    Args:
      model: the trained model.
      users: one or more.
      training: what it was trained on; baselines are fitted to it.
      policies: whether seen items are left out of lists and targets: some of `POLICIES`, in that order.
      cutoffs: of every metric.
      baselines: name -> what to measure beside the model. One that knows seen items only is not measured
        where they are left out.
      groups: whether `Groups` of the users are measured too.
      on_baseline: called with the name of each when its turn comes.

    Returns:
      What each policy gives. Without the policy that leaves seen items out, if nobody has another target.

    Raises:
      InputError: a baseline cannot be fitted.
    """
    for name, baseline in (baselines or {}).items():
        if reason := baseline.refusal(training):
            raise InputError(f"{name}: {reason}")
    is_unseen = users.are_targets_unseen()
    policies = [policy for policy in policies if not policy or is_unseen.any()]
    if policies == [True]:
        users, is_unseen = users.with_unseen_targets(), is_unseen[is_unseen]
    wanted = Groups(users, training) if groups else None
    k = max(cutoffs)
    ranked = {"model": dict(zip(policies, rank_by_policies(model, users, k, policies), strict=True))}
    for name, baseline in (baselines or {}).items():
        its_policies = [one for one in policies if not (one and baseline.knows_seen_items_only)]
        if its_policies:
            on_baseline(name)
            baseline.fit(training)
            lists = rank_by_scores(baseline.scores, training.num_items, users, k, its_policies)
            ranked[name] = dict(zip(its_policies, lists, strict=True))
    measured = {}
    for policy in policies:
        part, places = users.only_targets(is_unseen) if policy else (users, np.arange(len(users)))
        lists_of = {name: lists[policy][places] for name, lists in ranked.items() if policy in lists}
        measured[policy] = _measured(lists_of, part, training.counts, cutoffs, wanted)
    return measured


def _measured(
    ranked: dict[str, np.ndarray],
    users: EvaluationUsers,
    counts: np.ndarray,
    cutoffs: Sequence[int],
    groups: Groups | None,
) -> Measured:
    """The figures of some users' lists, system -> int [users, the largest cut-off]."""
    values = {name: per_user(lists, users, cutoffs) for name, lists in ranked.items()}
    of_systems = {
        name: means(values[name])
        | {f"{what}@{k}": one for k in cutoffs for what, one in metrics.of_lists(lists, counts, k).items()}
        for name, lists in ranked.items()
    }
    of_groups: dict[str, dict[str, Any]] = {}
    for group in groups.of(users) if groups else ():
        part, places = users.only_targets(group.is_in)
        of_groups[group.name] = {
            "meaning": group.meaning,
            "users": len(part),
            "targets": int(group.is_in.sum()),
            "figures": {name: figures(lists[places], part, cutoffs) for name, lists in ranked.items()},
        }
    of_model = {name: one.astype(np.float32) for name, one in values["model"].items()}
    return Measured(len(users), of_systems.pop("model"), of_systems, of_model, of_groups)


def user_vectors(model: CauseRec, history: np.ndarray) -> np.ndarray:
    """User vectors of histories, block by block, so that memory does not grow but by the answer.

    Args:
      model: the model.
      history: int [users, L], one or more, oldest first, padded with 0 on the right.

    Returns:
      float32 [users, d], or [users, K, d] where the tower gives K vectors.
    """
    blocks = _blocks(len(history), HISTORIES_PER_BLOCK)
    return np.concatenate([model.encode(tf.constant(history[block])).numpy() for block in blocks])


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
            for block in _blocks(len(users), users_per_block):
                vectors = model.encode(tf.constant(users.history[block]))
                seen = _excluded(users.seen, block, place_of, first) if any(policies) else None
                exclusions = [seen if exclude_seen else None for exclude_seen in policies]
                found = _ranked(vectors, catalogue, min(k, len(ids)), exclusions)
                for best, ranks, (new_scores, places) in zip(scores, ranked, found, strict=True):
                    items = np.append(ids, 0)[places.numpy() - 1]  # place 0, of no item, is the 0 at the end
                    _merge(best[block], ranks[block], new_scores.numpy(), items)
        first += len(part_ID)
    return ranked


def rank_by_scores(
    scores: Callable[[EvaluationUsers], np.ndarray],
    num_items: int,
    users: EvaluationUsers,
    k: int,
    policies: Sequence[bool],
) -> list[np.ndarray]:
    """What `rank_users` gives for each `exclude_seen`, in the order of `POLICIES`, by scores of all items.

    Args:
      scores: of a block of users; see `Baseline.scores`. Ties go to the lower index.
      num_items: V.
      users: whom to rank for.
      k: items a user.
      policies: some of `POLICIES`.
    """
    ranked = [np.zeros([len(users), k], np.int32) for _ in policies]
    for block in _blocks(len(users), max(1, SCORES_PER_BLOCK // num_items)):
        part = users.part(block.start, block.stop)
        scores_BV = scores(part)
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
    pairs = _rows_and_items(lists, block).numpy()
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

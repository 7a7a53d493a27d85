"""What evaluation users give: a model and baselines beside it, under both policies on seen items."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from causerec_tf import metrics
from causerec_tf.baselines.baseline import Baseline
from causerec_tf.data.holdout import EvaluationUsers, evaluation_users
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.errors import InputError
from causerec_tf.evaluation import POLICIES, figures, means, per_user, rank_by_policies, rank_by_scores
from causerec_tf.groups import Groups
from causerec_tf.metrics import CUTOFFS
from causerec_tf.model import CauseRec


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
    users = evaluation_users(dataset.read(split), max_history)
    if exclude_seen:
        users = users.with_unseen_targets()
    if len(users) == 0:
        raise InputError(
            f"{dataset.directory} has no {split} user with two events or more"
            + (" and a target that is not in the history" if exclude_seen else "")
            + f": there is nothing to measure. {dataset.remedy_for_nobody}"
        )
    return users


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
            lists = rank_by_scores(
                baseline.scores, training.num_items, users, k, its_policies, candidates=model.trained_items
            )
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

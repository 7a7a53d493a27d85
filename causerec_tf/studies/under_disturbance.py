"""A model whose users' histories are disturbed: what is left of accuracy, of the lists, and who gains by it.

The targets stay what they are, and so does the protocol: the tower reads the last `max_history` items of the
disturbed history, the whole catalogue is ranked, seen items stay in the lists.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from causerec_tf import evaluation, metrics
from causerec_tf.comparison import mean_and_standard_error
from causerec_tf.data.holdout import EvaluationUsers, last_items
from causerec_tf.data.ragged import ItemLists
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec
from causerec_tf.studies import disturbances
from causerec_tf.studies.disturbances import Clicks

K = 50
METRICS = (f"recall@{K}", f"ndcg@{K}", f"hr@{K}")
OVERLAP = f"overlap@{K}"
EXPOSURE = f"exposure@{K}"


@dataclass(frozen=True)
class Condition:
    """One kind of disturbance at one rate.

    Attributes:
      kind: `insertion`, `replacement`, `removal`, `popular` or `attack`.
      band: of the attacked items, as in `disturbances.BANDS`; None for the other kinds.
      rate: clicks, as a share of the history's items.
      values: name -> float64 [users], the mean over the draws: the metrics, the overlap with the clean list
        and, of an attack, the exposure of the attacked item; not a number for users whom no draw concerns.
      change: the same of the metrics and the exposure, less what the same user has without a disturbance.
    """

    kind: str
    band: str | None
    rate: float
    values: dict[str, np.ndarray]
    change: dict[str, np.ndarray]

    def record(self) -> dict:
        """For JSON: means over users with their standard errors."""
        return {
            "kind": self.kind,
            **({"band": self.band} if self.band else {}),
            "rate": self.rate,
            "values": {name: mean_and_standard_error(one) for name, one in self.values.items()},
            "change": {name: mean_and_standard_error(one) for name, one in self.change.items()},
        }


@dataclass(frozen=True)
class Robustness:
    """What the disturbances did to one model, kind by kind, each at every rate, and how it is without.

    `clean` is metric -> float64 [users], `attacked` band -> the items that were pushed. The digest is of all
    clicks and the targets: equal for systems that met the same.
    """

    clean: dict[str, np.ndarray]
    conditions: list[Condition]
    attacked: dict[str, list[int]]
    digest: str

    def record(self, beside: "Robustness") -> dict:
        """For JSON, beside the system to compare with.

        `change_minus_first` is the change of this one less that of the other, paired by user: below 0 where
        this one loses more. ValueError: the other met other disturbances.
        """
        if self.digest != beside.digest:
            raise ValueError("the systems met other clicks: measure both on the same users, with one seed.")
        met, by_other = ([(c.kind, c.band, c.rate) for c in one.conditions] for one in (self, beside))
        if met != by_other:
            raise ValueError("the systems met other conditions: measure both at the same rates.")
        conditions = []
        for ours, theirs in zip(self.conditions, beside.conditions, strict=True):
            less = {
                name: mean_and_standard_error(one - theirs.change[name]) for name, one in ours.change.items()
            }
            conditions.append(ours.record() | {"change_minus_first": less})
        return {
            "clean": {name: mean_and_standard_error(one) for name, one in self.clean.items()},
            "conditions": conditions,
            "clicks_sha256": self.digest,
        }


@dataclass(frozen=True)
class _Draws:
    """The clicks of one kind (and band), a draw after the other, and what puts them into histories.

    `items` are the attacked item of each draw; empty for the other kinds.
    """

    kind: str
    band: str | None
    clicks: list[Clicks]
    disturb: Callable[[ItemLists, Clicks, float], ItemLists]
    items: tuple[int, ...] = ()


def measure(
    model: CauseRec,
    users: EvaluationUsers,
    frequencies: np.ndarray,
    *,
    rates: Sequence[float],
    num_draws: int,
    seed: int,
    on_condition: Callable[[Condition], None] = lambda condition: None,
) -> Robustness:
    """Measures a model with and without disturbances.

    Args:
      model: a trained model.
      users: evaluation users, cut for its longest history.
      frequencies: int [V], how often each item occurs in training.
      rates: above 0, at most 1.
      num_draws: draws of each kind, and attacked items of each band.
      seed: of the draws; the same for systems that are to be compared.
      on_condition: called with each condition when it is measured.

    Raises:
      InputError: a rate is out of bounds or given twice, there is no draw, or a user has the whole catalogue.
    """
    if not rates or not all(0 < rate <= 1 for rate in rates) or len(set(rates)) < len(rates):
        raise InputError(f"the rates are {list(rates)}: wanted different ones above 0, at most 1.")
    if num_draws < 1:
        raise InputError(f"{num_draws} draws are asked for: wanted 1 or more.")
    attacked = disturbances.attacked_items(model.num_items, num_draws, seed=seed)
    clean_lists = evaluation.rank_users(model, users, K, exclude_seen=False)
    clean = _metrics(clean_lists, users)
    digest = hashlib.sha256(users.targets.items.tobytes() + users.targets.row_splits.tobytes())
    conditions = []
    for draws in _all_draws(users, frequencies, attacked, num_draws, seed):
        for clicks in draws.clicks:
            for array in (clicks.items, clicks.places, clicks.row_splits):
                digest.update(array.tobytes())
        for rate in rates:
            conditions.append(_condition(model, users, draws, rate, clean_lists, clean))
            on_condition(conditions[-1])
    chosen = {band: items.tolist() for band, items in attacked.items()}
    return Robustness(clean, conditions, chosen, digest.hexdigest())


def _all_draws(
    users: EvaluationUsers,
    frequencies: np.ndarray,
    attacked: dict[str, np.ndarray],
    num_draws: int,
    seed: int,
) -> Iterator[_Draws]:
    """The kinds of disturbance one after another; clicks are made when their turn comes."""
    numbers, num_items = range(num_draws), len(frequencies)
    random = [disturbances.random_insertions(users, num_items, seed=seed, draw=one) for one in numbers]
    yield _Draws("insertion", None, random, disturbances.insert)
    replacing = [disturbances.replacements(users, num_items, seed=seed, draw=one) for one in numbers]
    yield _Draws("replacement", None, replacing, disturbances.replace)
    yield _Draws("removal", None, replacing, disturbances.remove)
    popular = [disturbances.popular_insertions(users, frequencies, seed=seed, draw=one) for one in numbers]
    yield _Draws("popular", None, popular, disturbances.insert)
    for band, items in attacked.items():
        pushed = tuple(items.tolist())
        attacks = [disturbances.attack(users, item, seed=seed, draw=one) for one, item in enumerate(pushed)]
        yield _Draws("attack", band, attacks, disturbances.insert, pushed)


def _condition(
    model: CauseRec,
    users: EvaluationUsers,
    draws: _Draws,
    rate: float,
    clean_lists: np.ndarray,
    clean: dict[str, np.ndarray],
) -> Condition:
    values: list[dict[str, np.ndarray]] = []
    exposure_gains = []
    for draw, clicks in enumerate(draws.clicks):
        histories = draws.disturb(users.seen, clicks, rate)
        disturbed = dataclasses.replace(
            users, history=last_items(histories, users.history.shape[1]), seen=histories
        )
        lists = evaluation.rank_users(model, disturbed, K, exclude_seen=False)
        of_draw = _metrics(lists, users) | {OVERLAP: metrics.overlap(clean_lists, lists)}
        if draws.items:
            item, concerned = draws.items[draw], np.diff(clicks.row_splits) > 0
            exposed = (lists == item).any(axis=1).astype(np.float64)
            before = (clean_lists == item).any(axis=1)
            of_draw[EXPOSURE] = exposed
            exposure_gains.append(np.where(concerned, exposed - before, np.nan))
            of_draw = {name: np.where(concerned, one, np.nan) for name, one in of_draw.items()}
        values.append(of_draw)
    means = {name: _mean([of_draw[name] for of_draw in values]) for name in values[0]}
    change = {name: means[name] - clean[name] for name in METRICS}
    if exposure_gains:
        change[EXPOSURE] = _mean(exposure_gains)
    return Condition(draws.kind, draws.band, rate, means, change)


def _metrics(lists: np.ndarray, users: EvaluationUsers) -> dict[str, np.ndarray]:
    values = evaluation.per_user(lists, users)
    return {name: values[name] for name in METRICS}


def _mean(draws: list[np.ndarray]) -> np.ndarray:
    """The mean over the draws that concern a user; not a number where none does."""
    stacked = np.stack(draws)
    known = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(known, stacked, 0.0).sum(axis=0) / known.sum(axis=0)

"""Is one system better than another? Differences between figures of the same users, tested.

Both systems were measured on the same users, so the difference is taken user by user: what is easy or hard
about a user cancels out. Two sources of chance stay: which users there are (the bootstrap, and the t-test
over users) and the seed of the training (the t-test over seeds). Neither speaks of the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from causerec_tf.data.splits.protocols import USERS, label
from causerec_tf.errors import InputError

# Of what a record says of its protocol, who is trained and measured on.
_OF_PROTOCOLS = ("name", "test_target", "validation_from", "test_from", "event_kind", "target_events")
RESAMPLES = 10_000
CONFIDENCE = 0.95
_RESAMPLES_AT_ONCE = 256  # bounds memory: users x this many indices


class Interval(NamedTuple):
    """The confidence interval of a mean difference, and the two-sided p-value of its being 0."""

    low: float
    high: float
    p_value: float


class Comparison(NamedTuple):
    """A system beside its baseline, in one metric, over the seeds that both have.

    Attributes:
      seeds: ascending.
      mean: of the system, over users and seeds.
      baseline: mean of the baseline, likewise.
      interval: of the difference, by the bootstrap over users.
      p_over_users: the t-test's over users, one for each seed; None for fewer than two users.
      p_over_seeds: the t-test's over the seeds' means; None for fewer than two seeds.
    """

    seeds: tuple[int, ...]
    mean: float
    baseline: float
    interval: Interval
    p_over_users: tuple[float | None, ...]
    p_over_seeds: float | None

    @property
    def difference(self) -> float:
        """The system's mean less the baseline's."""
        return self.mean - self.baseline

    @property
    def relative(self) -> float | None:
        """The difference as a share of the baseline's mean; None where that is 0."""
        return self.difference / self.baseline if self.baseline else None


def check_protocols(protocols: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses to lay figures of different protocols side by side.

    Args:
      protocols: name -> what its record or dataset says of the protocol; without a `name` it is `users`, the
        only one of earlier versions.

    Raises:
      InputError: two of them differ in who is trained and measured on.
    """
    first: tuple[str, dict[str, Any]] | None = None
    for name, found in protocols.items():
        own = {key: value for key, value in found.items() if key in _OF_PROTOCOLS} or {"name": USERS}
        first = first or (name, own)
        if own != first[1]:
            raise InputError(
                f"{name} was measured by the protocol {_in_words(own)}, {first[0]} by {_in_words(first[1])}:"
                " their figures cannot be compared. Compare records of one dataset."
            )


def _in_words(protocol: Mapping[str, Any]) -> str:
    cuts = ", ".join(f"{key}={protocol[key]}" for key in _OF_PROTOCOLS[2:] if key in protocol)
    return label(protocol) + (f" ({cuts})" if cuts else "")


def compare(ours: Mapping[int, np.ndarray], theirs: Mapping[int, np.ndarray]) -> Comparison:
    """Compares a system with a baseline.

    Args:
      ours: seed -> float [users], the system's figure for each user.
      theirs: the same of the baseline; its users are the same, in the same order.

    Raises:
      ValueError: no seed is in both, or the numbers of users differ.
    """
    seeds = tuple(sorted(set(ours) & set(theirs)))
    if not seeds:
        raise ValueError(f"no seed in common: {sorted(ours)} and {sorted(theirs)}.")
    if len({values[seed].shape for values in (ours, theirs) for seed in seeds}) > 1:
        raise ValueError("the numbers of users differ: measure both on the same users.")
    # [seeds, users]
    system = np.stack([ours[seed] for seed in seeds]).astype(np.float64)
    baseline = np.stack([theirs[seed] for seed in seeds]).astype(np.float64)
    return Comparison(
        seeds=seeds,
        mean=float(system.mean()),
        baseline=float(baseline.mean()),
        interval=paired_bootstrap((system - baseline).mean(axis=0)),
        p_over_users=tuple(
            paired_t_test(one, other) if len(one) > 1 else None
            for one, other in zip(system, baseline, strict=True)
        ),
        p_over_seeds=(paired_t_test(system.mean(axis=1), baseline.mean(axis=1)) if len(seeds) > 1 else None),
    )


def paired_bootstrap(
    differences: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """The paired bootstrap over users: how far would the mean difference move with other users?

    Users are drawn with replacement, each with its difference, as many as there are; the interval is that of
    the percentiles of the means. The p-value belongs to it: twice the smaller share of means on either side
    of 0, with one added to both counts, so that it is never below 2 / (resamples + 1); it falls below
    1 - confidence where the interval leaves 0 out.

    Args:
      differences: float [users]; with several seeds, the mean over seeds of each user.
      seed: of the draws: the same differences always give the same answer.
      resamples: how often the users are drawn.
      confidence: of the interval.

    Raises:
      ValueError: there are no users.
    """
    if len(differences) == 0:
        raise ValueError("there are no users to draw.")
    if np.ptp(differences) == 0:
        # Every draw has this mean; what is left is whether it is 0.
        means = np.full(resamples, differences[0])
    else:
        means = stats.bootstrap(
            (differences,),
            np.mean,
            n_resamples=resamples,
            batch=_RESAMPLES_AT_ONCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    smaller = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return Interval(float(low), float(high), min(1.0, 2 * (smaller + 1) / (resamples + 1)))


def paired_t_test(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The two-sided p-value of the paired t-test, which is the one-sample t-test of the differences.

    The paper marks improvements over its strongest baseline as "statistically significant (p < 0.05) with
    one-sample t-tests" and does not say over what: users, or repeated runs. Both can be had here, over users
    within a seed and over the means of the seeds; with two or three seeds the latter has next to no power.

    Args:
      ours: float [n], users of one seed, or means of n seeds.
      theirs: float [n], the same of the baseline.

    Raises:
      ValueError: fewer than two pairs.
    """
    if len(ours) < 2:
        raise ValueError(f"{len(ours)} pair: a t-test needs two or more.")
    differences = np.asarray(ours, np.float64) - theirs
    if np.ptp(differences) == 0:
        # No spread: the statistic is 0 / 0, or infinite.
        return 1.0 if differences[0] == 0 else 0.0
    return float(stats.ttest_rel(ours, theirs).pvalue)


def spread(values: Sequence[float]) -> float | None:
    """The sample standard deviation over seeds; None for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean_and_standard_error(values: np.ndarray) -> dict[str, float | int | None]:
    """The mean over users and its standard error, for JSON, each None where too few users have a value.

    `users` is how many have one: it is not a number (or infinite) for the others.
    """
    known = values[np.isfinite(values)]
    return {
        "mean": float(known.mean()) if len(known) else None,
        "standard_error": float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None,
        "users": len(known),
    }

"""The statistics of a comparison beside formulas worked out by hand and worlds with a known answer."""

import math

import numpy as np
import pytest

from causerec_tf import comparison
from causerec_tf.errors import InputError

# Two-sided 5 % and 1 % points of Student's t with 9 degrees of freedom, from printed tables.
T_OF_9 = {0.05: 2.262157, 0.01: 3.249836}


@pytest.mark.parametrize("p", T_OF_9)
def test_the_t_test_is_the_closed_form_of_the_differences(p):
    rng = np.random.default_rng(1)
    spread = rng.standard_normal(10)
    spread -= spread.mean()
    # t = mean / (s / sqrt(n)) is put on the printed point.
    differences = spread + T_OF_9[p] * spread.std(ddof=1) / math.sqrt(10)
    theirs = rng.standard_normal(10) * 100  # what users have in common cancels out
    assert comparison.paired_t_test(theirs + differences, theirs) == pytest.approx(p, abs=1e-6)
    assert comparison.paired_t_test(theirs, theirs + differences) == pytest.approx(p, abs=1e-6)


def test_figures_of_different_protocols_are_not_laid_side_by_side():
    time = {"name": "time", "test_target": "all", "validation_from": 3, "test_from": 9}
    # Records of earlier versions name none; words and counts of users are no part of it.
    comparison.check_protocols({"a": {}, "b": {"name": "users"}, "c": {"history": "...", "test_users": 9}})
    comparison.check_protocols({"a": time, "b": time | {"max_history": 50}})
    for other, words in (
        ({}, "users"),
        ({"name": "leave_one_out"}, "leave_one_out"),
        (time | {"test_target": "last"}, r"time_last \(validation_from=3, test_from=9\)"),
        (time | {"test_from": 8}, r"time_all \(validation_from=3, test_from=8\)"),
    ):
        with pytest.raises(InputError, match=rf"b was measured by the protocol {words}, a by time_all"):
            comparison.check_protocols({"a": time, "b": other})


def test_the_t_test_over_two_seeds_is_an_arctangent():
    # With one degree of freedom t is Cauchy: p = 1 - 2 atan(t) / pi; t = mean / (|d1 - d2| / 2).
    ours, theirs = np.array([0.113, 0.117]), np.array([0.110, 0.111])
    t = 0.0045 / 0.0015
    assert comparison.paired_t_test(ours, theirs) == pytest.approx(1 - 2 * math.atan(t) / math.pi, rel=1e-6)


def test_the_bootstrap_is_the_normal_approximation_for_many_users():
    rng = np.random.default_rng(2)
    differences = rng.exponential(size=4000) - 0.98
    mean, error = differences.mean(), differences.std() / math.sqrt(4000)
    found = comparison.paired_bootstrap(differences)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)
    assert found.p_value == pytest.approx(math.erfc(abs(mean) / error / math.sqrt(2)), abs=0.02)
    assert comparison.paired_bootstrap(differences) == found
    assert comparison.paired_bootstrap(differences, seed=1) != found


def test_the_interval_covers_and_the_p_value_rejects_as_often_as_they_say():
    rng = np.random.default_rng(3)
    worlds, users, truth = 200, 120, 0.3
    covered = rejected = 0
    for _ in range(worlds):
        differences = rng.exponential(size=users) - 1
        found = comparison.paired_bootstrap(differences + truth, resamples=500)
        covered += found.low <= truth <= found.high
        rejected += comparison.paired_bootstrap(differences, resamples=500).p_value < 0.05
    # 5 % of 200 is 10, with a deviation of 3.1; skewed users of this number cost the interval a little.
    assert 0.89 <= covered / worlds <= 0.99
    assert 0.01 <= rejected / worlds <= 0.11


@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.2])
def test_the_interval_and_its_p_value_agree(shift):
    found = comparison.paired_bootstrap(np.random.default_rng(4).standard_normal(200) + shift)
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_differences_that_are_all_equal():
    nothing, constant = np.zeros(50), np.full(50, 0.25)
    assert comparison.paired_bootstrap(nothing) == (0.0, 0.0, 1.0)
    assert comparison.paired_t_test(nothing, nothing) == 1.0
    low, high, p_value = comparison.paired_bootstrap(constant)
    assert low == high == 0.25 and p_value == pytest.approx(2 / 10_001)
    assert comparison.paired_t_test(constant, nothing) == 0.0
    one_user = comparison.paired_bootstrap(np.array([-0.5]))
    assert one_user.low == one_user.high == -0.5


def test_seeds_are_averaged_user_by_user_and_only_those_of_both_count():
    rng = np.random.default_rng(5)
    theirs = {seed: rng.random(300).astype(np.float32) for seed in (0, 1, 7)}
    gains = {0: rng.normal(0.03, 0.2, 300), 1: rng.normal(0.01, 0.2, 300), 9: np.full(300, 5.0)}
    ours = {seed: theirs.get(seed, 0) + gain for seed, gain in gains.items()}
    found = comparison.compare(ours, theirs)
    assert found.seeds == (0, 1)
    of_users = (gains[0] + gains[1]) / 2
    baseline = (theirs[0].mean(dtype=np.float64) + theirs[1].mean(dtype=np.float64)) / 2
    assert found.difference == pytest.approx(of_users.mean(), abs=1e-6)
    assert found.relative == pytest.approx(of_users.mean() / baseline, abs=1e-6)
    assert found.interval == pytest.approx(comparison.paired_bootstrap(of_users), abs=1e-3)
    for seed, p_value in zip((0, 1), found.p_over_users, strict=True):
        t = gains[seed].mean() / (gains[seed].std(ddof=1) / math.sqrt(300))
        # 299 degrees of freedom: near enough to normal.
        assert p_value == pytest.approx(math.erfc(abs(t) / math.sqrt(2)), abs=3e-3)
    first, second = gains[0].mean(), gains[1].mean()
    t = abs(first + second) / abs(first - second)
    assert found.p_over_seeds == pytest.approx(1 - 2 * math.atan(t) / math.pi, abs=1e-4)
    one_seed = comparison.compare({0: ours[0]}, theirs)
    assert one_seed.p_over_seeds is None and len(one_seed.p_over_users) == 1


def test_a_baseline_of_nothing_has_no_relative_difference():
    found = comparison.compare({0: np.array([0.0, 1.0])}, {0: np.zeros(2)})
    assert found.relative is None and found.difference == 0.5


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"no seed in common: \[0\] and \[1\]"):
        comparison.compare({0: np.zeros(3)}, {1: np.zeros(3)})
    with pytest.raises(ValueError, match="numbers of users differ"):
        comparison.compare({0: np.zeros(3)}, {0: np.zeros(4)})
    with pytest.raises(ValueError, match="no users to draw"):
        comparison.paired_bootstrap(np.zeros(0))
    with pytest.raises(ValueError, match="1 pair: a t-test needs two or more"):
        comparison.paired_t_test(np.zeros(1), np.zeros(1))


def test_the_spread_is_the_sample_deviation():
    assert comparison.spread([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt((2**2 + 1**2 + 3**2) / 2))
    assert comparison.spread([1.0]) is None


def test_mean_and_standard_error_leave_out_users_without_a_value():
    # Of 2, 4 and 9 the squares about the mean 5 sum to 26: s^2 = 13, and the error is sqrt(13 / 3).
    got = comparison.mean_and_standard_error(np.array([2.0, np.nan, 4.0, np.inf, 9.0]))
    assert got == {"mean": 5.0, "standard_error": pytest.approx(math.sqrt(13 / 3)), "users": 3}
    one, none = (comparison.mean_and_standard_error(np.array(v)) for v in ([np.nan, 7.0], [np.nan]))
    assert one == {"mean": 7.0, "standard_error": None, "users": 1}
    assert none == {"mean": None, "standard_error": None, "users": 0}

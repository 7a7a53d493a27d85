"""Each baseline against its definition written out, user by user, with dense matrices."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from causerec_tf import recipes
from causerec_tf.baselines import als, ease, item_neighbours, own_past, popularity, session_neighbours
from causerec_tf.baselines.user_item_matrix import user_item_matrix
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.logs import times
from causerec_tf.data.ragged import ItemLists, row_splits
from causerec_tf.data.sequences import UserSequences
from causerec_tf.errors import InputError
from tests import reference

DAY = 86_400
LAST = 1_700_000_000


def lists_of(rows):
    items = np.array([item for row in rows for item in row], np.int32)
    return ItemLists(items, row_splits(np.array([len(row) for row in rows], np.int64)))


def users_of(rows):
    ids = np.array([f"u{number}" for number in range(len(rows))], dtype=object)
    nothing = ItemLists(np.zeros(0, np.int32), np.zeros(len(rows) + 1, np.int64))
    return EvaluationUsers(
        user_ids=ids, history=np.zeros([len(rows), 1]), seen=lists_of(rows), targets=nothing
    )


def training_of(rows, num_items, timestamps=None, time_unit=times.AS_GIVEN):
    lists = lists_of(rows)
    if timestamps is None:
        timestamps = np.full(len(lists.items), LAST)
    ids = np.array([f"t{number}" for number in range(len(rows))], dtype=object)
    return SimpleNamespace(
        num_items=num_items,
        num_users=len(rows),
        time_unit=time_unit,
        counts=np.bincount(lists.items, minlength=num_items + 1)[1:],
        sequences=UserSequences(ids, lists.items, np.asarray(timestamps), lists.row_splits),
    )


def dense(rows, num_items):
    matrix = np.zeros([len(rows), num_items])
    for row, items in enumerate(rows):
        matrix[row, [item - 1 for item in items]] = 1
    return matrix


def random_rows(num_users, num_items, *, seed):
    """Lists with repeats; the last item is nobody's."""
    draw = np.random.default_rng(seed)
    return [draw.integers(1, num_items, size=draw.integers(1, 15)).tolist() for _ in range(num_users)]


def order_of(scores):
    return (np.argsort(-scores, kind="stable") + 1).tolist()


def test_a_matrix_has_each_item_once_or_its_weights_summed():
    lists = lists_of([[3, 1, 3], [], [2]])
    assert user_item_matrix(lists, 4).toarray().tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    weights = np.array([0.5, 2, 0.25, 1], np.float32)
    assert user_item_matrix(lists, 4, weights).toarray().tolist() == [
        [2, 0, 0.75, 0],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_pop_counts_training_events_for_everybody():
    pop = popularity.Popular()
    pop.fit(training_of([[2, 3, 2], [3, 2], [1]], 4))
    scores = pop.scores(users_of([[1], [2, 2]]))
    assert scores.tolist() == [[1, 3, 2, 0]] * 2 and scores.dtype == np.float32
    scores[0] = 7  # the caller's own
    assert pop.scores(users_of([[1]])).tolist() == [[1, 3, 2, 0]]


@pytest.mark.parametrize(
    ("unit", "factor"), [(times.AS_GIVEN, 1), (times.AS_GIVEN, 1000), (times.MICROSECONDS, 10**6)]
)
def test_pop_of_the_last_days_counts_what_is_later_than_the_last_event_less_these_days(unit, factor):
    moments = [LAST - 2 * DAY, LAST - 2 * DAY + 1, LAST, LAST - 9 * DAY, LAST - DAY]
    training = training_of([[1, 2, 2], [1, 3]], 4, np.array(moments) * factor, unit)
    for days, want in ((2, [0, 2, 1, 0]), (3, [1, 2, 1, 0]), (10, [2, 2, 1, 0])):
        pop = popularity.PopularOfLastDays(days)
        assert pop.refusal(training) == ""
        pop.fit(training)
        assert pop.scores(users_of([[1]])).tolist() == [want]


@pytest.mark.parametrize(("last", "unit"), [(20240506, times.AS_GIVEN), (LAST, times.ORDER)])
def test_without_dates_there_are_no_last_days(last, unit):
    training = training_of([[1, 2]], 2, [last - 1, last], unit)
    assert "the dataset's times are no dates" in popularity.PopularOfLastDays(7).refusal(training)


def test_the_own_past_is_ordered_by_count_then_recency_and_filled_up_with_pop():
    rows = [[4, 2, 4, 1, 1, 3, 9], [5], [], [7, 7, 6, 6, 8]]
    rows += random_rows(20, 12, seed=3)
    rule = own_past.OwnPast()
    training = training_of([[3, 5, 5, 9], [9, 9, 1]], 12)
    rule.fit(training)
    popular = sorted(range(1, 13), key=lambda item: (-training.counts[item - 1], item))
    for scores, row in zip(rule.scores(users_of(rows)), rows, strict=True):
        assert order_of(scores) == reference.own_past(row, popular)
    assert order_of(rule.scores(users_of([[4, 2, 4, 1, 1, 3, 9]]))[0])[:5] == [1, 4, 9, 3, 2]


def test_neighbours_sum_the_cosines_with_the_items_of_the_history():
    training, histories = random_rows(30, 25, seed=4), [[], *random_rows(8, 25, seed=5)]
    knn = item_neighbours.ItemNeighbours()
    knn.fit(training_of(training, 25))
    want = dense(histories, 25) @ reference.cosines(dense(training, 25))
    got = knn.scores(users_of(histories))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_with_a_half_life_an_event_counts_half_as_much_as_one_so_much_later():
    training, histories = random_rows(30, 25, seed=6), [[], *random_rows(8, 25, seed=7)]
    knn = item_neighbours.ItemNeighbours(half_life=3.0)
    knn.fit(training_of(training, 25))
    weights = np.zeros([len(histories), 25])
    for row, items in enumerate(histories):
        for place, item in enumerate(items):
            weights[row, item - 1] += 0.5 ** ((len(items) - 1 - place) / 3)
    want = weights @ reference.cosines(dense(training, 25))
    np.testing.assert_allclose(knn.scores(users_of(histories)), want, atol=1e-5)


@pytest.mark.parametrize("l2", [0.5, 20.0])
@pytest.mark.parametrize("num_users", [15, 80], ids=["fewer users", "fewer items"])
def test_ease_is_the_ridge_regression_with_diagonal_zero(l2, num_users, monkeypatch):
    monkeypatch.setattr(ease, "_ROWS_AT_ONCE", 7)  # several blocks, the last of them short
    training, histories = random_rows(num_users, 25, seed=8), [[], *random_rows(8, 25, seed=9)]
    model = ease.Ease(l2)
    assert model.refusal(training_of(training, 25)) == ""
    model.fit(training_of(training, 25))
    want = dense(histories, 25) @ reference.ease_weights(dense(training, 25), l2)
    got = model.scores(users_of(histories))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=3e-5)


def test_ease_takes_the_memory_of_one_matrix(monkeypatch):
    """The inverse lies where the gram matrix lay."""
    matrix = scipy.sparse.csr_matrix(dense(random_rows(40, 25, seed=1), 25))
    made, empty = [], np.empty

    def note(*arguments, **more):
        made.append(empty(*arguments, **more))
        return made[-1]

    monkeypatch.setattr(ease.np, "empty", note)
    inverse = ease._inverse_of_gram(matrix, 2.0)
    [gram] = [one for one in made if one.shape == (40, 40)]
    assert np.shares_memory(gram, inverse) and gram.dtype == np.float32


def test_ease_that_is_too_large_says_how_large_it_is():
    training = SimpleNamespace(num_users=30_000, num_items=38_048)
    reason = ease.Ease(most_memory=3.0).refusal(training)
    assert "30,000 x 30,000 float32, 3.4 GiB, and may take 3." in reason and "--most_memory" in reason
    assert ease.Ease(most_memory=3.5).refusal(training) == ""


def test_an_l2_that_float32_cannot_solve_is_told():
    same = [[1, 2, 3]] * 50  # of rank one
    with pytest.raises(InputError, match="l2=1e-12 cannot be solved in float32"):
        ease.Ease(1e-12).fit(training_of(same, 3))


def test_baselines_have_names():
    made = recipes.baselines([*recipes.BASELINES, "pop_30d", "ease_0.5"], most_memory=2.0)
    training = training_of([[1, 2, 2], [1, 3]], 4, np.array([-2, -1, 0, -9, -1]) * DAY + LAST)
    pop_7d, pop_30d = made["pop_7d"], made["pop_30d"]
    for one in (pop_7d, pop_30d):
        one.fit(training)
    assert pop_7d.scores(users_of([[1]])).tolist() == [[1, 2, 1, 0]]
    assert pop_30d.scores(users_of([[1]])).tolist() == [[2, 2, 1, 0]]
    large = SimpleNamespace(num_users=30_000, num_items=38_048)
    assert "may take 2." in made["ease"].refusal(large)
    assert [type(made[name]).__name__ for name in ("pop", "own_past")] == ["Popular", "OwnPast"]


@pytest.mark.parametrize("name", ["itemknn", "pop_0d", "pop_7", "ease_", "ease_0", "ease_-1", ""])
def test_a_baseline_that_there_is_not_is_told(name):
    with pytest.raises(
        InputError, match=f"there is no baseline {name!r}: wanted some of pop, pop_7d, own_past"
    ):
        recipes.baselines([name])


@pytest.mark.parametrize("num_neighbours", [3, 100])
def test_vsknn_is_its_definition(num_neighbours):
    rows, histories = random_rows(40, 12, seed=5), [*random_rows(6, 12, seed=6), [], [12]]
    model = session_neighbours.SessionNeighbours(num_neighbours)
    model.fit(training_of(rows, 12))
    scores = model.scores(users_of(histories))
    for row, history in enumerate(histories):
        want = reference.vsknn(history, rows, 12, num_neighbours)
        np.testing.assert_allclose(scores[row], want, rtol=1e-5, atol=1e-7)
    assert not scores[-2:].any()  # nothing is known of an empty history, and of an item nobody took


def test_ials_folds_in_what_it_was_trained_on():
    """A user's factors are the ridge regression of the preferences on the items' factors."""
    pytest.importorskip("implicit")
    rows = random_rows(60, 20, seed=7)
    model = als.AlternatingLeastSquares(4, alpha=3.0, regularization=0.1)
    model.fit(training_of(rows, 20))
    items = model._model.item_factors.astype(np.float64)
    for row, got in zip(rows, model.scores(users_of(rows)), strict=True):
        preferred = dense([row], 20)[0]
        confidence = 1 + 2.0 * preferred
        gram = items.T @ (items * confidence[:, None]) + 0.1 * np.eye(4)
        user = np.linalg.solve(gram, items.T @ (confidence * preferred))
        np.testing.assert_allclose(got, items @ user, rtol=2e-2, atol=2e-3)


def test_ials_without_its_package_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(als.importlib.util, "find_spec", lambda name: None)
    assert "pip install implicit" in als.AlternatingLeastSquares().refusal(training_of([[1]], 2))

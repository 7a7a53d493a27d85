"""Each encoder against its slow twin; what is missing; gradients in which each row stands once."""

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.features import moments
from causerec_tf.features.categorical import CategoricalEncoder
from causerec_tf.features.dense_vectors import VectorEncoder
from causerec_tf.features.moments import MomentEncoder
from causerec_tf.features.multi import MultiEncoder
from causerec_tf.features.numeric import NumericEncoder
from tests import reference

D = 5
START = {"std": 0.3, "seed": 4}
rng = np.random.default_rng(2)
CATEGORIES = rng.integers(0, 9, size=21).astype(np.int32)
WORDS = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [8, 0, 0, 0], [2, 3, 4, 8]], np.int32)
NUMBERS = np.array([1.0, np.nan, -400.0, 3.5, 90.0, 2.0], np.float32)
VECTORS = rng.normal(size=[4, 6]).astype(np.float32)
TIMES = np.array(
    [
        [1_400_000_000, 1_400_000_000, 1_400_000_003, 1_500_000_000],
        [-5, 86_399, 0, 0],
        [7, 8, 2_000_000_000, 0],
    ]
)
REQUESTS = np.array([1_500_000_100, 90_000, 0])


def made(encoder):
    """The encoder with every weight drawn anew."""
    encoder.build(None)
    for variable in encoder.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    return encoder


def assert_distinct(encoder, gradients):
    """Each row stands once in the gradient of a table: the optimiser loses all but one of its repeats."""
    for variable, gradient in zip(encoder.trainable_variables, gradients, strict=True):
        if isinstance(gradient, tf.IndexedSlices):
            rows = gradient.indices.numpy()
            assert len(set(rows.tolist())) == len(rows), variable.name


def check(encoder, twin, values, *more):
    """Vectors and gradients, the latter by differences of the twin in every weight."""
    weights = [variable.numpy().astype(np.float64) for variable in encoder.trainable_variables]
    with tf.GradientTape() as tape:
        vectors = encoder(tf.constant(values), *more)
        total = tf.reduce_sum(tf.sin(vectors))
    np.testing.assert_allclose(vectors, twin(*weights), rtol=1e-5, atol=1e-6)
    gradients = tape.gradient(total, encoder.trainable_variables)
    assert_distinct(encoder, gradients)
    for number, gradient in enumerate(gradients):
        dense = tf.convert_to_tensor(gradient).numpy()
        for place in np.ndindex(weights[number].shape):
            moved = [one.copy() for one in weights]
            moved[number][place] += 1e-6
            slope = (np.sin(twin(*moved)).sum() - np.sin(twin(*weights)).sum()) / 1e-6
            np.testing.assert_allclose(dense[place], slope, rtol=1e-3, atol=1e-3)


def test_categorical():
    def twin(table):
        return np.array([reference.categorical_feature(one, table) for one in CATEGORIES])

    check(made(CategoricalEncoder(7, D, **START)), twin, CATEGORIES)


def test_multi():
    def twin(table):
        return np.array([reference.multi_feature(row, table) for row in WORDS])

    check(made(MultiEncoder(9, D, num_zero=2, **START)), twin, WORDS)


def test_numeric():
    def twin(direction, missing):
        return np.array([reference.numeric_feature(one, 2.0, 4.0, direction, missing) for one in NUMBERS])

    encoder = made(NumericEncoder(D, mean=2.0, deviation=4.0, **START))
    check(encoder, twin, NUMBERS)


def test_vectors_add_nothing_where_there_is_none():
    encoder = made(VectorEncoder(6, D, **START))
    check(encoder, lambda kernel: VECTORS @ kernel, VECTORS)
    np.testing.assert_array_equal(encoder(tf.zeros([2, 6])), 0.0)


@pytest.mark.parametrize("kind", moments.SIZES)
def test_moments(kind):
    def other(row, place):
        if kind == "age":
            return REQUESTS[row]
        return TIMES[row, place - 1] if kind == "gap" and place else 0

    rows = np.array(
        [
            [reference.moment_row(kind, time, other(row, place)) for place, time in enumerate(of_row)]
            for row, of_row in enumerate(TIMES)
        ]
    )
    assert rows.max() <= moments.SIZES[kind]
    requests = [tf.constant(REQUESTS)] if kind == "age" else []
    check(made(MomentEncoder(kind, D, **START)), lambda table: table[rows.ravel()], TIMES, *requests)


def test_spans_are_told_apart_by_their_binary_digits():
    seconds = np.array([0, 1, 2, 3, 4, 2**31, 2**40])
    rows = moments.ages(tf.constant(np.full([1, 7], 10**13)), tf.constant([10**13]))
    assert rows.numpy().tolist() == [[1] * 7]
    rows = moments.gaps(tf.constant(np.concatenate([[5], 5 + np.cumsum(seconds)])[np.newaxis]))
    assert rows.numpy().tolist() == [[0, 1, 2, 3, 3, 4, 33, 33]]


def test_what_training_does_not_meet_starts_at_nothing():
    encoder = CategoricalEncoder(3, D, **START)
    np.testing.assert_array_equal(encoder(tf.constant([0, 1])), 0.0)
    assert np.abs(encoder(tf.constant([2, 3, 4]))).min() > 0
    np.testing.assert_array_equal(MultiEncoder(4, D, num_zero=1, **START)(tf.zeros([2, 3], tf.int32)), 0.0)
    missing = NumericEncoder(D, mean=0.0, deviation=1.0, **START)(tf.constant([float("nan")]))
    np.testing.assert_array_equal(missing, 0.0)
    np.testing.assert_array_equal(MomentEncoder("hour", D, **START)(tf.constant([0], tf.int64)), 0.0)


def test_the_initial_weights_are_small_and_of_the_seed():
    tables = [CategoricalEncoder(500, 8, std=0.02, seed=seed)(tf.range(2, 502)).numpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert np.abs(tables[0] - tables[2]).min() >= 0 and not np.array_equal(tables[0], tables[2])
    assert tables[0].std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda: NumericEncoder(D, mean=2.0, deviation=1.0, **START), np.full([3], 2.0, np.float32)),
        (lambda: CategoricalEncoder(3, D, **START), np.zeros([0], np.int32)),
        (lambda: MultiEncoder(5, D, num_zero=2, **START), np.zeros([0, 4], np.int32)),
    ],
)
def test_nothing_says_nothing(make, values):
    """As where a replica has no example of an epoch's last batch, or every number is the mean."""
    encoder = made(make())
    with tf.GradientTape() as tape:
        vectors = encoder(tf.constant(values))
    np.testing.assert_array_equal(vectors, np.zeros([len(values), D]))
    for gradient in tape.gradient(vectors, encoder.trainable_variables):
        np.testing.assert_array_equal(tf.convert_to_tensor(gradient), 0.0)

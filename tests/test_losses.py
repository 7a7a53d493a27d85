"""Losses against their NumPy twins, masking by deletion, gradients where they are delicate."""

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import losses
from causerec_tf.errors import InputError
from tests import reference

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def inputs_of(users, targets, positives, negatives, positive_mask, negative_mask, matched=None):
    """What a model would hand to a loss; histories and sampled negatives are not looked at."""
    unused = tf.zeros([0])
    return losses.LossInputs(
        *(unused, unused, unused, unused, tf.convert_to_tensor(targets), unused, unused),
        user_BD=tf.convert_to_tensor(users),
        synthesised=losses.Counterfactuals(
            *map(tf.convert_to_tensor, (positives, negatives, positive_mask, negative_mask)), lambda: matched
        ),
    )


@pytest.mark.parametrize("exists", ["all", "some", "no positives", "no negatives"])
def test_contrasts_equal_their_twins(exists):
    users, targets, positives, negatives = normal(6, 4), normal(6, 4), normal(6, 2, 4), normal(6, 3, 4)
    positive_mask, negative_mask = np.ones([6, 2], bool), np.ones([6, 3], bool)
    if exists == "some":
        positive_mask, negative_mask = rng.random([6, 2]) < 0.5, rng.random([6, 3]) < 0.5
    positive_mask &= exists != "no positives"
    negative_mask &= exists != "no negatives"
    masks = positive_mask, negative_mask

    inputs = inputs_of(users, targets, positives, negatives, *masks)
    co, ii = losses.contrast_with_observation(inputs), losses.contrast_with_items(inputs)
    for b in range(6):
        one = positives[b], negatives[b], positive_mask[b], negative_mask[b]
        want_co = reference.contrast_with_observation(users[b], *one)
        np.testing.assert_allclose(co[b], want_co, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            ii[b], reference.contrast_with_items(targets[b], *one), rtol=1e-5, atol=1e-6
        )


def test_what_is_masked_gets_no_gradient_and_changes_no_other():
    users, targets = tf.constant(normal(1, 4)), tf.constant(normal(1, 4))
    positives, negatives = tf.constant(normal(1, 2, 4)), tf.constant(normal(1, 3, 4))
    masks = tf.constant([[True, False]]), tf.constant([[True, False, True]])

    def gradients(positives, negatives, *masks):
        with tf.GradientTape() as tape:
            tape.watch([positives, negatives])
            inputs = inputs_of(users, targets, positives, negatives, *masks)
            loss = losses.contrast_with_observation(inputs) + losses.contrast_with_items(inputs)
        return loss, *tape.gradient(loss, [positives, negatives])

    loss, of_positives, of_negatives = gradients(positives, negatives, *masks)
    kept = tf.gather(negatives, [0, 2], axis=1)
    short, short_positives, short_negatives = gradients(
        positives[:, :1], kept, tf.constant([[True]]), tf.constant([[True, True]])
    )
    np.testing.assert_allclose(loss, short, rtol=1e-6)
    np.testing.assert_allclose(of_positives[:, :1], short_positives, rtol=1e-5)
    np.testing.assert_allclose(tf.gather(of_negatives, [0, 2], axis=1), short_negatives, rtol=1e-5)
    np.testing.assert_array_equal(of_positives[:, 1], 0.0)
    np.testing.assert_array_equal(of_negatives[:, 1], 0.0)


def test_an_unchanged_positive_has_a_finite_gradient():
    users = tf.constant(normal(1, 4))
    positives, negatives = tf.identity(users)[:, tf.newaxis], tf.constant(normal(1, 1, 4))
    exists = tf.constant([[True]])
    with tf.GradientTape() as tape:
        tape.watch([users, positives])
        loss = losses.contrast_with_observation(inputs_of(users, users, positives, negatives, exists, exists))
    for gradient in tape.gradient(loss, [users, positives]):
        assert np.isfinite(gradient).all()


def test_the_positives_mean_matching_loss_is_that_of_those_that_exist():
    matched = tf.constant([[1.0, 3.0], [5.0, 9.0], [7.0, 8.0]])
    mask = [[True, True], [True, False], [False, False]]
    empty = np.zeros([3, 2, 4], np.float32), np.zeros([3, 0, 4], np.float32), mask, np.zeros([3, 0], bool)
    inputs = inputs_of(normal(3, 4), normal(3, 4), *empty, matched=matched)
    np.testing.assert_allclose(losses.match_positives(inputs), [2.0, 5.0, 0.0])


def test_a_loss_that_wants_counterfactuals_of_a_model_without_them_says_so():
    unused = tf.zeros([0])
    inputs = losses.LossInputs(*[unused] * 8)
    with pytest.raises(InputError, match=r"no counterfactual part. Give it one, such as counterfactual="):
        losses.contrast_with_items(inputs)

"""The matching loss against its NumPy twin, accidental hits by deletion, and a TFRS task in its place."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from causerec_tf import matching, recipes
from causerec_tf.errors import InputError
from causerec_tf.negatives import Negatives
from causerec_tf.settings import Settings
from tests import reference

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def sampled_softmax(*vectors, **how):
    return matching.negative_log_likelihood(*matching.softmax_logits(*vectors, **how))


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("corrected", [False, True])
def test_sampled_softmax_equals_its_twin(temperature, corrected):
    users, targets, negatives = normal(5, 4), normal(5, 4), normal(7, 4)
    target_ids, negative_ids = np.array([1, 2, 3, 4, 5]), np.array([3, 3, 9, 1, 8, 9, 6])
    log_q_target, log_q = (normal(5), normal(7)) if corrected else (None, None)
    got = sampled_softmax(
        users,
        targets,
        negatives,
        target_ids_B=target_ids,
        negative_ids_S=negative_ids,
        target_log_expected_count_B=log_q_target,
        negative_log_expected_count_S=log_q,
        temperature=temperature,
    )
    want = reference.sampled_softmax(
        users, targets, negatives, target_ids, negative_ids, log_q_target, log_q, temperature
    )
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_gradient_of_sampled_softmax_equals_what_tensorflow_derives():
    users, targets, negatives = (tf.constant(normal(n, 4)) for n in (5, 5, 7))
    target_ids, negative_ids = tf.constant([1, 2, 3, 4, 5]), tf.constant([3, 3, 9, 1, 8, 9, 6])
    log_q = tf.constant(normal(7))
    weights = tf.constant(normal(5))

    def plain():
        positive = tf.reduce_sum(users * targets, axis=1, keepdims=True) / 0.5
        negative = tf.matmul(users, negatives, transpose_b=True) / 0.5 - log_q
        negative = tf.where(target_ids[:, None] == negative_ids[None, :], -1e30, negative)
        return tf.reduce_logsumexp(tf.concat([positive, negative], axis=1), axis=1) - positive[:, 0]

    def ours():
        return sampled_softmax(
            users,
            targets,
            negatives,
            target_ids_B=target_ids,
            negative_ids_S=negative_ids,
            negative_log_expected_count_S=log_q,
            temperature=0.5,
        )

    results = []
    for loss in (plain, ours):
        with tf.GradientTape() as tape:
            tape.watch([users, targets, negatives])
            total = tf.reduce_sum(weights * loss())
        results.append(tape.gradient(total, [users, targets, negatives]))
    for want, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_an_example_whose_every_negative_is_its_target_has_no_loss():
    user = tf.constant(normal(1, 4))
    with tf.GradientTape() as tape:
        tape.watch(user)
        loss = sampled_softmax(
            user, user, user, target_ids_B=tf.constant([3]), negative_ids_S=tf.constant([3])
        )
    np.testing.assert_array_equal(loss, 0.0)
    np.testing.assert_array_equal(tape.gradient(loss, user), 0.0)


def test_an_accidental_hit_is_as_if_it_had_not_been_drawn():
    users, targets, negatives = (tf.constant(normal(1, 4)) for _ in range(3))
    more = tf.concat([negatives, normal(1, 4)], axis=0)

    def loss_and_gradient(negatives, ids):
        with tf.GradientTape() as tape:
            tape.watch(negatives)
            loss = sampled_softmax(
                users, targets, negatives, target_ids_B=tf.constant([5]), negative_ids_S=tf.constant(ids)
            )
        return loss.numpy(), tape.gradient(loss, negatives).numpy()

    loss, gradient = loss_and_gradient(negatives, [7])
    loss_of_hit, gradient_of_hit = loss_and_gradient(more, [7, 5])
    np.testing.assert_allclose(loss_of_hit, loss, rtol=1e-6)
    np.testing.assert_allclose(gradient_of_hit[:1], gradient, rtol=1e-6)
    np.testing.assert_array_equal(gradient_of_hit[1], 0.0)


def test_sampled_softmax_is_finite_where_exponentials_overflow():
    big = tf.constant([[200.0]])
    loss = sampled_softmax(big, big, -big, target_ids_B=tf.constant([1]), negative_ids_S=tf.constant([2]))
    np.testing.assert_allclose(loss, 0.0, atol=1e-6)
    loss = sampled_softmax(big, -big, big, target_ids_B=tf.constant([1]), negative_ids_S=tf.constant([2]))
    np.testing.assert_allclose(loss, 80_000.0)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, 1.5])
def test_label_aware_attention_equals_its_twin(power):
    interests, target = rng.normal(size=[6, 4, 5]), rng.normal(size=[6, 5])
    made = matching.label_aware_attention(tf.constant(interests), tf.constant(target), power)
    for b in range(6):
        want = reference.label_aware_attention(interests[b], target[b], power)
        np.testing.assert_allclose(made[b], want, rtol=1e-6)


@pytest.mark.parametrize("power", [0.5, 0.9, 2.0])
def test_label_aware_attention_has_a_gradient_where_an_interest_does_not_fit_at_all(power):
    interests = tf.constant([[[1.0, 2.0], [0.0, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(interests)
        total = tf.reduce_sum(matching.label_aware_attention(interests, tf.constant([[1.0, 1.0]]), power))
    assert np.isfinite(tape.gradient(total, interests)).all()


def test_a_large_power_of_attention_takes_the_best_interest():
    interests = tf.constant([[[1.0, 0.0], [0.0, 4.0], [-9.0, -9.0]]])
    made = matching.label_aware_attention(interests, tf.constant([[1.0, 1.0]]), 10.0)
    np.testing.assert_allclose(made, [[0.0, 4.0]], atol=1e-6)


def test_mind_is_trained_as_its_readout_says():
    interests, target = rng.normal(size=[6, 4, 5]), rng.normal(size=[6, 5])
    given = tf.constant(interests), tf.constant(target)
    soft = recipes.retrieval(Settings(tower="mind", attention_power=2.0)).choose_interest(*given)
    hard = recipes.retrieval(Settings(tower="mind", readout="nearest")).choose_interest(*given)
    for b in range(6):
        want = reference.label_aware_attention(interests[b], target[b], 2.0)
        np.testing.assert_allclose(soft[b], want, rtol=1e-6)
        np.testing.assert_allclose(hard[b], interests[b, np.argmax(interests[b] @ target[b])], rtol=1e-6)
    with pytest.raises(InputError, match="it acts with --tower=mind and --readout=attention"):
        Settings(tower="mind", readout="nearest", attention_power=2.0).check_acting(["attention_power"])


def test_the_nearest_interest_alone_gets_the_gradient():
    interests, target = rng.normal(size=[5, 3, 4, 6]), rng.normal(size=[5, 6])
    interests, target = tf.constant(interests), tf.constant(target)
    with tf.GradientTape() as tape:
        tape.watch([interests, target])
        made = matching.nearest_interest(interests, target[:, tf.newaxis])
        total = tf.reduce_sum(made * made)
    of_interests, of_target = tape.gradient(total, [interests, target])
    assert of_target is None
    for b in range(5):
        for e in range(3):
            best = np.argmax(interests[b, e].numpy() @ target[b].numpy())
            want = np.zeros([4, 6])
            want[best] = 2 * interests[b, e, best]
            np.testing.assert_allclose(made[b, e], interests[b, e, best], rtol=1e-6)
            np.testing.assert_allclose(of_interests[b, e], want, rtol=1e-6)
    np.testing.assert_allclose(matching.nearest_interest(interests[:, 0], target), made[:, 0])


def candidates_of(targets, ids):
    return matching.Candidates(
        tf.constant(ids), tf.constant(targets), Negatives(tf.zeros([0], tf.int32), None), tf.zeros([0, 4]), 9
    )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_task_of_tfrs_ranks_against_the_other_targets_of_the_batch(reduction):
    users, targets, ids = normal(5, 4), normal(5, 4), [1, 2, 3, 4, 5]
    entropy = tf.keras.losses.CategoricalCrossentropy(
        from_logits=True,
        reduction="sum" if reduction == "sum" else "sum_over_batch_size",
    )
    task = matching.TaskMatching(tfrs.tasks.Retrieval(loss=entropy))
    got = task(tf.constant(users), candidates_of(targets, ids))
    want = [
        reference.sampled_softmax(
            users[b : b + 1], targets[b : b + 1], np.delete(targets, b, axis=0), [ids[b]], [9, 9, 9, 9]
        )[0]
        for b in range(5)
    ]
    np.testing.assert_allclose(got, np.full(5, np.mean(want)), rtol=1e-5)


def test_a_task_of_tfrs_takes_one_vector_a_user_and_no_positives():
    task, candidates = matching.TaskMatching(tfrs.tasks.Retrieval()), candidates_of(normal(2, 4), [1, 2])
    with pytest.raises(InputError, match="the user tower gives several"):
        task(tf.constant(normal(2, 3, 4)), candidates)
    with pytest.raises(InputError, match="cannot match counterfactual positives"):
        task.match_each(tf.constant(normal(2, 3, 4)), candidates)


def test_each_of_several_histories_is_matched_with_its_examples_target():
    softmax = matching.SampledSoftmax(temperature=0.5)
    users, targets, negatives = normal(3, 2, 4), normal(3, 4), normal(6, 4)
    candidates = matching.Candidates(
        tf.constant([1, 2, 3]),
        tf.constant(targets),
        Negatives(tf.range(4, 10), None),
        tf.constant(negatives),
        9,
    )
    got = softmax.match_each(tf.constant(users), candidates)
    for b in range(3):
        for m in range(2):
            want = reference.sampled_softmax(
                users[b, m][None], targets[b][None], negatives, [b + 1], np.arange(4, 10), t=0.5
            )
            np.testing.assert_allclose(got[b, m], want[0], rtol=1e-5)


def test_a_sampler_of_ones_own_need_not_know_of_returns():
    class First:
        def draw(self, num_items, seed):
            return Negatives(tf.range(1, 4), None)

        def log_expected_count(self, ids, num_items):
            return None

    users, targets, negatives = normal(2, 4), normal(2, 4), normal(3, 4)
    ids = np.array([5, 2], np.int32)
    drawn = Negatives(tf.range(1, 4), None)
    got = matching.SampledSoftmax(First())(
        tf.constant(users), matching.Candidates(tf.constant(ids), targets, drawn, negatives, 9)
    )
    want = reference.sampled_softmax(users, targets, negatives, ids, np.array([1, 2, 3]))
    np.testing.assert_allclose(got, want, rtol=1e-5)

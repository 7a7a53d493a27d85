"""CauseRec-Interest and CauseRec-H: the loss against NumPy, its gradient against finite differences."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.counterfactual import synthesis as synthesis_layers
from causerec_tf.counterfactual.methods import CounterfactualInterests
from causerec_tf.optimizers import SparseAdam
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from causerec_tf.towers.base import UserTower
from tests import reference

NUM_ITEMS, M, N, WEIGHTS = 60, 2, 4, {"co": 0.3, "ii": 0.7, "cm": 0.6}
SETTINGS = {
    "embedding_dim": 8,
    "max_history": 6,
    "sampler": "full",
    "num_positives": M,
    "num_negatives": N,
    "num_concepts": 5,
    "attention_dim": 7,
    "memory_size": 100,
    "lambda_co": WEIGHTS["co"],
    "lambda_ii": WEIGHTS["ii"],
    "lambda_cm": WEIGHTS["cm"],
}
LEVELS = {"interest": (0, 0), "hierarchical": (1, 2)}  # positives and negatives on the item level

both = pytest.mark.parametrize("method", LEVELS)


def make(method, **changes):
    model = compose(Settings(method=method, **(SETTINGS | changes)), NUM_ITEMS)
    model.compile(optimizer=SparseAdam(0.01, l2=1e-5, distinct_rows=True))
    model.optimizer.build(model.trainable_variables)
    return model


def levels(model):
    """The counterfactual parts on items and on interests."""
    part = model.counterfactual
    return (None, part) if isinstance(part, CounterfactualInterests) else (part.items, part.interests)


def fill_memories(model):
    on_items, on_interests = levels(model)
    if on_items is not None:
        on_items.synthesis.memory.enqueue(tf.range(40, NUM_ITEMS + 1))
    vectors = np.random.default_rng(9).normal(size=[50, 8]).astype(np.float32)
    on_interests.synthesis.memory.enqueue(tf.constant(vectors))


def batch(size=6):
    random = np.random.default_rng(4)
    lengths = random.integers(1, 7, size=size)
    # Items above 40 are in no history: only the memories bring them.
    history = random.integers(1, 40, size=[size, 6]) * (np.arange(6) < lengths[:, np.newaxis])
    target = random.integers(1, 40, size=size)
    return {"history": tf.constant(history, tf.int32), "target": tf.constant(target, tf.int32)}


class Watched:
    """A synthesis layer that remembers what it made, with items by their ids."""

    def __init__(self, layer):
        self.layer, self.made, self.candidates = layer, None, None
        self.num_positives, self.num_negatives = layer.num_positives, layer.num_negatives

    def draw_candidates(self, seed):
        self.candidates = self.layer.draw_candidates(seed)
        return self.candidates

    def __call__(self, *arguments, **others):
        changes = self.layer(*arguments, **others)
        self.made = changes if self.candidates is None else changes.naming(self.candidates)
        return changes


def loss_with_changes(model, inputs):
    """The loss, its gradients, and the replacements that were made on the two levels."""
    watched = [Watched(part.synthesis) if part is not None else None for part in levels(model)]
    for part, one in zip(levels(model), watched, strict=True):
        if part is not None:
            object.__setattr__(part, "synthesis", one)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(inputs, training=True)
    weights = model.user_tower.attention.trainable_variables
    of_table, *of_weights = tape.gradient(loss, [model.item_tower.table, *weights])
    gradients = [tf.convert_to_tensor(of_table), *of_weights]
    changes = [tf.nest.map_structure(np.array, one.made) if one else None for one in watched]
    return float(loss), [one.numpy() for one in gradients], changes


def twin_loss(table, w_1, w_2, mlp, inputs, item_changes, interest_changes):
    """Equation 11 in float64 for replacements that are given."""

    def interests_of(items):
        return reference.interest_concepts(table[items], w_1, w_2)[1]

    def encode(interests):
        return reference.mean_pooling_mlp(interests, mlp[0::2], mlp[1::2])

    total, ids = 0.0, np.arange(1, NUM_ITEMS + 1)
    histories, targets = inputs["history"].numpy(), inputs["target"].numpy()
    for b, (row, target) in enumerate(zip(histories, targets, strict=True)):
        items = row[row != 0]
        observed = interests_of(items)
        made = {"positive": [], "negative": []}
        for changes, original in ((item_changes, items), (interest_changes, observed)):
            for c in range(0 if changes is None else changes.replaced_BCR.shape[1]):
                taken = changes.replaced_BCR[b, c]
                if not taken.any():
                    continue
                replaced = original.copy()
                replaced[changes.positions_BCR[b, c][taken]] = changes.substitutes_BCR[b, c][taken]
                interests = interests_of(replaced) if original is items else replaced
                # All M positives on one level, or half of them on each: the first ones of it.
                positives = M if item_changes is None else M // 2
                made["positive" if c < positives else "negative"].append(encode(interests))
        user = encode(observed)
        positives, negatives = (np.array(made[kind]).reshape(-1, 8) for kind in ("positive", "negative"))
        exist = np.ones(len(positives), bool), np.ones(len(negatives), bool)

        def matching(vector, target=target):
            one = vector[np.newaxis], table[target][np.newaxis]
            return reference.sampled_softmax(*one, table[1:], [target], ids)[0]

        total += matching(user)
        if len(positives):
            total += WEIGHTS["cm"] * np.mean([matching(one) for one in positives])
        total += WEIGHTS["co"] * reference.contrast_with_observation(user, positives, negatives, *exist)
        total += WEIGHTS["ii"] * reference.contrast_with_items(table[target], positives, negatives, *exist)
    return total / len(inputs["target"])


@both
def test_the_loss_equals_the_twin_and_its_gradient_finite_differences(method):
    model, inputs = make(method), batch()
    fill_memories(model)
    assert (levels(model)[0] is None) == (method == "interest")
    loss, gradients, changes = loss_with_changes(model, inputs)
    for one, count in zip(changes, (sum(LEVELS[method]), M + N - sum(LEVELS[method])), strict=True):
        assert (one.replaced_BCR.shape[1] if one is not None else 0) == count

    variables = [model.item_tower.table, *model.user_tower.attention.trainable_variables]
    values = [variable.numpy().astype(np.float64) for variable in variables]
    mlp = [weights.astype(np.float64) for weights in model.user_tower.encoder.get_weights()]
    np.testing.assert_allclose(loss, twin_loss(*values, mlp, inputs, *changes), rtol=1e-5)

    random, step = np.random.default_rng(7), 1e-5
    for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
        for _ in range(12):
            at = tuple(random.integers(size) for size in value.shape)
            if place == 0:  # a row that matters: of a history, and one that only the memories have
                rows = [inputs["history"].numpy()[0, 0], inputs["target"].numpy()[1], random.integers(41, 61)]
                at = (random.choice(rows), at[1])
            moved = []
            for sign in (1, -1):
                values[place] = value.copy()
                values[place][at] += sign * step
                moved.append(twin_loss(*values, mlp, inputs, *changes))
            values[place] = value
            want = (moved[0] - moved[1]) / (2 * step)
            np.testing.assert_allclose(gradient[at], want, rtol=2e-3, atol=2e-5)


@both
def test_means_by_difference_equal_means_written_out_with_their_gradients(method):
    model, inputs = make(method), batch()
    fill_memories(model)
    mask = inputs["history"] != 0
    has_interests = tf.reduce_any(mask, axis=1)
    scores = tf.random.stateless_normal([len(mask), 5], [1, 2])
    results = []
    encoder = model.user_tower.encoder
    for encode in (
        encoder.encode_counterfactuals,
        functools.partial(UserTower.encode_counterfactuals, encoder),
    ):
        fresh = synthesis_layers.InterestSynthesis(
            num_positives=M, num_negatives=N, replacement_rate=0.5, memory_size=100, embedding_dim=8
        )
        fresh.memory.enqueue(tf.random.stateless_normal([50, 8], [5, 6]))
        with tf.GradientTape() as tape:
            interests = model.user_tower.attention(model.item_tower(inputs["history"]), mask)
            changes = fresh(interests, has_interests, scores, tf.constant([3, 4]))
            users, others = encode(interests, model.user_tower.interest_mask(mask), changes)
            vectors = tf.concat([users[:, tf.newaxis], others], axis=1)
            total = tf.reduce_sum(tf.sin(vectors))
        gradients = tape.gradient(total, model.trainable_variables)
        results.append([vectors, *(tf.convert_to_tensor(one) for one in gradients)])
    assert results[0][0].shape == [len(mask), 1 + M + N, 8]
    for difference, written in zip(*results, strict=True):
        np.testing.assert_allclose(difference, written, rtol=1e-4, atol=1e-5)


def test_items_as_interests_by_mean_equal_those_written_out_with_their_gradients():
    model, inputs = make("hierarchical"), batch()
    history, mask = inputs["history"], inputs["history"] != 0
    synthesis = model.counterfactual.items.synthesis
    synthesis.memory.enqueue(tf.range(40, NUM_ITEMS + 1))
    scores = tf.random.stateless_normal(history.shape, [1, 2])
    candidates, seed = synthesis.draw_candidates(tf.constant([5, 6])), tf.constant([3, 4])
    changes = synthesis(history, mask, inputs["target"], scores, candidates, seed)
    written = changes.naming(candidates).write_out(history)

    def one_by_one():
        return tf.stack([model.encode(one) for one in tf.unstack(written, axis=1)], axis=1)

    results = []
    tower = model.user_tower
    by_mean = tower.encoder.encode_extracted
    written_out = functools.partial(UserTower.encode_extracted, tower.encoder)
    for extracted in (None, by_mean, written_out):
        with tf.GradientTape() as tape:
            vectors, (places, candidate_places) = model.item_tower.look_up_once(history, candidates)
            placed = changes.naming(candidate_places)
            if extracted is None:
                encoded = one_by_one()
            else:
                object.__setattr__(tower.encoder, "encode_extracted", extracted)
                encoded = tower.encode_counterfactuals(places, mask, placed, vectors)[1]
            total = tf.reduce_sum(tf.sin(encoded))
        gradients = tape.gradient(total, model.trainable_variables)
        results.append([encoded, *(tf.convert_to_tensor(one) for one in gradients)])
    for want, *others in zip(*results, strict=True):
        for got in others:
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@both
def test_without_weights_or_with_empty_memories_the_gradient_is_that_of_matching_alone(method):
    inputs, gradients = batch(), []
    for model in (make(method), make(method, lambda_co=0.0, lambda_ii=0.0, lambda_cm=0.0)):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, training=True)
        of_each = tape.gradient(loss, model.trainable_variables)
        gradients.append([tf.convert_to_tensor(one) for one in of_each])
    for empty, off in zip(*gradients, strict=True):
        np.testing.assert_allclose(empty, off, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "counts"),
    [
        ("interest", (0, 3)),
        ("interest", (1, 0)),
        pytest.param("interest", (0, 1), marks=pytest.mark.long),
        pytest.param("interest", (3, 5), marks=pytest.mark.long),
        pytest.param("hierarchical", (0, 3), marks=pytest.mark.long),
        pytest.param("hierarchical", (1, 0), marks=pytest.mark.long),
        ("hierarchical", (0, 1)),
        ("hierarchical", (3, 5)),
    ],
)
def test_any_number_of_counterfactuals_trains(method, counts):
    model = make(method, num_positives=counts[0], num_negatives=counts[1])
    before = model.item_embeddings()
    # Traced where one kind is missing: then the shapes must be told.
    step = tf.function(model.train_step, autograph=False) if counts == (0, 1) else model.train_step
    for _ in range(2):
        step(batch())
    after = model.item_embeddings()
    assert np.isfinite(after).all() and np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after[0], 0.0)


@pytest.mark.parametrize(
    ("method", "tower"),
    [
        ("interest", "sasrec"),
        ("hierarchical", "comirec_sa"),
        pytest.param("interest", "comirec_sa", marks=pytest.mark.long),
        pytest.param("hierarchical", "sasrec", marks=pytest.mark.long),
    ],
)
def test_any_tower_may_read_the_interests(method, tower):
    model = make(method, tower=tower, num_interests=3, num_blocks=1, similarity="cosine")
    fill_memories(model)
    for _ in range(2):
        model.train_step(batch())
    vectors = model.encode(batch()["history"]).numpy()
    assert vectors.shape == ((6, 8) if tower == "sasrec" else (6, 3, 8))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-5)

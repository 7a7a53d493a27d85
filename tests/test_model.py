"""The composed model: both encodings agree, equation 11, what is switched off, what stops it."""

import functools
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.errors import InputError
from causerec_tf.matching import SampledSoftmax
from causerec_tf.model import _Draw
from causerec_tf.optimizers import SparseAdam
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from causerec_tf.towers.base import UserTower
from causerec_tf.training import explain_non_finite
from tests import reference

NUM_ITEMS = 60
SMALL = {
    "embedding_dim": 8,
    "max_history": 6,
    "num_sampled": 30,
    "num_positives": 2,
    "num_negatives": 3,
    "memory_size": 100,
}


def make(**settings):
    model = compose(Settings(**SMALL, **settings), NUM_ITEMS)
    model.compile(optimizer=SparseAdam(0.01, l2=1e-5, distinct_rows=True))
    model.optimizer.build(model.trainable_variables)
    return model


def batch(seed=0, size=16):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, size=size)
    history = rng.integers(1, NUM_ITEMS + 1, size=[size, 6]) * (np.arange(6) < lengths[:, np.newaxis])
    target = rng.integers(1, NUM_ITEMS + 1, size=size)
    return {"history": tf.constant(history, tf.int32), "target": tf.constant(target, tf.int32)}


def kept_changes(model):
    """A list to which each step adds what its synthesis replaces, by item ids."""
    made, synthesise = [], model.counterfactual.synthesis.call

    def keep(*arguments, candidates_P, **others):
        changes = synthesise(*arguments, candidates_P=candidates_P, **others)
        made.append(changes.naming(candidates_P))
        return changes

    model.counterfactual.synthesis.call = keep
    return made


@pytest.mark.parametrize("nearest_of", [1, 4])  # sums of runs; sums of any substitutes
def test_both_encodings_agree_with_their_gradients(nearest_of):
    model, inputs = make(method="item", nearest_of=nearest_of), batch()
    model.counterfactual.synthesis.memory.enqueue(tf.range(1, NUM_ITEMS + 1))
    history = inputs["history"]
    scores = tf.random.stateless_normal(history.shape, [1, 2])
    candidates, seed = (
        model.counterfactual.synthesis.draw_candidates(tf.constant([5, 6])),
        tf.constant([3, 4]),
    )
    vectors = model.item_tower(history), model.item_tower(candidates)
    changes = model.counterfactual.synthesis(
        history, history != 0, inputs["target"], scores, candidates, seed, *vectors
    )
    replacements = changes.naming(candidates)
    assert replacements.replaced_BCR.numpy().any()

    def with_(encode):
        vectors, (history_places, candidate_places) = model.item_tower.look_up_once(history, candidates)
        placed = changes.naming(candidate_places)
        users, others = encode(history_places, history != 0, placed, vectors)
        return tf.concat([users[:, tf.newaxis], others], axis=1)

    def slowly():
        written = replacements.write_out(history)
        return tf.stack([model.encode(history), *map(model.encode, tf.unstack(written, axis=1))], axis=1)

    def by_difference():
        return with_(model.user_tower.encode_counterfactuals)

    def written_out():
        return with_(functools.partial(UserTower.encode_counterfactuals, model.user_tower))

    results = []
    for encode in (slowly, by_difference, written_out):
        with tf.GradientTape() as tape:
            vectors = encode()
            loss = tf.reduce_sum(tf.sin(vectors))
        gradients = tape.gradient(loss, model.trainable_variables)
        results.append([vectors, *(tf.convert_to_tensor(g) for g in gradients)])
    for slow, difference, written in zip(*results, strict=True):
        np.testing.assert_allclose(difference, slow, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(written, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nearest_of", [1, 4])
def test_an_empty_memory_gives_the_gradient_of_the_base(nearest_of):
    base, item, inputs = make(), make(method="item", nearest_of=nearest_of), batch()
    gradients = []
    for model in (base, item):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, training=True)
        gradients.append(tape.gradient(loss, model.trainable_variables))
    for of_base, of_item in zip(*gradients, strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(of_item), tf.convert_to_tensor(of_base), rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize(
    ("tower", "sampler"),
    [
        *(("mean", sampler) for sampler in ("full", "uniform", "log_uniform")),
        *((tower, "full") for tower in ("mind", "comirec_sa", "comirec_dr")),
    ],
)
def test_the_loss_is_equation_11_and_our_loss_of_positives(tower, sampler):
    """Twin: vectors from the tower (tested by itself), losses from NumPy, sums by hand.

    Of several vectors the matching losses take MIND's attention for MIND, and otherwise, as the contrasts do
    for each history, the one with the largest inner product with the target.
    """
    weights = {"lambda_co": 0.3, "lambda_ii": 0.7, "lambda_cm": 0.6}
    sharp = {"temperature": 0.5, "attention_power": 2.0}
    model = make(method="item", sampler=sampler, tower=tower, **sharp, **weights)
    inputs = batch()
    model.counterfactual.synthesis.memory.enqueue(tf.range(1, NUM_ITEMS + 1))
    history, target = inputs["history"], inputs["target"]
    made = kept_changes(model)
    loss = float(model.compute_loss(inputs, training=True))

    table = model.item_tower.table.numpy()
    written = made[0].write_out(history)
    vectors = np.stack([model.encode(history), *map(model.encode, tf.unstack(written, axis=1))], axis=1)
    exists = made[0].exists_BC.numpy()
    ids = drawn_negatives(model, 0)
    if sampler == "full":
        np.testing.assert_array_equal(ids, np.arange(1, NUM_ITEMS + 1))
    want = 0.0
    for b in range(len(target)):
        wanted = table[target[b]]
        of_histories = vectors[b]
        if tower != "mean":
            of_histories = np.array([several[np.argmax(several @ wanted)] for several in vectors[b]])
        matched = of_histories[:3]
        if tower == "mind":
            matched = [reference.label_aware_attention(one, wanted, 2.0) for one in vectors[b, :3]]
        of_user, *of_positives = (
            reference.sampled_softmax(
                one[None],
                wanted[None],
                table[ids],
                target[b : b + 1].numpy(),
                ids,
                *(
                    map(log_expected_count, (target[b : b + 1].numpy(), ids))
                    if sampler == "log_uniform"
                    else ()
                ),
                t=0.5,
            )[0]
            for one in matched
        )
        want += of_user
        of_positives = [one for one, is_there in zip(of_positives, exists[b, :2], strict=True) if is_there]
        if of_positives:  # a history of one item has nothing dispensable
            want += 0.6 * sum(of_positives) / len(of_positives)
        one = of_histories[1:3], of_histories[3:], exists[b, :2], exists[b, 2:]
        want += 0.3 * reference.contrast_with_observation(of_histories[0], *one)
        want += 0.7 * reference.contrast_with_items(wanted, *one)
    np.testing.assert_allclose(loss, want / len(target), rtol=1e-4)
    assert {0, 2} <= set(exists[:, :2].sum(axis=1))


def drawn_negatives(model, step):
    seed = model._seed(_Draw.NEGATIVES, tf.constant(step, tf.int64))
    return model.retrieval.draw(NUM_ITEMS, seed, tf.zeros([0], tf.int32)).ids_S.numpy()


def log_expected_count(ids):
    """Of 30 draws by Zipf's law in the form P(id) = log((id + 1) / id) / log(V + 1)."""
    return np.log(SMALL["num_sampled"] * np.log((ids + 1) / ids) / np.log(NUM_ITEMS + 1))


def test_every_step_and_every_run_draws_anew_and_a_step_again_the_same():
    def drawn(seed, step):
        model = make(method="item", seed=seed)
        model.counterfactual.synthesis.memory.enqueue(tf.range(1, NUM_ITEMS + 1))
        made = kept_changes(model)
        model.compute_loss(batch() | {"step": tf.constant(step, tf.int64)}, training=True)
        return (
            drawn_negatives(model, step),
            made[0].positions_BCR.numpy(),
            made[0].substitutes_BCR.numpy(),
        )

    first = drawn(0, 0)
    for again, one in zip(drawn(0, 0), first, strict=True):
        np.testing.assert_array_equal(again, one)
    for other in (drawn(0, 1), drawn(1, 0)):
        for one, theirs in zip(first, other, strict=True):
            assert (one != theirs).mean() > 0.2
    # What one purpose draws says nothing of another's.
    model = make()
    seeds = {tuple(model._seed(draw, tf.constant(step)).numpy()) for draw in _Draw for step in range(4)}
    assert len(seeds) == 4 * len(_Draw)


@pytest.mark.parametrize("scores", ["target", "random"])
def test_random_scores_choose_without_a_look_at_any_vector(scores):
    """The control: the same draws choose the same positions, whatever the item vectors have become."""
    inputs, chosen = batch(), []
    for seed in (0, 1):  # of the vectors
        model = make(method="item", concept_scores=scores)
        model.item_tower.table.assign(tf.random.stateless_normal(model.item_tower.table.shape, [seed, 0]))
        model.counterfactual.synthesis.memory.enqueue(tf.range(1, NUM_ITEMS + 1))
        history, target, step = inputs["history"], inputs["target"], tf.constant([3, 4])
        scored = model.counterfactual.scores(model.item_tower(history), model.item_tower(target), step)
        candidates = model.counterfactual.synthesis.draw_candidates(step)
        made = model.counterfactual.synthesis(history, history != 0, target, scored, candidates, step)
        chosen.append(np.where(made.replaced_BCR, made.positions_BCR, -1))
    assert np.array_equal(*chosen) == (scores == "random")


def test_the_nearest_are_found_by_the_item_vectors_of_the_step():
    """Items i and i + 30 lie in one direction: where all candidates are compared, one replaces the other."""
    model, inputs = make(method="item", nearest_of=1000), batch()
    angles = np.arange(NUM_ITEMS + 1) % 30 * 2 * np.pi / 30
    table = np.zeros([NUM_ITEMS + 1, model.item_tower.embedding_dim], np.float32)
    table[1:, 0], table[1:, 1] = np.cos(angles[1:]), np.sin(angles[1:])
    model.item_tower.table.assign(table)
    model.counterfactual.synthesis.memory.enqueue(tf.range(1, NUM_ITEMS + 1))
    made = kept_changes(model)
    model.compute_loss(inputs)
    histories = np.repeat(inputs["history"].numpy()[:, np.newaxis], 5, axis=1)
    written, targets = made[0].write_out(inputs["history"]).numpy(), inputs["target"].numpy()
    twins = np.where(histories > 30, histories - 30, histories + 30)
    has_twin = (histories > 0) & (twins != targets[:, np.newaxis, np.newaxis])
    changed = (written != histories) & has_twin
    assert changed.sum() > 50
    np.testing.assert_array_equal(written[changed], twins[changed])


def test_weights_of_zero_switch_their_parts_off():
    assert set(make(method="item")._means) == {"matching", "co", "ii"}
    assert set(make(method="item", lambda_co=0.0)._means) == {"matching", "ii"}
    assert set(make(method="item", lambda_ii=0.0)._means) == {"matching", "co"}
    assert set(make(method="item", lambda_co=0.0, lambda_ii=0.0, lambda_cm=1.0)._means) == {"matching", "cm"}
    base = make()
    assert set(base._means) == {"matching"} and base.counterfactual is None
    # With both off, CauseRec-Item takes the base's step.
    off = make(method="item", lambda_co=0.0, lambda_ii=0.0)
    for step in range(3):
        base.train_step(batch(step))
        off.train_step(batch(step))
    for ours, theirs in zip(base.trainable_variables, off.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_counterfactual_part_trains_and_padding_stays_zero():
    base, item = make(), make(method="item")
    for step in range(3):
        base.train_step(batch(step))
        item.train_step(batch(step))
    assert np.abs(base.item_embeddings() - item.item_embeddings()).max() > 1e-4
    np.testing.assert_array_equal(item.item_embeddings()[0], 0.0)


@pytest.mark.parametrize("method", ["base", "item"])
def test_the_gradient_of_the_table_has_one_row_for_each_item_touched(method):
    """Neither dense, which would cost the catalogue, nor with repeats, which the optimiser is promised."""
    model = make(method=method)
    model.compute_loss(batch(), training=True)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch(1), training=True)
    gradient = tape.gradient(loss, model.item_tower.table)
    assert isinstance(gradient, tf.IndexedSlices)
    rows = gradient.indices.numpy()
    assert len(set(rows)) == len(rows)


def test_a_loss_that_is_not_finite_stops_before_the_step():
    model = make(method="item")
    model.train_step(batch())
    model.item_tower.table.assign(tf.fill(model.item_tower.table.shape, float("nan")))
    kernel = model.user_tower.trainable_variables[0].numpy()
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.function(model.train_step)(batch(1))
    np.testing.assert_array_equal(model.user_tower.trainable_variables[0], kernel)
    text = str(explain_non_finite(caught.value.message, Settings()))
    assert "not finite at step 2" in text and "matching=nan" in text and "--learning_rate" in text


def test_a_gradient_that_is_not_finite_stops_before_the_step(monkeypatch):
    @tf.custom_gradient
    def steep(values):
        return values, lambda upstream: upstream * float("inf")

    model = make(method="base")
    retrieval, matching = model.retrieval, SampledSoftmax.__call__
    monkeypatch.setattr(type(retrieval), "__call__", lambda self, *inputs: steep(matching(self, *inputs)))
    before = [variable.numpy() for variable in model.trainable_variables]
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.function(model.train_step)(batch())
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert "the gradient is not finite at step 1. " in str(
        explain_non_finite(caught.value.message, Settings())
    )


@pytest.mark.parametrize(
    ("method", "tower"),
    [
        ("base", "mean"),
        ("item", "sasrec"),
        *(pytest.param("item", tower, marks=pytest.mark.long) for tower in ("mean", "gru4rec", "mind")),
    ],
)
def test_a_model_that_is_no_longer_used_is_freed(method, tower):
    """A process that trains one model after the other must not keep them all."""
    model = make(method=method, tower=tower, num_blocks=1)
    step = tf.function(model.train_step)
    step(batch())
    table = weakref.ref(model.item_tower.table)
    del model, step
    tf.keras.backend.clear_session()
    gc.collect()
    assert table() is None


@pytest.mark.parametrize("tower", ["mean", "comirec_sa"])
def test_the_cosine_is_trained_and_ranked_by_vectors_of_length_one(tower):
    model, inputs = make(similarity="cosine", temperature=0.1, sampler="full", tower=tower), batch()
    dot = make(tower=tower)
    users, table = dot.encode(inputs["history"]).numpy(), dot.item_embeddings()[1:]
    unit = users / np.linalg.norm(users, axis=-1, keepdims=True)
    items = table / np.linalg.norm(table, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(inputs["history"]), unit, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.item_vectors(), items, rtol=1e-5)
    target = inputs["target"].numpy()
    if tower != "mean":
        best = np.einsum("bid,bd->bi", unit, items[target - 1]).argmax(axis=1)
        unit = unit[np.arange(len(unit)), best]
    ids = np.arange(1, NUM_ITEMS + 1)
    want = reference.sampled_softmax(unit, items[target - 1], items, target, ids, t=0.1).mean()
    np.testing.assert_allclose(model.compute_loss(inputs, training=True), want, rtol=1e-4)


SEQUENCES = {"tower": "sasrec", "training_rows": "sequences"}


@pytest.mark.parametrize(
    ("changes", "histories"),
    [
        ({}, "1,024"),
        ({"lambda_cm": 0.5}, "3,072"),
        (SEQUENCES, "6,144"),
        (SEQUENCES | {"lambda_cm": 0.5, "counterfactual_positions": 3}, "12,288"),
    ],
)
def test_a_full_softmax_that_fits_no_machine_is_refused(changes, histories):
    """L_cm ranks the counterfactual positives, too: two of them make it three times as large.

    A whole sequence has up to six targets.
    """
    settings = Settings(**SMALL, method="item", sampler="full", batch_size=1024, **changes)
    largest = (1 << 28) // int(histories.replace(",", ""))
    with pytest.raises(
        InputError, match=f"--sampler=full with {histories} histories per step and {largest + 1:,}"
    ):
        compose(settings, largest + 1)
    compose(settings, largest)


COUNTS = np.arange(NUM_ITEMS + 1) % 7 + (np.arange(NUM_ITEMS + 1) > 0)  # that of padding is 0


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("sampler", ["in_batch", "mixed"])
def test_in_batch_negatives_are_those_of_the_whole_batch(sampler, similarity):
    model = make(sampler=sampler, batch_size=16, similarity=similarity, temperature=0.5)
    model.know_targets(COUNTS)
    inputs = batch()
    target = inputs["target"].numpy()
    step = model.optimizer.iterations
    drawn = model.retrieval.draw(
        NUM_ITEMS, model._seed(_Draw.NEGATIVES, step), inputs["target"]
    ).ids_S.numpy()
    assert drawn[:16].tolist() == target.tolist() and len(drawn) == (16 if sampler == "in_batch" else 46)
    vectors = np.concatenate([np.zeros([1, 8]), model.item_vectors()])
    expected = 16 * COUNTS / COUNTS.sum() + (0 if sampler == "in_batch" else 30 / NUM_ITEMS)
    want = reference.sampled_softmax(
        model.encode(inputs["history"]).numpy(),
        vectors[target],
        vectors[drawn],
        target,
        drawn,
        np.log(expected[target]),
        np.log(expected[drawn]),
        0.5,
    )
    assert model.compute_loss(inputs).numpy() == pytest.approx(want.mean(), rel=1e-5)


def test_the_cosine_contrastive_loss_of_a_model():
    model = make(matching="cosine_contrastive", margin=0.1, negative_weight=3.0, similarity="cosine")
    inputs = batch()
    target = inputs["target"].numpy()
    drawn = drawn_negatives(model, 0)
    vectors = np.concatenate([np.zeros([1, 8]), model.item_vectors()])
    users = model.encode(inputs["history"]).numpy()
    want = reference.cosine_contrastive(users, vectors[target], vectors[drawn], target, drawn, 0.1, 3.0)
    assert model.compute_loss(inputs).numpy() == pytest.approx(want.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"matching": "cosine_contrastive"}, "CosineContrastive compares by the cosine"),
        (
            {"matching": "cosine_contrastive", "similarity": "cosine", "returns": "learned"},
            "returns are learned by SampledSoftmax, not by CosineContrastive",
        ),
        (
            {"sampler": "in_batch", "tower": "sasrec", "training_rows": "sequences"},
            "in-batch negatives are of windows",
        ),
    ],
)
def test_losses_that_do_not_go_with_the_rest(settings, message):
    with pytest.raises(InputError, match=message):
        make(**settings)

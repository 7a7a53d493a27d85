"""Training on whole sequences against training on windows: same vectors, same gradients, windows drawn."""

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import every_position
from causerec_tf.errors import InputError
from causerec_tf.losses import WeightedLoss
from causerec_tf.matching import SampledSoftmax
from causerec_tf.model import CauseRec
from causerec_tf.optimizers import SparseAdam
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from causerec_tf.towers.gru import GRU4RecTower
from causerec_tf.towers.item import ItemTower

NUM_ITEMS, LENGTH = 40, 20
LENGTHS = (1, 3, 7, 8, 9, 12, 16, 17, 20, 20, 2)
SETTINGS = Settings(embedding_dim=8, max_history=LENGTH, num_sampled=30, seed=3)
TOWERS = {
    "sasrec": {"tower": "sasrec"},
    "sasrec_cosine": {"tower": "sasrec", "similarity": "cosine", "temperature": 0.2, "num_blocks": 1},
    "sasrec_full": {"tower": "sasrec", "sampler": "full", "num_blocks": 3, "num_heads": 2},
    "ligr": {"tower": "sasrec", "block": "ligr", "num_blocks": 1},
    "bsarec_causal": {"tower": "sasrec", "block": "bsarec_causal", "num_blocks": 1},
    "gru4rec": {"tower": "gru4rec"},
    "mean": {"tower": "mean"},
    "mean_sasrec": {"tower": "mean_sasrec"},
}


def sequences():
    """Whole sequences as a batch has them, of all kinds of lengths: `history` and `targets`."""
    rng = np.random.default_rng(5)
    events = rng.integers(1, NUM_ITEMS + 1, size=[len(LENGTHS), LENGTH + 1])
    real = np.arange(LENGTH) < np.array(LENGTHS)[:, np.newaxis]
    return {
        "history": tf.constant(events[:, :-1] * real, tf.int32),
        "targets": tf.constant(events[:, 1:] * real, tf.int32),
    }


def windows_of(batch):
    """The same examples, each as a window: `history` and `target`."""
    history, target = [], []
    for items, targets in zip(batch["history"].numpy(), batch["targets"].numpy(), strict=True):
        for place in range((targets > 0).sum()):
            history.append(np.where(np.arange(LENGTH) <= place, items, 0))
            target.append(targets[place])
    return {"history": tf.constant(np.array(history)), "target": tf.constant(np.array(target))}


def model_of(rows, **named):
    model = compose(dataclasses.replace(SETTINGS, training_rows=rows, **named), NUM_ITEMS)
    for variable in model.user_tower.variables:
        if "positions" in variable.name:  # alike, so that a prefix is a history of its own
            variable.assign(tf.repeat(variable[:1], LENGTH, axis=0))
    model.compile(optimizer=SparseAdam())
    return model


def with_gradients(model, batch):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch)
    gradients = tape.gradient(loss, model.trainable_variables)
    dense = [tf.convert_to_tensor(one).numpy() for one in gradients]
    names = [variable.name for variable in model.trainable_variables]
    # Of alike rows, only the sum of the gradients is the same.
    return float(loss), [g.sum(axis=0) if "positions" in n else g for n, g in zip(names, dense, strict=True)]


@pytest.mark.parametrize(
    ("name", "returns"),
    [
        pytest.param(name, returns, marks=[pytest.mark.long] * (name in long))
        for returns, long in (
            ("as_others", ("sasrec",)),
            ("learned", set(TOWERS) - {"sasrec_cosine", "gru4rec"}),
        )
        for name in TOWERS
    ],
)
def test_loss_and_gradients_are_those_of_the_same_examples_as_windows(name, returns):
    batch = sequences()
    models = [model_of(rows, **TOWERS[name], returns=returns) for rows in ("sequences", "windows")]
    if returns == "learned":
        for model in models:  # the output weights start at 0
            for number, weight in enumerate(model.returns.weights):
                weight.assign(tf.random.stateless_normal(weight.shape, [number, 3]))
    loss, gradients = with_gradients(models[0], batch)
    wanted, of_windows = with_gradients(models[1], windows_of(batch))
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert max(np.abs(one).max() for one in of_windows) > 1e-2
    for one, other in zip(gradients, of_windows, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_table_has_one_row_for_each_item_touched():
    """The optimiser is promised that no row stands twice."""
    model = model_of("sequences", tower="sasrec", method="item", counterfactual_positions=2)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(sequences())
    rows = tape.gradient(loss, model.item_tower.table).indices.numpy()
    assert len(set(rows)) == len(rows)


def test_every_prediction_finds_its_target():
    batch, tower = sequences(), GRU4RecTower(8)
    tower.build(None)
    items = tf.random.stateless_normal([NUM_ITEMS + 1, 8], [1, 2])
    vectors, numbers = every_position.encode(tower, items, batch["history"], batch["targets"])
    assert sorted(numbers.numpy()) == np.flatnonzero(batch["targets"].numpy()).tolist()
    rows, places = np.divmod(numbers.numpy(), LENGTH)
    prefixes = np.where(np.arange(LENGTH) <= places[:, np.newaxis], batch["history"].numpy()[rows], 0)
    np.testing.assert_allclose(
        vectors, tower(tf.gather(items, prefixes), prefixes != 0), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("nearest_of", [1, 4])
def test_counterfactuals_by_length_are_those_of_the_tower_in_their_order(nearest_of):
    model = model_of("windows", tower="sasrec", method="item", num_negatives=2, nearest_of=nearest_of)
    synthesis = model.counterfactual.synthesis
    synthesis.memory.enqueue(tf.range(1, NUM_ITEMS + 1))
    history, mask = sequences()["history"], sequences()["history"] != 0
    scores = tf.random.stateless_normal(history.shape, [1, 2])
    candidates, target = synthesis.draw_candidates(tf.constant([5, 6])), history[:, 0]
    vectors, (places, candidate_places) = model.item_tower.look_up_once(history, candidates)
    looked_up = [tf.gather(vectors, one) for one in (places, candidate_places)]
    changes = synthesis(history, mask, target, scores, candidates, tf.constant([3, 4]), *looked_up)
    given = places, mask, changes.naming(candidate_places), vectors
    wanted = model.user_tower.encode_counterfactuals(*given)
    made = every_position.ByLength(model.user_tower).encode_counterfactuals(*given)
    assert changes.replaced_BCR.numpy().any(axis=(1, 2)).sum() > 5
    for one, other in zip(made, wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_windows_drawn_are_of_the_sequences_and_no_position_is_drawn_twice(count):
    batch = sequences()
    all_windows = collections.Counter(
        (tuple(history), target)
        for history, target in zip(*(one.numpy().tolist() for one in windows_of(batch).values()), strict=True)
    )
    history, target, *_ = every_position.draw_windows(*batch.values(), count, tf.constant([1, 2]))
    drawn = collections.Counter(
        (tuple(one), two) for one, two in zip(history.numpy().tolist(), target.numpy().tolist(), strict=True)
    )
    assert len(target) == sum(min(count, length) for length in LENGTHS)
    assert drawn <= all_windows


def test_windows_are_drawn_uniformly_by_their_seed():
    batch = sequences()
    draw = tf.function(lambda seed: every_position.draw_windows(*batch.values(), 1, seed))
    ends = collections.Counter()
    for step in range(800):
        history, *_ = draw(tf.constant([step, 0]))
        ends[int((history[8] != 0).numpy().sum())] += 1
    assert set(ends) == set(range(1, 21))
    # 800 draws of 20 positions, 40 each in the mean: five standard deviations are 31.
    assert all(9 < count < 71 for count in ends.values())
    again = [every_position.draw_windows(*batch.values(), 1, tf.constant([5, 0]))[1] for _ in range(2)]
    np.testing.assert_array_equal(*again)


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.long), 4])
def test_losses_are_means_over_the_windows_drawn(count):
    """And what they look at are these windows, with their counterfactuals."""
    seen, batch = [], sequences()

    def loss(inputs):
        seen.append(inputs)
        return tf.cast(inputs.target_B, tf.float32)

    named = model_of("sequences", tower="sasrec", method="item")
    model = CauseRec(
        named.item_tower,
        named.user_tower,
        named.retrieval,
        counterfactual=named.counterfactual,
        losses=[WeightedLoss("target", 2.0, loss)],
        max_history=LENGTH,
        seed=3,
        whole_sequences=True,
        counterfactual_positions=count,
    )
    model.compile(optimizer=SparseAdam())
    total = float(model.compute_loss(batch))
    (looked_at,) = seen
    num_windows = sum(min(count, length) for length in LENGTHS)
    assert looked_at.user_BD.shape == (num_windows, 8)
    assert looked_at.counterfactuals.positive_BMD.shape == (num_windows, 1, 8)
    np.testing.assert_allclose(looked_at.user_BD, model.encode(looked_at.history_BL), rtol=1e-4, atol=1e-5)
    matching = float(model_of("sequences", tower="sasrec").compute_loss(batch))
    assert total == pytest.approx(matching + 2.0 * looked_at.target_B.numpy().mean(), rel=1e-5)


def test_a_tower_that_is_not_causal_is_refused():
    with pytest.raises(InputError, match="KerasTower does not read causally"):
        mean = tf.keras.layers.GlobalAveragePooling1D()
        CauseRec(ItemTower(9, 4), mean, SampledSoftmax(), whole_sequences=True)

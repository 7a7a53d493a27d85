"""Models of features: twins of items and users, gradients whose rows are distinct, what is learned."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.errors import InputError
from causerec_tf.feature_recipes import DatasetFeatures
from causerec_tf.optimizers import SparseAdam
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from tests import reference
from tests.features import worlds_with_features as world

SETTINGS = Settings(
    embedding_dim=8,
    max_history=world.LENGTH,
    num_sampled=30,
    num_positives=2,
    num_negatives=3,
    memory_size=100,
    num_concepts=4,
    num_interests=3,
    num_blocks=1,
    seed=5,
)
MODELS = {
    "base": {},
    "cosine": {"similarity": "cosine", "temperature": 0.2},
    "item": {"method": "item", "lambda_cm": 0.5},
    "item_near": {"method": "item", "lambda_cm": 0.5, "nearest_of": 4, "tower": "youtube_dnn"},
    "item_cosine": {"method": "item", "similarity": "cosine", "temperature": 0.2},
    "interest": {"method": "interest"},
    "hierarchical": {"method": "hierarchical", "similarity": "cosine", "temperature": 0.2},
    "hierarchical_gru": {"method": "hierarchical", "tower": "gru4rec"},
    "gru4rec": {"tower": "gru4rec", "method": "item"},
    "sasrec": {"tower": "sasrec", "method": "item"},
    "bsarec": {"tower": "sasrec", "block": "bsarec"},
    "mind": {"tower": "mind", "method": "item"},
    "comirec_sa": {"tower": "comirec_sa", "method": "item"},
    "comirec_dr": {"tower": "comirec_dr"},
    "returns": {"returns": "learned", "method": "item"},
    "no_histories": {"history_dropout": 0.5, "method": "item"},
}
SEQUENCES = {
    "sequences": {"tower": "gru4rec"},
    "sequences_item": {"tower": "sasrec", "method": "item", "lambda_cm": 0.5},
    "sequences_cosine": {"tower": "sasrec", "similarity": "cosine", "temperature": 0.2},
    "sequences_returns": {"tower": "sasrec", "returns": "learned", "method": "item"},
}
# The others do what one of these does.
QUICK = ("base", "item_near", "interest", "hierarchical", "sasrec", "returns", "no_histories")
QUICK += ("sequences_item", "sequences_returns")
# Small tables are read whole by one tower as by another.
QUICK_READ_WHOLE = ("base", "hierarchical", "sequences_item")
# Towers that read the context differently.
QUICK_IN_ENCODING = ("base", "interest", "sasrec", "no_histories")


def cases(names, quick):
    return [pytest.param(name, marks=[pytest.mark.long] * (name not in quick)) for name in names]


def make(name="base", columns=None, **changes):
    whole = name in SEQUENCES
    columns = columns or (world.WITHOUT_AGE if whole else world.EVERY_COLUMN)
    rows = {"training_rows": "sequences"} if whole else {}
    settings = dataclasses.replace(SETTINGS, **(SEQUENCES if whole else MODELS)[name], **rows, **changes)
    model = compose(settings, world.NUM_ITEMS, world.features(columns))
    model.compile(optimizer=SparseAdam(0.01, l2=1e-5, distinct_rows=True))
    model.optimizer.build(model.trainable_variables)
    if model.counterfactual is not None and hasattr(model.counterfactual, "synthesis"):
        memory = model.counterfactual.synthesis.memory
        if memory._concepts.dtype == tf.int32:
            memory.enqueue(tf.range(1, world.NUM_ITEMS + 1))
    return world.with_larger_weights(model)


@functools.cache
def made(name):
    """A model to look at: what changes one makes its own."""
    return make(name)


def batch_of(name, **options):
    whole = name in SEQUENCES
    return world.batch(world.WITHOUT_AGE if whole else world.EVERY_COLUMN, whole_sequences=whole, **options)


def gradients_of(model, inputs):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(inputs, training=True)
    return float(loss), tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize(
    ("name", "most_read_whole"),
    [
        pytest.param(name, most, marks=[pytest.mark.long] * (name not in quick))
        for most, quick in ((0, QUICK), (4096, QUICK_READ_WHOLE))
        for name in (*MODELS, *SEQUENCES)
    ],
)
def test_no_row_stands_twice_in_a_gradient_and_every_weight_learns(name, most_read_whole, monkeypatch):
    """A row that stood twice would lose all but one of its gradients."""
    monkeypatch.setattr("causerec_tf.features.entries._MOST_READ_WHOLE", most_read_whole)
    model = make(name)
    loss, gradients = gradients_of(model, batch_of(name, size=32))
    assert np.isfinite(loss)
    sparse = 0
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        if isinstance(gradient, tf.IndexedSlices):
            sparse += 1
            rows = gradient.indices.numpy()
            assert len(set(rows.tolist())) == len(rows), variable.name
            gradient = gradient.values
    # The items; three of their columns, and at least five beside histories.
    assert sparse == 1 if most_read_whole else sparse >= 9
    features = [
        *model.item_tower.features.trainable_variables,
        *model.user_tower.features.trainable_variables,
    ]
    found = {id(one): gradient for one, gradient in zip(model.trainable_variables, gradients, strict=True)}
    for variable in features:
        assert np.abs(tf.convert_to_tensor(found[id(variable)]).numpy()).max() > 0, variable.name


@pytest.mark.parametrize(
    "name", cases(("item", "sequences_item", "hierarchical"), ("item", "sequences_item"))
)
def test_gradients_are_those_of_plain_sums(name, monkeypatch):
    """Twin of the sparse product: rows that are gathered, weighted and added up."""
    model, inputs = make(name), batch_of(name)
    _, gradients = gradients_of(model, inputs)
    from causerec_tf.features import context, items

    def plainly(columns):
        total = 0.0
        for encoder, given in columns:
            if not hasattr(encoder, "entries"):
                total += encoder(*given)
                continue
            rows, places, weights = encoder.entries(*given)
            total += tf.reduce_sum(tf.gather(rows, places) * weights[..., tf.newaxis], axis=1)
        return total

    for module in (context, items):
        monkeypatch.setattr(module, "encoded", plainly)
    model.counterfactual = make(name).counterfactual
    _, plain = gradients_of(model, inputs)
    for variable, one, other in zip(model.trainable_variables, gradients, plain, strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(one),
            tf.convert_to_tensor(other),
            rtol=1e-4,
            atol=1e-5,
            err_msg=variable.name,
        )


def item_twin(model, features, item):
    """The folded vector of an item, by hand."""
    vector = model.item_tower.table.numpy()[item].astype(np.float64)
    encoders = model.item_tower.features.encoders
    for name, values in features.item_values.items():
        weights = [one.numpy().astype(np.float64) for one in encoders[name].trainable_variables]
        value = values[item]
        if name == "category":
            vector = vector + reference.categorical_feature(value, weights[0])
        elif name in ("tags", "title"):
            vector = vector + reference.multi_feature(value, weights[0])
        elif name == "price":
            vector = vector + reference.numeric_feature(value, 1.0, 2.0, *weights)
        else:
            vector = vector + value @ weights[0]
    return vector


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_folded_vectors_are_rows_and_features(similarity, monkeypatch):
    monkeypatch.setattr("causerec_tf.towers.item._ITEMS_PER_BLOCK", 17)
    model, features = make(similarity=similarity), world.features()
    want = np.array([item_twin(model, features, item) for item in range(1, world.NUM_ITEMS + 1)])
    ids = tf.constant([[3, 60, 0], [3, 1, 1]])
    looked_up = model.item_tower(ids).numpy()
    np.testing.assert_array_equal(looked_up[0, 2], 0.0)
    np.testing.assert_allclose(looked_up[1], want[[2, 0, 0]], rtol=1e-4, atol=1e-5)
    embeddings = model.item_embeddings()
    np.testing.assert_array_equal(embeddings[0], 0.0)
    np.testing.assert_allclose(embeddings[1:], want, rtol=1e-4, atol=1e-5)
    if similarity == "cosine":
        want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(model.item_vectors(), want, rtol=1e-4, atol=1e-5)


def context_twin(model, inputs, row, length):
    """The vectors of the events of one history, and the sum of those of its user and request, by hand."""
    encoders = {
        key: [one.numpy().astype(np.float64) for one in encoder.trainable_variables]
        for key, encoder in model.user_tower.features.encoders.items()
    }
    values = {key: one.numpy()[row] for key, one in inputs.items()}
    events = np.zeros([length, 8])
    for place in range(length):
        time = values["time"][place]
        before = values["time"][place - 1] if place else 0
        events[place] += reference.numeric_feature(
            values["event/rating"][place], 1.0, 2.0, *encoders["event/rating"]
        )
        events[place] += encoders["event/kind"][0][values["event/kind"][place]]
        events[place] += encoders["event/hour"][0][reference.moment_row("hour", time)]
        events[place] += encoders["event/gap"][0][reference.moment_row("gap", time, before)]
        if "event/how_long_ago" in encoders:
            row_of_age = reference.moment_row("age", time, values["request_time"])
            events[place] += encoders["event/how_long_ago"][0][row_of_age]
    added = encoders["user/country"][0][values["user/country"]]
    added = added + reference.numeric_feature(values["user/age"], 1.0, 2.0, *encoders["user/age"])
    added = added + reference.multi_feature(values["user/tastes"], encoders["user/tastes"][0])
    added = added + encoders["request/device"][0][values["request/device"]]
    weekday = reference.moment_row("weekday", values["request_time"])
    return events, added + encoders["request/weekday"][0][weekday]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "name",
    cases(
        ("base", "cosine", "gru4rec", "sasrec", "comirec_sa", "interest"),
        ("base", "cosine", "sasrec", "comirec_sa"),
    ),
)
def test_users_are_the_tower_between_what_is_added(name):
    """Twin: events and sums by hand, the tower inside, tested by itself, one history at a time."""
    model, inputs = made(name), batch_of(name)
    history = inputs["history"].numpy()
    vectors = model.encode(inputs["history"], inputs).numpy()
    embeddings = model.item_embeddings()
    for row, of_row in enumerate(history):
        length = int((of_row > 0).sum())
        events, added = context_twin(model, inputs, row, length)
        concepts = tf.constant((embeddings[of_row[:length]] + events)[np.newaxis], tf.float32)
        want = model.user_tower.tower(concepts, tf.ones([1, length], tf.bool)).numpy()[0] + added
        if model.user_tower.has_unit_length:
            want /= np.linalg.norm(want, axis=-1, keepdims=True)
        np.testing.assert_allclose(vectors[row], want, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "name",
    cases(
        ("item", "item_near", "sasrec", "mind", "hierarchical", "item_cosine", "gru4rec"),
        ("item_near", "sasrec", "hierarchical"),
    ),
)
def test_counterfactuals_are_those_of_histories_written_out(name):
    """An item that is replaced leaves its event's vector where it is."""
    model, inputs = made(name), batch_of(name)
    counterfactual = model.counterfactual
    if name == "hierarchical":
        counterfactual = counterfactual.items
        counterfactual.synthesis.memory.enqueue(tf.range(1, world.NUM_ITEMS + 1))
    history, mask = inputs["history"], inputs["history"] != 0
    candidates = counterfactual.draw_candidates(tf.constant([5, 6]))
    scores = tf.random.stateless_normal(history.shape, [1, 2])
    vectors, (places, candidate_places) = model.item_tower.look_up_once(history, candidates)
    changes = counterfactual.synthesis(
        history,
        mask,
        inputs["target"],
        scores,
        candidates,
        tf.constant([3, 4]),
        tf.gather(vectors, places),
        tf.gather(vectors, candidate_places),
    )
    assert changes.replaced_BCR.numpy().any()
    tower = model.user_tower.given(inputs, mask)
    users, others = tower.encode_counterfactuals(places, mask, changes.naming(candidate_places), vectors)
    np.testing.assert_allclose(users, model.encode(history, inputs), rtol=1e-3, atol=1e-4)
    written = changes.naming(candidates).write_out(history)
    for number, one in enumerate(tf.unstack(written, axis=1)):
        np.testing.assert_allclose(others[:, number], model.encode(one, inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", cases(SEQUENCES, ("sequences", "sequences_cosine")))
def test_whole_sequences_encode_each_prefix_in_its_own_context(name):
    model, inputs = made(name), batch_of(name)
    history = inputs["history"]
    tower = model.user_tower.given(inputs, history != 0, every_position=True)
    vectors = tower.encode_every_position(model.item_tower(history), history != 0).numpy()
    for place in range(world.LENGTH):
        is_there = np.flatnonzero(history.numpy()[:, place])
        at_place = {key: one[:, place] if key.startswith("request") else one for key, one in inputs.items()}
        prefix = history * tf.cast(tf.range(world.LENGTH) <= place, tf.int32)
        tower_at = model.user_tower.given(at_place, prefix != 0)
        wanted = tower_at(model.item_tower(prefix), prefix != 0).numpy()
        if "gru" in MODELS.get(name, SEQUENCES.get(name, {})).get("tower", ""):
            np.testing.assert_allclose(vectors[is_there, place], wanted[is_there], rtol=1e-3, atol=1e-4)
        else:  # SASRec counts from the newest item of the whole sequence
            last = is_there[(history.numpy()[is_there] > 0).sum(axis=1) == place + 1]
            np.testing.assert_allclose(vectors[last, place], wanted[last], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", cases((*MODELS, *SEQUENCES), QUICK_IN_ENCODING))
def test_what_is_missing_or_padding_changes_nothing(name):
    """Without a context all is missing; values beside padding are as if deleted."""
    model, inputs = made(name), batch_of("base")
    history = inputs["history"]
    kept = {one.key: one for one in model.user_tower.features.columns if not one.is_of_time}
    shapes = {"user": [16], "event": [16, world.LENGTH], "request": [16]}
    nothing = {
        key: tf.zeros([*shapes[one.owner], *one.shape], tf.int32)
        if one.is_integer
        else tf.fill([*shapes[one.owner], *one.shape], float("nan"))
        for key, one in kept.items()
    }
    nothing |= {"time": tf.zeros([16, world.LENGTH], tf.int64), "request_time": tf.zeros([16], tf.int64)}
    np.testing.assert_allclose(model.encode(history, nothing), model.encode(history), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        model.user_tower(model.item_tower(history), history != 0), model.encode(history), rtol=1e-5, atol=1e-6
    )
    is_real = history.numpy() > 0
    marred = dict(inputs)
    for key in ("event/rating", "event/kind", "time"):
        marred[key] = tf.constant(np.where(is_real, inputs[key].numpy(), 3).astype(inputs[key].numpy().dtype))
    np.testing.assert_allclose(
        model.encode(history, marred), model.encode(history, inputs), rtol=1e-5, atol=1e-6
    )
    assert np.abs(model.encode(history, inputs) - model.encode(history)).max() > 0.01


def test_items_that_training_does_not_know_are_what_their_features_say_and_stay_so():
    model, features = make(update_rows="all", id_dropout=0.3), world.features()
    model.know_items_of(50, np.arange(1, 51, dtype=np.int32))
    assert model.trained_items is None
    inputs = world.batch()
    known = {name: tf.minimum(inputs[name], 50) for name in ("history", "target")}
    for _ in range(3):
        model.train_step(inputs | known)
    np.testing.assert_array_equal(model.item_tower.table.numpy()[51:], 0.0)
    values = {name: one[51:] for name, one in features.item_values.items()}
    np.testing.assert_allclose(
        model.item_vectors()[50:], model.item_tower.vectors_of_features(values), rtol=1e-5, atol=1e-6
    )


def test_ids_drop_out_in_training_alone_and_by_the_step():
    model = make(id_dropout=0.6)
    inputs = world.batch()
    loss, gradients = gradients_of(model, inputs)
    assert loss == gradients_of(model, inputs)[0]
    kept = make(id_dropout=0.0)
    assert loss != gradients_of(kept, inputs)[0]
    np.testing.assert_array_equal(model.item_vectors(), kept.item_vectors())
    (of_ids,) = (
        gradient
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if variable is model.item_tower.table
    )
    is_left_out = ~np.abs(of_ids.values.numpy()).any(axis=1)
    assert 0.3 < is_left_out.mean() < 0.9
    model.optimizer.iterations.assign_add(1)
    assert loss != gradients_of(model, inputs)[0]


def test_a_user_without_a_history_is_told_by_what_else_is_known():
    model = made("no_histories")
    nobody = tf.zeros([16, world.LENGTH], tf.int32)
    context = world.context()
    vectors = model.encode(nobody, context).numpy()
    assert np.isfinite(vectors).all() and np.unique(vectors, axis=0).shape[0] > 8


@pytest.mark.parametrize("name", ["base", "item", "sequences_item"])
def test_weights_are_those_of_the_examples_in_every_loss(name):
    """An example of weight 2 counts as two, one of weight 0 as none, in a mean over as many as before."""
    columns, whole = world.ITEM_COLUMNS, name in SEQUENCES
    model = make(name, columns, id_dropout=0.0)
    inputs = world.batch(columns, whole_sequences=whole)
    shape = inputs["targets" if whole else "target"].shape
    loss = gradients_of(model, inputs)[0]
    model.counterfactual = make(name).counterfactual
    assert gradients_of(model, inputs | {"weight": tf.ones(shape)})[0] == pytest.approx(loss, rel=1e-5)
    model.counterfactual = make(name).counterfactual
    assert gradients_of(model, inputs | {"weight": tf.fill(shape, 3.0)})[0] == pytest.approx(
        3 * loss, rel=1e-4
    )


@pytest.mark.parametrize(
    ("changes", "columns", "message"),
    [
        (
            {"features": "item/colour"},
            world.EVERY_COLUMN,
            "names item/colour, and the dataset has item/category",
        ),
        ({"history_dropout": 0.1}, world.ITEM_COLUMNS, "acts with columns of the user or the request"),
        (
            {"tower": "sasrec", "training_rows": "sequences"},
            world.EVERY_COLUMN,
            "'event/how_long_ago' is its age at each of them: train on windows",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes, columns, message):
    with pytest.raises(InputError, match=message):
        compose(dataclasses.replace(SETTINGS, **changes), world.NUM_ITEMS, world.features(columns))


def test_without_features_nothing_is_there():
    for settings, features in (
        (SETTINGS, DatasetFeatures()),
        (dataclasses.replace(SETTINGS, features="none"), world.features()),
    ):
        model = compose(settings, world.NUM_ITEMS, features)
        assert model.item_tower.features is None
        plain = compose(SETTINGS, world.NUM_ITEMS)
        assert [one.name for one in model.weights] == [one.name for one in plain.weights]
    some = compose(
        dataclasses.replace(SETTINGS, features="item/price,user/age"), world.NUM_ITEMS, world.features()
    )
    assert list(some.item_tower.features.encoders) == ["price"]
    assert [column.key for column in some.user_tower.features.columns] == ["user/age"]

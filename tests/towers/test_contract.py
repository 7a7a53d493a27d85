"""What every user tower must do, whatever it computes; one suite over all of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.errors import InputError
from causerec_tf.matching import SampledSoftmax
from causerec_tf.model import CauseRec
from causerec_tf.negatives import FullCatalogue
from causerec_tf.optimizers import SparseAdam
from causerec_tf.recipes import compose, user_tower
from causerec_tf.settings import TOWERS, Settings
from causerec_tf.towers.base import UserTower
from causerec_tf.towers.item import ItemTower
from export.towers.user_tower import export_user_tower

D, MAX_HISTORY, K = 8, 6, 3
SETTINGS = Settings(embedding_dim=D, max_history=MAX_HISTORY, num_interests=K, seed=5)
SEVERAL = {"mind", "comirec_sa", "comirec_dr"}
LENGTHS = [1, 4, 6, 2]

OTHERS = {  # towers that have no name of their own
    "interest": {"method": "interest", "num_concepts": 4},  # as CauseRec-Interest encodes
    "sasrec_ligr": {"tower": "sasrec", "block": "ligr", "num_heads": 2, "num_blocks": 1},
    "sasrec_bsarec": {"tower": "sasrec", "block": "bsarec", "num_blocks": 1},
    "sasrec_bsarec_causal": {
        **{"tower": "sasrec", "block": "bsarec_causal"},
        **{"num_blocks": 1, "filter_frequencies": 3},
    },
}
CAUSAL = ("mean", "youtube_dnn", "gru4rec", "sasrec", "mean_sasrec", "sasrec_ligr", "sasrec_bsarec_causal")

every_tower = pytest.mark.parametrize("name", [*TOWERS, *OTHERS])


def make(name, **changes):
    """A tower by its name."""
    named = OTHERS.get(name, {"tower": name})
    return user_tower(dataclasses.replace(SETTINGS, **named | changes))


def histories(padded_length=MAX_HISTORY):
    """Concepts and mask, with something in the padding that must not be seen."""
    concepts = np.random.default_rng(3).normal(size=[len(LENGTHS), 12, D]).astype(np.float32)
    mask = np.arange(padded_length) < np.array(LENGTHS)[:, np.newaxis]
    return concepts[:, :padded_length], mask


def with_gradients(tower, concepts, mask):
    """Vectors, and the gradients of a function of them: of the concepts and of every weight."""
    concepts = tf.constant(concepts)
    with tf.GradientTape() as tape:
        tape.watch(concepts)
        vectors = tower(concepts, tf.constant(mask))
        total = tf.reduce_sum(tf.sin(vectors))
    weights = tower.trainable_variables
    of_concepts, *of_weights = tape.gradient(total, [concepts, *weights], unconnected_gradients="zero")
    return vectors.numpy(), of_concepts.numpy(), [tf.convert_to_tensor(one).numpy() for one in of_weights]


@every_tower
def test_shape_and_number_of_vectors(name):
    tower = make(name)
    vectors = tower(*map(tf.constant, histories()))
    assert vectors.dtype == tf.float32
    assert tower.num_interests == (K if name in SEVERAL else 1)
    assert vectors.shape == ([len(LENGTHS), K, D] if name in SEVERAL else [len(LENGTHS), D])


def quick(is_quick):
    return [] if is_quick else pytest.mark.long


@pytest.mark.parametrize(
    ("name", "padded_length"),
    [
        pytest.param(name, length, marks=quick(length > MAX_HISTORY or name in ("mean", "sasrec")))
        for name in [*TOWERS, *OTHERS]
        for length in (MAX_HISTORY, MAX_HISTORY + 5)
    ],
)
def test_padding_is_as_if_deleted_and_examples_do_not_see_each_other(name, padded_length):
    """A padded batch gives what each history gives alone at its own length, gradients included."""
    tower = make(name)
    concepts, mask = histories(padded_length)
    vectors, of_concepts, of_weights = with_gradients(tower, concepts, mask)
    sums = [np.zeros_like(one) for one in of_weights]
    for b, length in enumerate(LENGTHS):
        alone = with_gradients(tower, concepts[b : b + 1, :length], np.ones([1, length], bool))
        np.testing.assert_allclose(vectors[b], alone[0][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(of_concepts[b, :length], alone[1][0], rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(of_concepts[b, length:], 0.0)
        sums = [total + one for total, one in zip(sums, alone[2], strict=True)]
    for together, total in zip(of_weights, sums, strict=True):
        np.testing.assert_allclose(together, total, rtol=1e-3, atol=1e-4)


@every_tower
def test_an_empty_history_is_finite_with_its_gradients(name):
    vectors, of_concepts, of_weights = with_gradients(
        make(name), np.zeros([2, 4, D], np.float32), np.zeros([2, 4], bool)
    )
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(of_concepts, 0.0)
    assert all(np.isfinite(one).all() for one in of_weights)


@pytest.mark.parametrize(
    ("name", "similarity", "lengths"),
    [
        # Those that pool have a way of their own; the others look up and encode.
        pytest.param(
            *(name, similarity, lengths),
            marks=quick(name in ("mean", "youtube_dnn") or (similarity == "dot" and lengths == LENGTHS)),
        )
        for name in [*TOWERS, *OTHERS]
        for similarity in ("dot", "cosine")
        for lengths in (LENGTHS, [0, 3, 0, 1], [0, 0, 0, 0])
    ],
    ids=str,
)
def test_places_are_encoded_as_the_vectors_there(name, similarity, lengths):
    tower = make(name, similarity=similarity)
    vectors = tf.constant(np.random.default_rng(6).normal(size=[9, D]), tf.float32)
    places = tf.constant(np.random.default_rng(7).integers(9, size=[len(lengths), MAX_HISTORY]), tf.int32)
    mask = tf.constant(np.arange(MAX_HISTORY) < np.array(lengths)[:, np.newaxis])

    def encoded(encode):
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            users = encode()
            total = tf.reduce_sum(tf.sin(users))
        of_vectors, *of_weights = tape.gradient(
            total, [vectors, *tower.trainable_variables], unconnected_gradients="zero"
        )
        return [users, tf.convert_to_tensor(of_vectors), *of_weights]

    got = encoded(lambda: tower.encode_places(places, mask, vectors))
    want = encoded(lambda: tower(tf.gather(vectors, places), mask))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@every_tower
def test_gradients_of_weights_are_dense(name):
    """The optimiser is promised that no row of a sparse gradient stands twice."""
    tower = make(name)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.sin(tower(*map(tf.constant, histories()))))
    for variable, gradient in zip(
        tower.trainable_variables, tape.gradient(total, tower.trainable_variables), strict=True
    ):
        assert isinstance(gradient, tf.Tensor), variable.name


@every_tower
def test_the_seed_decides_the_weights_and_a_checkpoint_restores_them_before_the_first_call(tmp_path, name):
    tower, again, other = make(name), make(name), make(name, seed=6)
    for ours, theirs in zip(tower.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    inputs = [tf.constant(one) for one in histories()]
    path = tf.train.Checkpoint(tower=tower).save(tmp_path / "weights")
    assert np.abs(make(name, seed=6)(*inputs) - tower(*inputs)).max() > 1e-3
    tf.train.Checkpoint(tower=other).restore(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(other(*inputs), tower(*inputs))


@every_tower
def test_runs_of_neighbouring_seeds_share_no_weights(name):
    drawn = [
        weights.ravel()
        for seed in range(3)
        for weights in make(name, seed=seed, num_blocks=2).get_weights()
        if weights.std() > 0  # biases and scales start alike
    ]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            if one.size == other.size:
                # Far beyond what 18 independent weights give, the fewest that are compared.
                assert abs(np.corrcoef(one, other)[0, 1]) < 0.95


@every_tower
def test_mixed_precision_rounds_products_only(name):
    exact, mixed = make(name), make(name, precision="mixed_bfloat16")
    mixed.set_weights(exact.get_weights())
    inputs = [tf.constant(one) for one in histories()]
    vectors = mixed(*inputs)
    assert vectors.dtype == tf.float32
    assert all(variable.dtype == tf.float32 for variable in mixed.variables)
    np.testing.assert_allclose(vectors, exact(*inputs), atol=0.1 * np.abs(exact(*inputs)).max())


@pytest.mark.parametrize(
    "name",
    [
        # `tests/export/towers/test_user_tower.py` exports each named tower in each precision.
        pytest.param(name, marks=quick(name == "interest"))
        for name in [*TOWERS, *OTHERS]
    ],
)
def test_what_is_exported_answers_as_the_tower_does(tmp_path, name):
    tower = make(name)
    table = np.random.default_rng(4).normal(size=[21, D]).astype(np.float32)
    table[0] = 0.0
    export_user_tower(
        tmp_path / "1",
        item_embeddings=table,
        user_tower=tower,
        item_ids=[f"item {number}" for number in range(1, 21)],
        max_history=MAX_HISTORY,
        version="0123",
        warm_up_histories=[[3, 4]],
    )
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    asked = [[7, 2, 2, 20, 1, 5], [9], [0] * 6]
    padded = [history + [0] * (MAX_HISTORY - len(history)) for history in asked]
    answer = loaded.signatures["serving_default"](item_ids=tf.constant(padded, tf.int64))
    assert answer["num_known"].numpy().tolist() == [6, 1, 0]
    for vector, history in zip(answer["user_vectors"].numpy()[:2], asked[:2], strict=True):
        want = tower(tf.constant(table[[history]]), tf.ones([1, len(history)], tf.bool))[0]
        np.testing.assert_allclose(vector, want, atol=1e-5)
    np.testing.assert_array_equal(answer["user_vectors"][2], 0.0)


def with_equal_rows(tower):
    """The tower, its position rows, if it has any, made alike: then a prefix is a history of its own."""
    for variable in tower.variables:
        if "positions" in variable.name:
            variable.assign(tf.repeat(variable[:1], variable.shape[0], axis=0))
    return tower


@pytest.mark.parametrize(
    ("name", "similarity"),
    [
        pytest.param(name, similarity, marks=quick(similarity == "dot" or name == "gru4rec"))
        for name in CAUSAL
        for similarity in ("dot", "cosine")
    ],
)
def test_every_position_has_the_vector_of_the_history_that_ends_there(name, similarity):
    tower = with_equal_rows(make(name, similarity=similarity))
    assert tower.is_causal
    concepts, mask = histories()
    vectors = tower.encode_every_position(tf.constant(concepts), tf.constant(mask)).numpy()
    assert vectors.shape == concepts.shape
    places = [(b, end) for b, length in enumerate(LENGTHS) for end in range(1, length + 1)]
    rows, ends = np.transpose(places)
    prefixes = tower(tf.constant(concepts[rows]), tf.constant(np.arange(MAX_HISTORY) < ends[:, np.newaxis]))
    np.testing.assert_allclose(vectors[rows, ends - 1], prefixes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_what_stands_behind_a_position_has_no_gradient_from_it(name):
    tower = make(name)
    concepts, mask = map(tf.constant, histories())
    for place in (0, 2):
        with tf.GradientTape() as tape:
            tape.watch(concepts)
            total = tf.reduce_sum(tf.sin(tower.encode_every_position(concepts, mask)[:, place]))
        gradient = tape.gradient(total, concepts).numpy()
        np.testing.assert_array_equal(gradient[:, place + 1 :], 0.0)
        assert (np.abs(gradient[:, : place + 1][mask.numpy()[:, : place + 1]]) > 0).any()


@pytest.mark.parametrize("name", CAUSAL)
def test_the_last_position_has_the_vector_of_the_whole_history(name):
    tower = make(name)
    concepts, mask = map(tf.constant, histories())
    vectors, users = tower.encode_every_position(concepts, mask), tower(concepts, mask)
    for b, length in enumerate(LENGTHS):
        np.testing.assert_allclose(vectors[b, length - 1], users[b], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted({*TOWERS, *OTHERS} - set(CAUSAL)))
def test_other_towers_refuse_every_position(name):
    tower = make(name)
    assert not tower.is_causal
    with pytest.raises(InputError, match="does not read causally, so it cannot be trained on whole sequen"):
        tower.encode_every_position(*map(tf.constant, histories()))


@pytest.mark.parametrize("name", [name for name in (*TOWERS, *OTHERS) if name != "interest"])
def test_counterfactual_histories_are_encoded_as_if_one_by_one(name):
    """CauseRec-Item around the tower: the tower gives for each written-out history what it gives alone."""
    named = OTHERS.get(name, {"tower": name})
    settings = dataclasses.replace(SETTINGS, **named, method="item", num_positives=1, num_negatives=2)
    model = compose(settings, 40)
    synthesis = model.counterfactual.synthesis
    synthesis.memory.enqueue(tf.range(1, 41))
    ids = np.random.default_rng(1).integers(1, 41, size=[len(LENGTHS), MAX_HISTORY])
    history = tf.constant(ids * histories()[1], tf.int32)
    scores = tf.random.stateless_normal(history.shape, [1, 2])
    target = tf.constant([3, 4, 5, 6])
    candidates, seed = synthesis.draw_candidates(tf.constant([5, 6])), tf.constant([3, 4])
    changes = synthesis(history, history != 0, target, scores, candidates, seed)
    vectors, (history_places, candidate_places) = model.item_tower.look_up_once(history, candidates)
    placed, changes = changes.naming(candidate_places), changes.naming(candidates)
    users, others = model.user_tower.encode_counterfactuals(history_places, history != 0, placed, vectors)
    together = np.concatenate([users[:, tf.newaxis], others], axis=1)
    written = np.concatenate([history[:, tf.newaxis], changes.write_out(history)], axis=1)
    assert (written[:, 1:] != written[:, :1]).any()
    for b, length in enumerate(LENGTHS):
        concepts = model.item_tower(tf.constant(written[b, :, :length]))
        without_padding = model.user_tower(concepts, tf.ones(concepts.shape[:2], tf.bool))
        np.testing.assert_allclose(together[b], without_padding, rtol=1e-4, atol=1e-5)


class _Loop(UserTower):
    """The sum of the concepts, by a Python loop over tensors."""

    def call(self, concepts_BLD, mask_BL):
        total_BD = tf.zeros_like(concepts_BLD[:, 0])
        for position in tf.range(tf.shape(mask_BL)[1]):
            real_B1 = tf.cast(mask_BL[:, position, tf.newaxis], tf.float32)
            total_BD += concepts_BLD[:, position] * real_B1
        return total_BD


class _LoopOfTensorFlow(_Loop):
    call = tf.function(_Loop.call)


def test_a_python_loop_over_tensors_wants_tf_function():
    """AutoGraph, which takes seconds a run, reads nothing that trains, unless a tower of one's own asks."""
    history = tf.constant([[1, 2, 0], [3, 0, 0]])
    inputs = {"history": history, "target": tf.constant([2, 1])}

    def train(tower):
        model = CauseRec(ItemTower(5, D), tower, SampledSoftmax(FullCatalogue()), max_history=3)
        model.compile(optimizer=SparseAdam(0.01))
        tf.function(model.train_step)(inputs)
        return model

    with pytest.raises(Exception, match=r"decorate this function with @tf\.function"):
        train(_Loop())
    model = train(_LoopOfTensorFlow())
    items = model.item_embeddings()
    np.testing.assert_allclose(
        model.encode(history).numpy(), [items[1] + items[2], items[3]], rtol=0, atol=1e-6
    )

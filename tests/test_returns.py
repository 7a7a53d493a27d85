"""Returns: features and loss against their twins, the ranking against brute force, and that it learns."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

import causerec_tf as cr
import export
from causerec_tf import evaluation, matching, runs
from causerec_tf.data.holdout import evaluation_users
from causerec_tf.errors import InputError
from causerec_tf.negatives import Negatives
from causerec_tf.recipes import compose
from causerec_tf.returns import FEATURES, OwnItems, Returns, own_similarities, return_features
from causerec_tf.settings import Settings
from export.publishing.publish_run import publish_run
from export.towers.user_tower import export_user_tower
from tests import reference
from tests.test_evaluation import users_of
from tests.trainings import FAST, OFTEN, Stop, StopAt, train
from tests.worlds import write_events

rng = np.random.default_rng(4)
HISTORIES = [[5, 2, 5, 9, 5, 2], [7], [1, 1, 1], [3, 4, 8, 4]]


def padded(histories, width):
    rows = np.zeros([len(histories), width], np.int32)
    for row, history in zip(rows, histories, strict=True):
        row[: len(history)] = history
    return rows


@pytest.mark.parametrize("width", [6, 11])  # padding changes nothing
def test_features_equal_their_twin(width):
    similarities = rng.normal(size=[len(HISTORIES), width]).astype(np.float32)
    items, features = return_features(tf.constant(padded(HISTORIES, width)), tf.constant(similarities))
    assert features.shape[2] == len(FEATURES)
    for row, history in enumerate(HISTORIES):
        want = reference.return_features(history, similarities[row])
        at = np.flatnonzero(items[row])
        assert at.tolist() == sorted(want)
        assert items.numpy()[row, at].tolist() == [history[place] for place in at]
        np.testing.assert_allclose(features.numpy()[row, at], [want[place] for place in at], rtol=1e-6)


# The first two targets are returns.
TARGETS, SAMPLE = np.array([2, 7, 6, 9], np.int32), np.array([3, 5, 5, 11, 7, 1, 9], np.int32)


class _Sampler:
    """Draws nothing: stands for a sample that is a part of the catalogue."""

    def log_share(self, num_items):
        return -0.7

    def log_expected_count(self, items, num_items):
        return None


def example(temperature):
    """Users, the table, own items with terms of any size, and the loss of users and table."""
    table = rng.normal(size=[13, 4]).astype(np.float32)
    users = rng.normal(size=[len(HISTORIES), 4]).astype(np.float32)
    history = padded(HISTORIES, 7)
    similarities = np.einsum("bd,bld->bl", users, table[history])
    items = return_features(tf.constant(history), tf.constant(similarities))[0].numpy()
    terms = np.where(items != 0, rng.normal(size=history.shape), 0).astype(np.float32)

    def loss(users, table, terms, **changes):
        candidates = matching.Candidates(
            TARGETS,
            tf.gather(table, TARGETS),
            Negatives(tf.constant(SAMPLE), None),
            tf.gather(table, SAMPLE),
            12,
            OwnItems(items, tf.constant(similarities), terms),
        )._replace(**changes)
        users = tf.convert_to_tensor(users)
        softmax = matching.SampledSoftmax(_Sampler(), temperature=temperature, return_weight=0.3)
        return softmax(users, candidates)

    return users, table, items, terms, loss


def losses_of_twins(users, table, items, terms, temperature):
    """Float [examples, 2]: what vectors learn by, and what r does."""
    found = []
    for row, history in enumerate(HISTORIES):
        own = {item: table[item] for item in history}
        term_of = {item: terms[row, place] for place, item in enumerate(items[row]) if item}
        with_table = (users[row], table[TARGETS[row]], table[SAMPLE], own, TARGETS[row], SAMPLE.tolist())
        weight = 0.3 if TARGETS[row] in own else 1.0
        of_new = weight * reference.softmax_of_new(*with_table, temperature)
        found.append([of_new, reference.softmax_with_returns(*with_table, term_of, -0.7, temperature)])
    return np.array(found)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_the_loss_equals_its_twins(temperature):
    users, table, items, terms, loss = example(temperature)
    want = losses_of_twins(*(one.astype(float) for one in (users, table)), items, terms, temperature)
    np.testing.assert_allclose(loss(users, table, terms), want.sum(axis=1), rtol=1e-5)
    # Counterfactual histories of the same users do not say how often these come back.
    np.testing.assert_allclose(loss(users, table, terms, trains_returns=False), want[:, 0], rtol=1e-5)


def test_vectors_learn_by_the_one_and_r_by_the_other():
    """Gradients against differences of the twins."""
    users, table, items, terms, loss = example(temperature=0.5)
    parts = [tf.constant(one) for one in (users, table, terms)]
    with tf.GradientTape() as tape:
        tape.watch(parts)
        total = tf.reduce_sum(loss(*parts))
    exact = [users.astype(float), table.astype(float), terms.astype(float)]
    for number, got in enumerate(tape.gradient(total, parts)):
        want = np.zeros(exact[number].shape)
        for at in np.ndindex(*want.shape):
            around = []
            for step in (1e-5, -1e-5):
                moved = [one.copy() for one in exact]
                moved[number][at] += step
                around.append(losses_of_twins(moved[0], moved[1], items, moved[2], 0.5).sum(axis=0))
            want[at] = (around[0] - around[1])[1 if number == 2 else 0] / 2e-5
        np.testing.assert_allclose(tf.convert_to_tensor(got), want, rtol=1e-3, atol=1e-5)


def test_similarities_are_those_of_the_nearest_vector_and_have_no_gradient():
    places = np.array([5, 0, 3, 1, 2], np.int32)  # of an item among the vectors; padding is at 5
    history = np.array([[3, 1, 3, 0], [2, 3, 4, 1], [0, 0, 0, 0]], np.int32)
    vectors = rng.normal(size=[6, 2]).astype(np.float32)
    several = rng.normal(size=[3, 4, 2]).astype(np.float32)
    products = np.einsum("bid,bld->bil", several, vectors[places[history]])
    for users, want in ((several, products.max(axis=1)), (several[:, 1], products[:, 1])):
        users, table = tf.constant(users), tf.constant(vectors)
        with tf.GradientTape() as tape:
            tape.watch([users, table])
            got = own_similarities(users, history, table, places[history])
        np.testing.assert_allclose(got, np.where(history != 0, want, 0), rtol=1e-5)
        assert tape.gradient(got, [users, table]) == [None, None]


def trained_by_hand(num_items, tower="mean", similarity="dot"):
    """A model whose return terms are of any size, for want of training."""
    settings = Settings(embedding_dim=8, max_history=5, returns="learned", tower=tower, similarity=similarity)
    model = compose(dataclasses.replace(settings, temperature=0.5), num_items)
    for weight in model.returns.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


@pytest.mark.parametrize(
    ("tower", "similarity"),
    [
        ("mean", "dot"),
        ("comirec_sa", "cosine"),
        pytest.param("mean", "cosine", marks=pytest.mark.long),
        pytest.param("comirec_sa", "dot", marks=pytest.mark.long),
    ],
)
def test_ranking_equals_brute_force(tower, similarity, monkeypatch):
    monkeypatch.setattr(evaluation, "VECTORS_PER_BLOCK", 12)
    num_items = 300
    model = trained_by_hand(num_items, tower, similarity)
    users, histories = users_of(num_items)
    kept, left_out = evaluation.rank_by_policies(model, users, 40, (False, True))

    vectors = model.encode(users.history).numpy()
    several = vectors if vectors.ndim == 3 else vectors[:, None]
    scores = np.einsum("bid,vd->bvi", several, model.item_vectors()).max(axis=2)
    hidden, hidden_bias, out, out_bias = (weight.numpy() for weight in model.returns.weights)
    for row, history in enumerate(users.history):
        read = [int(item) for item in history if item]
        similarities = [scores[row, item - 1] for item in read]
        for place, features in reference.return_features(read, similarities).items():
            term = np.maximum(np.array(features) @ hidden + hidden_bias, 0) @ out + out_bias
            scores[row, read[place] - 1] += 0.5 * term
    np.testing.assert_array_equal(kept, np.argsort(-scores, axis=1, kind="stable")[:, :40] + 1)
    for row, history in zip(left_out, histories, strict=True):
        assert not set(row.tolist()) & set(history.tolist())


def test_before_training_it_ranks_as_a_model_without():
    users, _ = users_of(200)
    models = [
        compose(Settings(embedding_dim=8, max_history=5, returns=one), 200)
        for one in ("as_others", "learned")
    ]
    without, with_returns = (evaluation.rank_users(model, users, 30, exclude_seen=False) for model in models)
    np.testing.assert_array_equal(with_returns, without)


def log_of(history_of, num_users=300, length=12):
    """A log in which every user's events are `history_of(user)`."""
    rows = [
        (f"u{user}", item, place) for user in range(num_users) for place, item in enumerate(history_of(user))
    ]
    users, items, times = zip(*rows, strict=True)
    return pl.DataFrame({"user": users, "item": [f"i{item:03d}" for item in items], "time": times})


@pytest.mark.parametrize("comes_back", [True, False])
def test_it_learns_whether_users_come_back(tmp_path, comes_back):
    draw = np.random.default_rng(1)

    def history_of(_):
        if comes_back:  # two items of one's own, by turns
            return np.tile(draw.choice(80, 2, replace=False), 6)
        return draw.choice(80, 12, replace=False)

    dataset = write_events(log_of(history_of), tmp_path / "log")
    changes = {"returns": "learned", "epochs": 3, "learning_rate": 0.02}
    model, _ = train(tmp_path / "run", dataset, **changes)
    users = evaluation_users(dataset.read("test"), FAST.max_history)
    best = evaluation.rank_users(model, users, 2, exclude_seen=False)
    is_own = np.array([np.isin(row, own) for row, own in zip(best, users.history, strict=True)])
    assert is_own.mean() > 0.95 if comes_back else is_own.mean() < 0.05


@pytest.mark.long
def test_a_stopped_run_goes_on_and_is_loaded_with_what_it_learned(tmp_path):
    draw = np.random.default_rng(2)
    dataset = write_events(log_of(lambda _: np.tile(draw.choice(80, 4, replace=False), 3)), tmp_path / "log")
    whole, _ = train(tmp_path / "whole", dataset, returns="learned")
    with pytest.raises(Stop):
        train(tmp_path / "cut", dataset, returns="learned", callbacks=[StopAt(5)], **OFTEN)
    train(tmp_path / "cut", dataset, returns="learned")
    loaded = runs.load_trained(tmp_path / "cut").model
    for want, got in zip(whole.returns.weights, loaded.returns.weights, strict=True):
        np.testing.assert_array_equal(got, want)
    assert np.abs(loaded.returns.weights[2]).max() > 0

    run = cr.load_run(tmp_path / "cut")
    history = run.dataset.item_ids()[:3]
    answer = run.recommend([history], k=20, exclude_seen=False)
    indices = np.array([[1, 2, 3]], np.int32)
    _, own = loaded.history_scores(indices, loaded.encode(indices))
    scores = dict(zip(answer["item_id"], answer["score"], strict=True))
    assert [scores[item] for item in history] == pytest.approx(own[0].numpy().tolist(), rel=1e-5)
    assert answer["score"].to_list() == sorted(scores.values(), reverse=True)

    # What is published answers as the run does, own items kept.
    publish_run(run, tmp_path / "bundle", warm_up_requests=0)
    retriever = export.Retriever.open(tmp_path / "bundle")
    histories = [history, run.dataset.item_ids()[10:14] * 2]
    for number, served in enumerate(retriever.recommend(histories, 20, exclude_seen=False)):
        wanted = run.recommend(histories, k=20, exclude_seen=False).filter(pl.col("user_id") == number)
        assert served.items == wanted["item_id"].to_list()
        assert served.scores == pytest.approx(wanted["score"].to_list(), abs=1e-4)


def test_what_cannot_learn_returns_is_refused(tmp_path):
    import tensorflow_recommenders as tfrs

    from causerec_tf.model import CauseRec

    parts = compose(Settings(embedding_dim=8), 50)
    with pytest.raises(InputError, match="SampledSoftmax"):
        CauseRec(parts.item_tower, parts.user_tower, tfrs.tasks.Retrieval(), returns=Returns())


@pytest.mark.parametrize("similarity", [pytest.param("dot", marks=pytest.mark.long), "cosine"])
def test_the_exported_tower_scores_the_items_of_a_history(tmp_path, similarity):
    """Every signature answers what the model does, by ids, for histories with gaps and unknown items."""
    num_items = 40
    model = trained_by_hand(num_items, similarity=similarity)
    ids = [f"item {number}" for number in range(1, num_items + 1)]
    export_user_tower(
        tmp_path / "tower",
        item_embeddings=model.item_embeddings(),
        user_tower=model.user_tower,
        item_ids=ids,
        max_history=5,
        version="0123abcd",
        warm_up_histories=[[1, 2, 2]],
        history_scores=model.scores_of_history,
    )
    signatures = tf.saved_model.load(str(tmp_path / "tower")).signatures
    asked = tf.constant([[7, 0, 3, 99, 7], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]], tf.int64)
    names = [["item 7", "", "item 3", "none", "item 7"], [""] * 5, [f"item {n}" for n in range(1, 6)]]
    read = np.array([[7, 3, 7, 0, 0], [0] * 5, [1, 2, 3, 4, 5]], np.int32)
    items, scores = (one.numpy() for one in model.history_scores(read, model.encode(read)))
    for answer in (
        signatures["serving_default"](item_ids=asked),
        signatures["string_ids"](item_ids=tf.constant(names)),
    ):
        np.testing.assert_array_equal(answer["history_items"], items)
        np.testing.assert_allclose(answer["history_scores"], np.where(items > 0, scores, 0), rtol=1e-5)
    assert items.tolist() == [[0, 3, 7, 0, 0], [0] * 5, [1, 2, 3, 4, 5]]

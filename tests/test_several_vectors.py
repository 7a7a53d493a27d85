"""A tower with several vectors a user goes the whole road: evaluation, notebook, bundle, recommendations."""

import json

import numpy as np
import pytest
import tensorflow as tf

import causerec_tf as cr
from causerec_tf import evaluation, runs, training
from causerec_tf.data import holdout
from causerec_tf.settings import Settings
from tests import reference
from tests.pipelines import scripts

MAX_HISTORY, K, INTERESTS = 6, 12, 3


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory):
    """A trained CauseRec-Item around ComiRec-SA, and the histories of its test users."""
    place = tmp_path_factory.mktemp("several")
    dataset = scripts.write_world(place / "world")
    settings = Settings(
        run=str(place / "run"),
        dataset=str(place / "world"),
        tower="comirec_sa",
        num_interests=INTERESTS,
        max_history=MAX_HISTORY,
        method="item",
        sampler="full",
        embedding_dim=8,
        batch_size=256,
        memory_size=500,
        epochs=1,
    )
    assert settings.system == "causerec_item_comirec_sa"
    directory = runs.RunDirectory(place / "run")
    directory.start(settings, dataset)
    model, _ = training.train(settings, dataset, directory)
    users = holdout.evaluation_users(dataset.read("test"), MAX_HISTORY)
    vectors = model.encode(tf.constant(users.history)).numpy()
    assert vectors.shape == (len(users), INTERESTS, 8)
    # They are not one vector three times: the best one changes from item to item.
    best = (vectors @ model.item_vectors().T).argmax(axis=1)
    assert (np.bincount(best.ravel(), minlength=INTERESTS) > 0).all()
    return place, dataset, model, users, vectors


def test_evaluation_ranks_by_the_best_of_the_vectors(run):
    _, _, model, users, vectors = run
    want = reference.top_k(vectors, model.item_vectors(), K)
    np.testing.assert_array_equal(evaluation.rank_users(model, users, K, exclude_seen=False), want)


def test_the_notebook_answers_by_the_best_of_the_vectors(run):
    loaded = cr.load_run(run[0] / "run")
    one, *others = loaded.dataset.item_ids()[4:7]
    vectors = loaded.user_vectors([[one, *others], [one]])
    assert vectors["interest"].to_list() == [0, 1, 2, 0, 1, 2]
    answer = loaded.recommend([[one, *others]], k=3, exclude_seen=False)
    table = np.stack(loaded.item_vectors()["vector"].to_numpy())
    best = (np.stack(vectors["vector"].to_numpy())[:3] @ table.T).max(axis=0)
    np.testing.assert_allclose(answer["score"], np.sort(best)[::-1][:3], rtol=1e-4)


def test_a_bundle_recommends_by_the_best_of_the_vectors_and_nothing_twice(run):
    place, dataset, model, users, vectors = run
    ids = dataset.item_ids()
    with (place / "histories.jsonl").open("w") as file:
        for number, history in enumerate(users.history):
            known = [ids[item - 1] for item in history if item]
            file.write(json.dumps({"user_id": str(number), "history": known}) + "\n")
    for script, flags in (
        ("export/bundle.py", "--run=run --bundle=bundle"),
        ("pipelines/retrieve.py", f"--bundle=bundle --input=histories.jsonl --output=top.jsonl --k={K}"),
    ):
        done = scripts.run(script, *flags.split(), cwd=place)
        assert done.returncode == 0, done.stderr
    table = model.item_vectors()
    want = reference.top_k(vectors, table, K, excluded=users.history.tolist())
    answers = [json.loads(line) for line in (place / "top.jsonl").read_text().splitlines()]
    assert len(answers) == len(users) > 20
    for answer, items, several in zip(answers, want, vectors, strict=True):
        assert answer["items"] == [ids[item - 1] for item in items]
        assert len(set(answer["items"])) == K
        scores = [(several @ table[item - 1]).max() for item in items]
        np.testing.assert_allclose(answer["scores"], scores, rtol=1e-4, atol=1e-5)

"""Each tower learns a generated world; where the order carries the signal, those that see it win."""

import numpy as np
import pytest

from causerec_tf import evaluation, runs, training
from causerec_tf.data import holdout
from causerec_tf.settings import TOWERS, Settings
from tests.worlds import write_world


@pytest.fixture(name="interests", scope="module")
def fixture_interests(tmp_path_factory):
    """240 items in twelve interests: what a user did tells what he likes."""
    directory = tmp_path_factory.mktemp("interests") / "world"
    return write_world(directory, num_users=900, num_items=240, num_interests=12, events_per_user=20)


@pytest.fixture(name="order", scope="module")
def fixture_order(tmp_path_factory):
    """60 items, each with one successor: nothing but the last item tells the next."""
    directory = tmp_path_factory.mktemp("order") / "world"
    return write_world(
        directory, num_users=500, num_items=60, num_interests=6, events_per_user=20, sequential=True
    )


def train(directory, dataset, **changes):
    settings = Settings(
        run=str(directory),
        dataset=str(dataset.directory),
        embedding_dim=16,
        max_history=8,
        batch_size=256,
        sampler="full",
        learning_rate=0.01,
        **changes,
    )
    run = runs.RunDirectory(directory)
    run.start(settings, dataset)
    return training.train(settings, dataset, run)[0]


QUICK = ("mean", "comirec_sa")  # one vector, several; the others take their time
# From random maps ComiRec-DR has to learn one for each position and takes three times as long.
CASES = [
    *(
        pytest.param(tower, {"epochs": 3}, id=tower, marks=[pytest.mark.long] * (tower not in QUICK))
        for tower in TOWERS
        if tower != "comirec_dr"
    ),
    *(
        pytest.param("comirec_dr", changes, id=name, marks=pytest.mark.long)
        for name, changes in (
            ("comirec_dr", {"epochs": 3, "routing_init": "identity"}),
            ("comirec_dr_random", {"epochs": 9}),
        )
    ),
]


@pytest.mark.parametrize(("tower", "changes"), CASES)
def test_learns_interests(tmp_path, interests, tower, changes):
    model = train(tmp_path / "run", interests, tower=tower, **changes)
    users = holdout.evaluation_users(interests.read("test"), model.max_history)
    ranked = evaluation.rank_users(model, users, 50, exclude_seen=False)
    popular = evaluation.rank_by_popularity(interests.num_items, users, 50, exclude_seen=False)
    recall = evaluation.figures(ranked, users)["recall@20"]
    # 20 of 240 items at random find 1/12, popularity .24.
    assert recall > 0.35
    assert recall > 1.4 * evaluation.figures(popular, users)["recall@20"]


def next_item_found(model, dataset):
    """How often the one item ranked first is the very next one."""
    users = holdout.evaluation_users(dataset.read("test"), model.max_history)
    ranked = evaluation.rank_users(model, users, 1, exclude_seen=False)
    following = users.targets.items[users.targets.row_splits[:-1]]
    return np.mean(ranked[:, 0] == following)


@pytest.mark.long
def test_towers_that_see_the_order_beat_mean_pooling(tmp_path, order):
    found = {
        tower: next_item_found(train(tmp_path / tower, order, tower=tower, epochs=4), order)
        for tower in ("mean", "gru4rec", "sasrec")
    }
    # An oracle finds .8 * .9 = .72 and a little.
    assert found["gru4rec"] > found["mean"] + 0.2
    assert found["sasrec"] > found["mean"] + 0.2

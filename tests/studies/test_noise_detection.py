"""Planted noise: the AUC by counting pairs, the join by user and time, twin worlds."""

import numpy as np
import pytest

from causerec_tf.data import holdout
from causerec_tf.data.generated import synthetic
from causerec_tf.errors import InputError
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from causerec_tf.studies import noise_detection
from tests.worlds import write_world

WORLD = {"num_users": 150, "num_items": 60, "num_interests": 6, "events_per_user": 20}


def pairs_auc(low, high):
    if not low or not high:
        return np.nan
    return np.mean([1.0 if a < b else 0.5 if a == b else 0.0 for a in low for b in high])


def test_auc_counts_pairs_and_padding_is_as_if_deleted():
    rng = np.random.default_rng(0)
    scores, noise = rng.integers(-4, 5, [200, 9]).astype(np.float32), rng.random([200, 9]) < 0.3
    mask = np.arange(9) < rng.integers(0, 10, 200)[:, np.newaxis]
    want = [
        pairs_auc(s[m & n].tolist(), s[m & ~n].tolist()) for s, n, m in zip(scores, noise, mask, strict=True)
    ]
    assert noise_detection.row_auc(scores, noise, mask) == pytest.approx(want, nan_ok=True)


def test_worlds_of_one_seed_differ_in_the_noise_alone():
    clean, noisy = (synthetic.generate(**WORLD, noise_rate=rate) for rate in (0.0, 0.2))
    assert not clean.is_noise.any() and noisy.is_noise.any()
    for name in ("users", "times"):
        assert np.array_equal(getattr(clean, name), getattr(noisy, name))
    assert np.array_equal(clean.items[~noisy.is_noise], noisy.items[~noisy.is_noise])


@pytest.fixture(name="twins", scope="module")
def fixture_twins(tmp_path_factory):
    place = tmp_path_factory.mktemp("twins")
    rates = {"clean": 0.0, "noisy": 0.2}
    worlds = {name: synthetic.generate(**WORLD, noise_rate=rate) for name, rate in rates.items()}
    datasets = {name: write_world(place / name, **WORLD, noise_rate=rate) for name, rate in rates.items()}
    return worlds, datasets


def test_the_noise_is_found_again_by_user_and_time(twins):
    worlds, datasets = twins
    sequences, world = datasets["noisy"].read("test"), worlds["noisy"]
    found = noise_detection.find_noise(sequences, datasets["noisy"].item_ids(), world)
    at = 0
    for user, items in zip(sequences.user_ids, sequences.rows(), strict=True):
        assert found[at : at + len(items)].tolist() == world.is_noise[world.users == user].tolist()
        at += len(items)
    assert at == len(found) > 0
    with pytest.raises(InputError, match="not of this world"):
        noise_detection.find_noise(
            sequences, datasets["noisy"].item_ids(), synthetic.generate(**WORLD, seed=1)
        )


@pytest.mark.parametrize("known", ["clean", "noisy"])
@pytest.mark.parametrize("history_of", ["clean", "noisy"])
def test_users_between_have_the_history_of_one_world_and_the_targets_of_the_clean_one(
    twins, history_of, known
):
    """The items are told from the worlds, by id."""
    worlds, datasets = twins
    users = noise_detection.users_between(datasets[history_of], datasets["clean"], datasets[known], "test", 5)
    ids = np.array(["", *datasets[known].item_ids()], object)
    assert len(users) > 5
    for number, user in enumerate(users.user_ids):
        mine = worlds["clean"].users == user
        cut = 8 * mine.sum() // 10
        assert ids[users.targets[number]].tolist() == list(dict.fromkeys(worlds["clean"].items[mine][cut:]))
        assert ids[users.seen[number]].tolist() == worlds[history_of].items[mine][:cut].tolist()
        history = worlds[history_of].items[mine][:cut][-5:]
        assert ids[users.history[number]].tolist() == [*history, *[""] * (5 - len(history))]
    assert users.history.dtype == users.seen.items.dtype == users.targets.items.dtype == np.int32


def test_worlds_that_are_no_twins_are_refused(twins, tmp_path):
    _, datasets = twins
    other = write_world(tmp_path / "other", num_users=90, num_items=12, num_interests=6)
    with pytest.raises(InputError, match="have other users: prepare both anew"):
        noise_detection.users_between(other, datasets["clean"], datasets["clean"], "test", 5)
    items = np.arange(datasets["clean"].num_items + 1)
    with pytest.raises(InputError, match=r"other does not have the item item-000\d\d of .*clean"):
        noise_detection.renumber(items, datasets["clean"], other)
    assert noise_detection.renumber(np.array([[0, 1], [2, 0]]), other, other).tolist() == [[0, 1], [2, 0]]


def test_detection_equals_a_loop_over_users(twins):
    worlds, datasets = twins
    world, dataset = worlds["noisy"], datasets["noisy"]
    model = compose(Settings(embedding_dim=8, max_history=7), dataset.num_items)
    got = noise_detection.detection(model, dataset, world)
    number = {item: place for place, item in enumerate(dataset.item_ids(), start=1)}
    table = model.item_embeddings()
    aucs, low_half, high_half = [], [], []
    for user in holdout.evaluation_users(dataset.read("test"), 7).user_ids:
        mine = world.users == user
        items, noise = [number[item] for item in world.items[mine]], world.is_noise[mine]
        cut = 8 * len(items) // 10
        if noise[cut]:
            continue
        first = max(0, cut - 7)
        scores = [float(table[item] @ table[items[cut]]) for item in items[first:cut]]
        flags = noise[first:cut].tolist()
        low = [s for s, n in zip(scores, flags, strict=True) if n]
        aucs.append(pairs_auc(low, [s for s, n in zip(scores, flags, strict=True) if not n]))
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        half = (len(order) + 1) // 2
        high_half += [flags[place] for place in order[:half]]
        low_half += [flags[place] for place in order[half:]]
    assert got["users"] == len(aucs)
    assert got["auc"]["mean"] == pytest.approx(np.nanmean(aucs), abs=0.01)  # sums in another order may tie
    assert got["noise_in_dispensable"] == pytest.approx(np.mean(low_half), abs=0.01)
    assert got["noise_in_indispensable"] == pytest.approx(np.mean(high_half), abs=0.01)
    assert list(got["auc_by_recency"]) == [str(place) for place in range(1, 8)]

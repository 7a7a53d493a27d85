"""The whole road by the scripts: a log, a dataset, a trained model, a bundle, recommendations.

The twin reads the variables of the kept epoch from the checkpoint and works out everything else from the
log itself: who is a test user, what he had seen, the user vectors, the ranking, the figures.
"""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.data.generated import synthetic
from tests import reference, reference_data
from tests.pipelines import scripts

K, MAX_HISTORY = 30, 6


@pytest.fixture(name="world", scope="module")
def fixture_world():
    """240 items in twelve interests; ids that are numbers, not dense, and negative."""
    made = synthetic.generate(num_users=800, num_items=240, num_interests=12, events_per_user=20)
    ids = [str(7 * number - 50) for number in made.item_index]
    return list(zip(made.users.tolist(), ids, made.times.tolist(), strict=True))


@pytest.fixture(name="road", scope="module")
def fixture_road(tmp_path_factory, world):
    """The directory in which the scripts have run, each with success."""
    place = tmp_path_factory.mktemp("road")
    # In no order: only sorting by user and time makes sequences of it.
    rows = np.random.default_rng(0).permutation(np.array(world, dtype=object)).tolist()
    with (place / "log.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("who", "what", "when"), *rows])
    with (place / "histories.jsonl").open("w") as file:
        for user, (seen, _) in held_out(world, "test").items():
            file.write(json.dumps({"user_id": user, "history": seen}) + "\n")
        file.write(json.dumps({"user_id": "nobody", "history": []}) + "\n")
    columns = "--user_column=who --item_column=what --time_column=when"
    small = f"--method=item --sampler=full --batch_size=256 --epochs=5 --max_history={MAX_HISTORY}"
    for script, flags in (
        ("pipelines/prepare.py", f"--input=log.tsv --output=world --num_shards=3 {columns}"),
        ("pipelines/train.py", f"--dataset=world --run=run {small}"),
        ("export/bundle.py", "--run=run --bundle=bundle"),
        ("pipelines/retrieve.py", f"--bundle=bundle --input=histories.jsonl --output=top.jsonl --k={K}"),
    ):
        done = scripts.run(script, *flags.split(), cwd=place)
        assert done.returncode == 0, done.stderr
    return place


def held_out(world, split):
    """User -> the first 80 % of what he did and, of the rest, the distinct items."""
    number = ("train", "validation", "test").index(split)
    users = {}
    for user, events in reference_data.sequences(world).items():
        if reference_data.split_and_shard(user, 0, 1)[0] == number:
            items = [item for item, _ in events]
            cut = len(items) * 8 // 10
            users[user] = items[:cut], list(dict.fromkeys(items[cut:]))
    return users


class Twin:
    """The trained model as arrays."""

    def __init__(self, place):
        checkpoint = tf.train.load_checkpoint(tf.train.latest_checkpoint(place / "run" / "best"))
        shapes = checkpoint.get_variable_to_shape_map()

        def variables(part):
            names = sorted(name for name in shapes if name.startswith("user_tower/") and part in name)
            return [checkpoint.get_tensor(name).astype(np.float64) for name in names]

        self.table = checkpoint.get_tensor("item_tower/table/.ATTRIBUTES/VARIABLE_VALUE").astype(np.float64)
        self.kernels, self.biases = variables("/kernel/"), variables("/bias/")
        self.ids = (place / "world" / "items.txt").read_text().split()

    def scores(self, history):
        rows = [self.ids.index(item) + 1 for item in history][-MAX_HISTORY:]
        user = reference.mean_pooling_mlp(self.table[rows], self.kernels, self.biases)
        return dict(zip(self.ids, self.table[1:] @ user, strict=True))


def test_the_bundle_answers_with_the_exact_ranking_of_the_training_model(road, world):
    twin, users = Twin(road), held_out(world, "test")
    answers = [json.loads(line) for line in (road / "top.jsonl").read_text().splitlines()]
    assert [answer["user_id"] for answer in answers] == [*users, "nobody"]
    assert len(users) > 30
    for answer in answers[:-1]:
        seen = users[answer["user_id"]][0]
        scores = twin.scores(seen)
        want = sorted((item for item in scores if item not in seen), key=lambda item: -scores[item])[:K]
        assert not set(answer["items"]) & set(seen)
        assert answer["items"] == want
        np.testing.assert_allclose(answer["scores"], [scores[item] for item in want], rtol=1e-4, atol=1e-5)
        assert (answer["num_unknown"], answer["fallback"]) == (0, False)
    assert answers[-1]["fallback"] and answers[-1]["items"] == twin.ids[:K]


def test_the_record_holds_the_figures_of_that_model_and_it_has_learned(road, world):
    twin = Twin(road)
    record = json.loads((road / "run" / "metrics.json").read_text())
    for split in ("validation", "test"):
        users = held_out(world, split).values()
        for k in (20, 50):
            values = []
            for seen, targets in users:
                scores = twin.scores(seen)
                ranked = sorted(scores, key=lambda item: -scores[item])
                values.append(reference.ranking_metrics(ranked, targets, k))
            for name in values[0]:
                mean = np.mean([one[name] for one in values])
                assert record[split][f"{name}@{k}"] == pytest.approx(mean, abs=1e-6), (split, name, k)
    assert record["test"]["recall@20"] > 1.5 * record["pop"]["recall@20"]

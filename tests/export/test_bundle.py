"""The publishing command in processes of its own, with a stand-in for the trained run."""

import json
from pathlib import Path

import pytest

from tests.export import toy
from tests.pipelines import scripts

ROOT = Path(__file__).parents[2]

# Publishes a toy run: `load_trained` is the only door between the training library and the export.
WITH_A_STAND_IN = """
import runpy, sys, types
import numpy as np
import causerec_tf, tensorflow as tf
from causerec_tf.data.sequences import UserSequences
from tests.export import toy

table, tower = toy.embeddings(40, 6), toy.MeanTower(6)
tower.has_unit_length = True  # so it says; what follows from that is in the index
items = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], np.int32)

def load_trained(directory, dataset):
    assert (str(directory), dataset) == ("runs/toy", None)
    return types.SimpleNamespace(
        model=types.SimpleNamespace(
            max_history=4,
            trained_items=None,
            scores_of_history=None,
            item_embeddings=lambda: table,
            item_vectors=lambda: table[1:],
            user_tower=tower,
            encode=lambda history: tower(tf.gather(table, history), history != 0),
        ),
        is_finished=True,
        dataset=types.SimpleNamespace(
            item_ids=lambda: toy.item_ids(40),
            item_names=lambda: toy.item_ids(40),
            protocol={"name": "users"},
            read=lambda split: UserSequences(
                np.array(["a", "b", "c"]), items, np.zeros(13, np.int64), np.array([0, 1, 3, 13])
            ),
        ),
    )

runs = types.ModuleType("causerec_tf.runs")
runs.load_trained = load_trained
sys.modules["causerec_tf.runs"] = causerec_tf.runs = runs
model_card = types.ModuleType("causerec_tf.model_card")
model_card.model_card = lambda trained, evaluations=(): {"system": "toy", "figures": []}
sys.modules["causerec_tf.model_card"] = model_card
runpy.run_path("export/bundle.py", run_name="__main__")
"""


def run(*arguments, code=None):
    return scripts.run_code(code, *arguments) if code else scripts.run("export/bundle.py", *arguments)


def test_a_run_is_published_and_the_histories_of_its_validation_users_warm_it_up(tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    done = run("--run=runs/toy", f"--bundle={tmp_path}/b", code=WITH_A_STAND_IN)
    assert done.returncode == 0, done.stderr
    assert "exact search of 40 items, recall@40 1.0000 against exact search on 2 users" in done.stdout
    assert f"published: {tmp_path}/b/user_tower/1" in done.stdout
    [index] = (tmp_path / "b" / "item_index").glob("*/index.json")
    assert json.loads(index.read_text())["similarity"] == "cosine"
    path = tmp_path / "b" / "user_tower" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(path))
    ]
    histories = [
        tf.make_ndarray(request.inputs["item_ids"]).tolist()
        for request in requests
        if request.model_spec.signature_name == "serving_default"
    ]
    # The first 80 % of two and of ten events, of which the last four; one event leaves no history.
    assert histories == [[[2, 0, 0, 0]], [[8, 9, 10, 11]]]


def test_a_damaged_version_is_mended_by_publishing_the_run_again(tmp_path):
    flags = ["--run=runs/toy", f"--bundle={tmp_path}/b"]
    assert run(*flags, code=WITH_A_STAND_IN).returncode == 0
    (tmp_path / "b" / "user_tower" / "1" / "assets.extra" / "tower.json").unlink()
    again = run(*flags, code=WITH_A_STAND_IN)
    assert again.returncode == 0, again.stderr
    assert f"published: {tmp_path}/b/user_tower/2" in again.stdout
    [index] = (tmp_path / "b" / "item_index").iterdir()
    (index / "index.json").unlink()
    planned = run(*flags, "--dry_run", code=WITH_A_STAND_IN)
    assert planned.returncode == 0, planned.stderr
    again = run(*flags, code=WITH_A_STAND_IN)
    assert again.returncode == 0, again.stderr
    assert (index / "index.json").is_file()
    assert f"{tmp_path}/b/user_tower/2 is this model already; its index" in again.stdout
    for path in (tmp_path / "b" / "user_tower" / "2" / "variables").iterdir():
        path.unlink()
    again = run(*flags, code=WITH_A_STAND_IN)
    assert again.returncode == 0, again.stderr
    assert f"published: {tmp_path}/b/user_tower/3" in again.stdout


def test_another_catalogue_is_told_and_one_that_has_almost_nothing_in_common_louder(tmp_path):
    flags = ["--run=runs/toy", f"--bundle={tmp_path}/b"]
    first = run(*flags, code=WITH_A_STAND_IN)
    assert first.returncode == 0 and "note:" not in first.stdout, first.stderr

    def planned(item_ids):
        code = WITH_A_STAND_IN.replace("item_ids=lambda: toy.item_ids(40)", f"item_ids=lambda: {item_ids}")
        done = run(*flags, "--dry_run", code=code)
        assert done.returncode == 0 and "would be published" in done.stdout, done.stderr
        return done

    next_day = planned("toy.item_ids(40)[:2:-1] + ['new 1', 'new 2', 'new 3']")
    assert (
        "note: 3 of the run's 40 items are new, 3 of the 40 of version 1 are gone, 37 are in both (92.5% of"
        " those before)\n"
    ) in next_day.stdout
    assert "changed by" not in next_day.stdout and "WARNING" not in next_day.stderr
    [description] = (tmp_path / "b" / "item_index").glob("*/index.json")
    toy.describe_again(description, update={"of": "a1", "digest": "b2"})
    toy.sign_again(description.parent)
    wrong = planned("toy.item_ids(40)[:3] + [f'other {n}' for n in range(37)]")
    assert "note: the items of version 1 were changed by export/update_index.py" in wrong.stdout
    assert (
        "WARNING: is --run=runs/toy meant for this bundle? 37 of the run's 40 items are new, 37 of the 40 of"
        " version 1 are gone, 3 are in both. --rollback takes it back.\n"
    ) in wrong.stderr


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "--bundle is empty"),
        ("{}/shop.csv", "shop.csv is a file; a bundle is a directory"),
        ("{}/shop.csv/b", "shop.csv is a file; a bundle is a directory"),
        ("{}/shop", "shop is not a bundle: it has no user_tower and holds 'train.tfrecord'"),
    ],
)
def test_a_place_that_is_something_else_ends_with_2(tmp_path, place, message):
    (tmp_path / "shop").mkdir()
    files = [tmp_path / "shop.csv", tmp_path / "shop" / "train.tfrecord"]
    for path in files:
        path.write_text("")
    done = run("--run=runs/toy", f"--bundle={place.format(tmp_path)}", "--dry_run", code=WITH_A_STAND_IN)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == sorted(files)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Give either --run=DIR"),
        (["--run=runs/toy", "--rollback"], "Give either --run=DIR"),
        (["--run=nowhere"], "nowhere"),
        (["--run=nowhere", "--warm_up_requests=334"], "flag --warm_up_requests=334"),
        (["--run=nowhere", "--warm_up_requests=-1"], "flag --warm_up_requests=-1"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(tmp_path, flags, message):
    done = run(f"--bundle={tmp_path}/b", *flags)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())

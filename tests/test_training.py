"""A run from start to end on generated worlds: it learns, and it refuses a mix-up."""

import dataclasses
import json
import shutil

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from causerec_tf import flagfiles, measurement, recipes, records, runs, training
from causerec_tf.data import sequences, windows
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.errors import InputError
from causerec_tf.progress import Progress
from tests.trainings import FAST, OFTEN, Stop, StopAt, prepare, settings_of, train
from tests.worlds import write_events, write_world


def measured_on(model, dataset, split):
    """The model and POP on the users of a split, whether seen items are left out -> figures."""
    users = measurement.users_of(dataset, split, model.max_history)
    return measurement.measure(model, users, TrainingEvents(dataset), baselines=recipes.baselines(["pop"]))


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("training") / "world")


CHANGES = {"epochs": 1, "choose_by": "ndcg@10_without_seen"}


@pytest.fixture(name="trained", scope="module")
def fixture_trained(dataset, tmp_path_factory):
    """A run of these changes, its model and progress. Look at it; to change something, copy it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    return run, *train(run, dataset, **CHANGES)


def test_the_learning_rate_falls_to_zero_over_all_epochs(tmp_path, dataset):
    steps, rates = windows.num_batches(dataset, FAST.batch_size), []

    class Note(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    train(tmp_path / "run", dataset, [Note()], learning_rate=0.01, learning_rate_schedule="linear")
    falling = [0.01 * (1 - step / (2 * steps)) for step in range(2 * steps)]
    assert rates == pytest.approx(falling, rel=1e-4)


def test_a_checkpoint_of_an_earlier_version_has_no_losses():
    progress = Progress(batch=5)
    state = json.loads(progress.serialize())
    del state["losses"]
    progress.deserialize(json.dumps(state))
    assert progress.losses.plus({"matching": 2.0}, 3).means() == {"matching": 2.0}


@pytest.mark.parametrize("method", [pytest.param(one, marks=pytest.mark.long) for one in ("base", "item")])
def test_learns_the_generated_world(tmp_path, method):
    dataset = prepare(tmp_path / "world", num_users=900)
    model, progress = train(tmp_path / "run", dataset, method=method, epochs=6)
    settings = settings_of("", dataset, method=method)
    record = records.run_record(settings, dataset, progress, measured_on(model, dataset, "test"), command="")
    # 240 items, 12 interests: popularity finds a twelfth of what an oracle of interests finds.
    assert record["test"]["recall@20"] > 1.8 * record["pop"]["recall@20"]
    assert record["test"]["recall@20"] > 0.25
    loaded = runs.load_trained(tmp_path / "run")
    np.testing.assert_array_equal(loaded.model.item_embeddings(), model.item_embeddings())


def test_finds_nothing_where_there_is_nothing(tmp_path):
    dataset = prepare(tmp_path / "noise", num_users=900, events_per_user=15, learnable=False)
    model, _ = train(tmp_path / "run", dataset, method="item")
    measured = measured_on(model, dataset, "test")[False]
    # 20 of 240 items at random: recall 1/12, with some 90 users of 3 targets a deviation of .017.
    assert measured.model["recall@20"] == pytest.approx(20 / 240, abs=0.045)


def test_checkpoints_without_their_settings_are_refused(tmp_path, dataset, trained):
    shutil.copytree(trained[0], tmp_path / "run")
    (tmp_path / "run" / "flags.txt").unlink()
    with pytest.raises(InputError, match=r"checkpoints but no flags\.txt"):
        train(tmp_path / "run", dataset, **CHANGES)


def test_a_run_starts_in_a_directory_that_is_empty_or_its_own(tmp_path, dataset):
    settings = settings_of(tmp_path / "run", dataset)
    run = runs.RunDirectory(tmp_path / "run")
    run.path.mkdir()
    # Killed before it had its flagfile.
    (run.path / "dataset.txt").write_text("ha")
    (run.path / ".flags.txt.unfinished").mkdir()
    for name in ("lock", "new"):
        (run.path / ".flags.txt.unfinished" / name).write_text("ha")
    with run.locked():
        run.start(settings, dataset)
    assert sorted(path.name for path in run.path.iterdir()) == [".lock", "dataset.txt", "flags.txt"]
    run.check_dataset(dataset)
    run.flags.unlink()
    (run.path / "notes.txt").write_text("somebody's own")
    with pytest.raises(InputError, match=r"run is not empty and no run: it has notes\.txt but no flags\.txt"):
        run.start(settings, dataset)


@pytest.mark.long
@pytest.mark.parametrize("choose_by", [pytest.param("mrr@10", marks=pytest.mark.long), "hr@20_without_seen"])
def test_the_epoch_is_chosen_by_the_figure_that_is_asked_for(tmp_path, dataset, choose_by, monkeypatch):
    scores = iter([0.3, 0.5, 0.4, 0.1])
    validate = training._validate

    def scripted(*arguments):
        return validate(*arguments) | {choose_by: next(scores)}

    monkeypatch.setattr(training, "_validate", scripted)
    changes = {"choose_by": choose_by, "epochs": 9, "patience": 2}
    _, progress = train(tmp_path / "run", dataset, **changes)
    assert progress.epoch == 4 and progress.best.number == 2
    settings = settings_of(tmp_path / "run", dataset, **changes)
    record = records.run_record(settings, dataset, progress, None, command="")
    assert [one[f"validation_{choose_by}"] for one in record["by_epoch"]] == [0.3, 0.5, 0.4, 0.1]
    name = choose_by.removesuffix("_without_seen")
    chosen = f"validation {name}" + (", seen items left out" if "without" in choose_by else "")
    assert record["protocol"]["epoch_chosen_by"] == chosen
    with pytest.raises(InputError, match=f"--choose_by={choose_by} there, --choose_by=ndcg@10 asked for"):
        train(tmp_path / "run", dataset, **changes | {"choose_by": "ndcg@10"})


def test_validation_without_seen_items_is_that_of_evaluation(dataset, trained):
    _, model, progress = trained
    kept, left_out = (one.model for one in measured_on(model, dataset, "validation").values())
    measured = progress.best.validation
    assert {name for name in measured if "_without_seen" not in name} < set(kept)
    for name, value in measured.items():
        of_policy = left_out if name.endswith("_without_seen") else kept
        assert value == pytest.approx(of_policy[name.removesuffix("_without_seen")], abs=1e-6)
    assert measured["ndcg@10_without_seen"] != measured["ndcg@10"]


def test_who_has_no_new_target_cannot_choose_without_seen_items(tmp_path):
    events = pl.DataFrame({"user": [f"u{n // 6}" for n in range(600)], "item": ["a", "b"] * 300, "time": 0})
    dataset = write_events(events, tmp_path / "returns")
    with pytest.raises(InputError, match=r"every target of the validation users .* Choose by hr@10"):
        train(tmp_path / "run", dataset, choose_by="hr@10_without_seen")


@pytest.mark.long
def test_several_steps_an_execution_are_the_same_steps(tmp_path, dataset):
    one, _ = train(tmp_path / "one", dataset, epochs=1)
    with pytest.raises(Stop):
        train(tmp_path / "several", dataset, [StopAt(4)], epochs=1, steps_per_execution=5, **OFTEN)
    several, _ = train(tmp_path / "several", dataset, epochs=1, steps_per_execution=5, **OFTEN)
    for ours, theirs in zip(several.trainable_variables, one.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_another_setting_or_dataset_is_refused(tmp_path, dataset, trained):
    run = trained[0]
    with pytest.raises(InputError, match=r"--learning_rate=0\.005 there, --learning_rate=0\.1 asked for"):
        train(run, dataset, **CHANGES, learning_rate=0.1)
    other = prepare(tmp_path / "other", seed=5)
    with pytest.raises(InputError, match="was trained on"):
        runs.RunDirectory(run).check_dataset(other)


def test_a_loss_that_is_not_finite_is_explained(tmp_path, dataset):
    with pytest.raises(training.NonFiniteLossError, match=r"step \d+ .* --learning_rate"):
        train(tmp_path / "run", dataset, method="item", learning_rate=1e30)


def test_the_explanation_names_the_parts_and_every_setting_that_may_help():
    settings = dataclasses.replace(FAST, method="item", lambda_co=2.0, lambda_ii=3.0, lambda_cm=0.5)
    message = "assertion failed: [loss is not finite at step] [7] [matching=] [1.5] [cm=] [-nan]\n\t [[{{node"
    text = str(training.explain_non_finite(message, settings))
    assert text.startswith("loss is not finite at step 7 matching=1.5 cm=nan. The likely cause")
    for setting in (
        *("--lambda_co=2.0", "--lambda_ii=3.0", "--lambda_cm=0.5"),
        *("--learning_rate (now 0.005)", "--temperature (now 1.0)"),
    ):
        assert setting in text


def test_a_dataset_that_was_moved_is_named_anew(tmp_path, dataset, trained, monkeypatch):
    shutil.copytree(dataset.directory, tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "shop"
    settings = dataclasses.replace(settings_of("runs/shop", dataset, **CHANGES), dataset="world")
    runs.RunDirectory(run).start(settings, sequences.open_dataset("world"))
    for kept in ("best", "checkpoints"):
        shutil.copytree(trained[0] / kept, run / kept)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(InputError, match=r"world is no dataset") as error:
        runs.load_trained("../runs/shop")
    assert str(error.value).endswith(
        "The place world stands in ../runs/shop/flags.txt, relative to the working directory. If the run's"
        " dataset is elsewhere, name its place with --dataset."
    )
    loaded = runs.load_trained("../runs/shop", "../world")
    assert loaded.dataset.directory.samefile(tmp_path / "world")
    np.testing.assert_array_equal(loaded.model.item_embeddings(), trained[1].item_embeddings())
    write_world(tmp_path / "another", num_users=40, num_items=20, num_interests=2)
    with pytest.raises(InputError, match="was trained on"):
        runs.load_trained("../runs/shop", "../another")


def test_flags_file_makes_the_same_settings(tmp_path, dataset):
    settings = settings_of(tmp_path / "run", dataset, weight_decay=1e-5, temperature=0.07)
    runs.RunDirectory(tmp_path / "run").start(settings, dataset)
    assert flagfiles.read(tmp_path / "run" / "flags.txt").acting() == settings.acting()
    assert "memory_size" not in settings.acting()  # the base model has none


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "causal"}, "wanted one of base, item"),
        ({"epochs": 0}, "--epochs=0: wanted 1 or more"),
        ({"replacement_rate": 1.5}, "at most 1"),
        ({"temperature": 0.0}, "more than 0"),
        ({"method": "item", "num_positives": 0, "num_negatives": 0}, "nothing to synthesise"),
        ({"method": "interest", "nearest_of": 2}, "nearest_of=2.*wanted 1"),
        ({"nearest_of": 0}, "nearest_of=0: wanted 1 or more"),
        ({"choose_by": "ndcg@15"}, "choose_by=ndcg@15: wanted recall, ndcg, hr or mrr at 10, 20 or 50"),
    ],
)
def test_settings_out_of_bounds(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(FAST, **changes)

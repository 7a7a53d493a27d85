"""Settings: which act, which make a run another one, and how flagfiles of all versions are read."""

import dataclasses
import pkgutil

import pytest

from causerec_tf import flagfiles, recipes
from causerec_tf.errors import InputError
from causerec_tf.settings import GROUPS, Settings


def written(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_flagfile_may_have_comments_blank_lines_and_other_flagfiles(tmp_path):
    written(tmp_path / "other.flags", "# of others", "--epochs=7", "--tower=gru4rec")
    path = written(tmp_path / "a.flags", "# mine", "", f"--flagfile={tmp_path}/other.flags", "--epochs=9")
    assert flagfiles.read(path) == Settings(epochs=9, tower="gru4rec")


def test_every_flagfile_of_the_package_is_read():
    assert set(recipes.names()) >= {"quickstart", "recommended"}
    for name in recipes.names():
        assert flagfiles.read(recipes.flagfile(name)).method == "item"


def test_a_run_of_an_earlier_version_is_read(tmp_path):
    path = written(tmp_path / "flags.txt", "--method=item", "--recipe=tuned", "--lambda_cn=0.0", "--seed=3")
    assert flagfiles.read(path) == Settings(method="item", recipe_label="tuned", seed=3)
    record = {"recipe": "tuned", "lambda_cn": 0.0, "seed": 3, "method": "item"}
    assert flagfiles.from_record(record) == flagfiles.read(path)


def test_a_setting_that_is_gone_and_acted_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--lambda_cn=0.1 is a setting of an earlier version"):
        flagfiles.read(written(tmp_path / "flags.txt", "--method=item", "--lambda_cn=0.1"))
    with pytest.raises(InputError, match="have colour, which this version does not have"):
        flagfiles.from_record({"colour": "red"})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["--colour=red"], "Unknown command line flag 'colour'"),
        (["--recipe=recommended"], "a recipe is named on the command line"),
        (["--epochs=0"], "--epochs=0: wanted 1 or more"),
        (["--tower=sasrec", "--num_heads=3"], "--num_heads=3: wanted a divisor of --embedding_dim=64"),
        (["--dropout=1"], "--dropout=1.0: wanted 0 or more, less than 1"),
    ],
)
def test_a_flagfile_that_cannot_be(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        flagfiles.read(written(tmp_path / "flags.txt", *lines))


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({"nearest_of": 4}, ["nearest_of"], r"--nearest_of=4 has no effect here: it acts with --method=item"),
        ({"attention_power": 2.0}, ["attention_power"], "it acts with --tower=mind"),
        ({"num_sampled": 9, "sampler": "full"}, ["num_sampled"], "--sampler=uniform, log_uniform or mixed"),
        (
            {"num_sampled": 9, "sampler": "in_batch"},
            ["num_sampled"],
            "--sampler=uniform, log_uniform or mixed",
        ),
        ({"margin": 0.5}, ["margin"], "--matching=cosine_contrastive"),
        (
            {"temperature": 0.5, "matching": "cosine_contrastive"},
            ["temperature"],
            "--matching=softmax",
        ),
        ({"num_concepts": 9, "method": "item"}, ["num_concepts"], "--method=interest or hierarchical"),
        (
            {"method": "item", "lambda_co": 0.0, "lambda_ii": 0.0},
            ["method", "lambda_co"],
            "are all 0. Give one of them a weight, or use --method=base",
        ),
        ({"method": "item", "num_negatives": 0}, ["lambda_co"], "--num_positives and --num_negatives of 1"),
        ({"training_rows": "sequences", "tower": "mind"}, ["training_rows"], r"--tower=mean\|youtube_dnn"),
        (
            {"training_rows": "sequences", "tower": "sasrec", "block": "bsarec"},
            ["training_rows"],
            "not --block=bsarec, but bsarec_causal",
        ),
        (
            {"training_rows": "sequences", "tower": "gru4rec", "method": "interest"},
            ["training_rows"],
            "--method=base or item",
        ),
        (
            {"tower": "sasrec", "method": "item", "counterfactual_positions": 2},
            ["counterfactual_positions"],
            "--training_rows=sequences and --method=item",
        ),
        ({"tower": "gru4rec", "dropout": 0.2}, ["dropout"], r"--tower=sasrec\|mean_sasrec"),
        ({"tower": "sasrec", "filter_share": 0.2}, ["filter_share"], "--block=bsarec or bsarec_causal"),
    ],
)
def test_a_setting_that_was_asked_for_and_has_no_effect_is_refused(settings, given, message):
    with pytest.raises(InputError, match=message):
        Settings(**settings).check_acting(given)


def test_a_setting_that_a_recipe_brings_may_have_no_effect():
    recommended = flagfiles.read(recipes.flagfile("recommended"))
    base = dataclasses.replace(recommended, method="base")
    base.check_acting(["method", "dataset", "run"])
    assert "nearest_of" not in base.acting() and "nearest_of" in recommended.acting()
    assert "nearest_of" not in base.to_flagfile()


def test_rows_that_a_recipe_brings_are_windows_for_a_tower_that_is_not_causal():
    sequences = Settings(tower="sasrec", training_rows="sequences")
    assert sequences.whole_sequences
    for changes in ({"tower": "mind"}, {"block": "bsarec"}, {"method": "interest"}):
        other = dataclasses.replace(sequences, **changes)
        assert not other.whole_sequences and "training_rows" not in other.acting()


def test_places_labels_and_runtime_do_not_make_another_run_and_the_rest_does():
    one = Settings(method="item", tower="mind")
    others = {
        "dataset": "a", "run": "b", "patience": 9, "checkpoint_steps": 9, "steps_per_execution": 2,
        "strategy": "mirrored", "recipe_label": "tuned", "variant": "x", "epochs": 99,
    }  # fmt: skip
    assert dataclasses.replace(one, **others).identity() == one.identity()
    for name, value in {"precision": "mixed_bfloat16", "seed": 1, "batch_size": 2, "max_history": 3}.items():
        assert dataclasses.replace(one, **{name: value}).identity() != one.identity(), name
    # What does not act is no difference; where the rate falls to 0 over the epochs, their number is one.
    assert dataclasses.replace(one, num_concepts=7).identity() == one.identity()
    falling = dataclasses.replace(one, learning_rate_schedule="linear")
    assert dataclasses.replace(falling, epochs=99).identity() != falling.identity()


def test_the_groups_hold_every_setting_once_and_every_name_is_a_class():
    names = [field.name for group in GROUPS for field in dataclasses.fields(group)]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(Settings))
    tables = (
        *(recipes.USER_TOWERS, recipes.BLOCKS, recipes.METHODS, recipes.SAMPLERS),
        *(recipes.CONCEPT_SCORES, recipes.LOSSES),
    )
    for table in tables:
        assert all(callable(pkgutil.resolve_name(place)) for place in table.values())
    assert {f"lambda_{name}" for name in recipes.LOSSES} == {
        one for one in names if one.startswith("lambda_")
    }

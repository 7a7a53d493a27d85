"""The case studies as a user makes them, beside distances worked out one by one."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="t-SNE needs scikit-learn, of the extra `plots`")
pytest.importorskip("matplotlib", reason="the pictures need matplotlib, of the extra `plots`")

from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.ragged import ItemLists
from causerec_tf.data.sequences import open_dataset
from causerec_tf.errors import InputError
from causerec_tf.studies import cases
from pipelines.studies.case_study_card import card_text
from tests.pipelines import scripts

SCRIPT = "pipelines/case_studies.py"
FILES = ["card.md", "case_studies.json", "users.png"]
IDS = np.array(["a", "b", "c", "d", "e"], dtype=object)


def cosine_distance(user, item):
    return 1 - float(user @ item) / (float(user @ user) ** 0.5 * float(item @ item) ** 0.5)


def test_the_draw_depends_on_the_seed_and_puts_the_wanted_user_first():
    draws = [cases.choose_users(IDS, 3, seed=seed).tolist() for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1] and len({tuple(draw) for draw in draws}) > 1
    assert all(len(set(draw)) == 3 for draw in draws)
    for seed in range(4):
        chosen = cases.choose_users(IDS, 5, seed=seed, wanted="d")
        assert chosen[0] == 3 and sorted(chosen) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("num_users", "wanted", "message"),
    [(6, None, "6 users are wanted of 5: ask for 1 to 5"), (2, "z", "'z' is no test user")],
)
def test_users_that_are_not_there(num_users, wanted, message):
    with pytest.raises(InputError, match=message):
        cases.choose_users(IDS, num_users, seed=0, wanted=wanted)


def test_items_are_drawn_of_the_users_own_and_all_where_there_are_few():
    targets = ItemLists(np.array([1, 2, 3, 4, 9, 8], np.int32), np.array([0, 4, 6]))
    first, second = cases.choose_items(targets, np.array([1, 0]), 3, seed=0)
    assert sorted(first) == [8, 9]
    assert len(set(second.tolist())) == 3 and set(second.tolist()) <= {1, 2, 3, 4}


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4)], ids=["one vector", "two vectors"])
def test_distances_are_those_of_the_nearest_vector(shape):
    chance = np.random.default_rng(0)
    users, items = chance.normal(size=shape), chance.normal(size=(5, 4))
    wanted = [
        [min(cosine_distance(vector, item) for vector in np.atleast_2d(user)) for item in items]
        for user in users
    ]
    np.testing.assert_allclose(cases.cosine_distances(users, items), wanted)
    # Lengths are left out.
    np.testing.assert_allclose(cases.cosine_distances(5 * users, 0.1 * items), wanted)


def test_relative_distances_by_hand():
    distances = np.array([[1.0, 2.0, 4.0], [3.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    own = np.array([[True, False, False], [True, True, False], [True, True, True]])
    got = cases.relative_distances(distances, own, np.array([5.0, 1.0, 3.0]))
    # The first: 1 to its own, (2 + 3 * 4) / 4 to the others. The third owns all there is.
    np.testing.assert_allclose(got, [1 / 3.5, 2.0, np.nan])


def test_distances_in_the_plane():
    users = np.array([[[0.0, 0.0], [3.0, 0.0]]])
    items = np.array([[3.0, 4.0], [0.0, 1.0]])
    np.testing.assert_allclose(cases.plane_distances(users, items), [[4.0, 1.0]])


@pytest.mark.long
def test_t_sne_brings_together_what_is_together():
    chance = np.random.default_rng(0)
    centres = 10 * np.eye(3, 8)
    items = np.repeat(centres, 8, axis=0) + chance.normal(scale=0.5, size=(24, 8))
    users, plane = cases.tsne_plane(centres, items, seed=0)
    assert users.shape == (3, 1, 2) and plane.shape == (24, 2)
    nearest = cases.plane_distances(users, plane).argmin(axis=0)
    assert nearest.tolist() == np.repeat([0, 1, 2], 8).tolist()


def made_card():
    users = EvaluationUsers(
        user_ids=np.array(["x", "y"], dtype=object),
        history=np.zeros((2, 2), np.int32),
        seen=ItemLists(np.array([9, 1, 2, 3], np.int32), np.array([0, 1, 4])),
        targets=ItemLists(np.array([9, 5, 4, 6], np.int32), np.array([0, 1, 4])),
    )
    ranked = {"one": np.array([7, 6, 5]), "other": np.array([8, 0, 0])}
    return cases.card(users, 1, ranked, num_shown=2)


def test_a_card_marks_what_came_next_also_beyond_what_is_shown():
    card = made_card()
    assert (card.user_id, card.history, card.num_history) == ("y", [2, 3], 3)
    assert card.recommended == {"one": [7, 6], "other": [8]}
    assert (card.future, card.num_future, card.hits) == ([5, 4], 3, {6})


def test_names_are_shown_as_they_are():
    """Signs that Markdown would take for its own."""
    names = ["1", "2", "a|b_*", "4", "5", "$x_{$ and a very long name that nobody reads", "7", "8", "9"]
    text = card_text(made_card(), names)
    assert "the last 2 of 3, oldest first: 2 · a\\|b\\_\\*\n" in text
    assert "| 1 | 7 | 8 |\n| 2 | **✓** $x\\_{$ and a very long name that nobody reads |  |\n" in text


@pytest.mark.long
def test_all_files_and_figures_that_hold(tmp_path, trained):
    """Two paths to one run are two runs that do not differ."""
    again = tmp_path / "again"
    again.symlink_to(trained.run)
    output = tmp_path / "made" / "cases"
    arguments = [f"--runs={trained.run},{again}", f"--output={output}", "--num_users=3", "--k=4"]
    dataset = open_dataset(trained.dataset)
    test = dataset.read("test")
    wanted = next(i for i, items in enumerate(test.rows()) if len(items) >= 2)
    done = scripts.run(SCRIPT, *arguments, f"--user={test.user_ids[wanted]}")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in output.iterdir()) == FILES
    record = json.loads((output / "case_studies.json").read_text(encoding="utf-8"))
    assert record["users"][0] == test.user_ids[wanted] and len(set(record["users"])) == 3
    first, second = record["relative_distance"].values()
    assert list(record["relative_distance"]) == ["small", "again"]
    assert first == second and first["all_users_minus_first"] == 0

    # The figure of all users, from the definitions.
    from causerec_tf.runs import load_trained

    model = load_trained(trained.run).model
    table = model.item_embeddings()[1:].astype(np.float64)
    cuts = {row: max(1, 8 * len(items) // 10) for row, items in enumerate(test.rows()) if len(items) >= 2}
    rows = list(test.rows())
    futures = {row: set(rows[row][cut:].tolist()) for row, cut in cuts.items()}
    ratios = []
    for row, cut in cuts.items():
        history = np.zeros((1, 20), np.int32)
        last = rows[row][:cut][-20:]
        history[0, : len(last)] = last
        user = model.encode(history).numpy()[0].astype(np.float64)
        distances = [cosine_distance(user, item) for item in table]
        own = futures[row]
        others = [i for other, items in futures.items() if other != row for i in items - own]
        ratios.append(np.mean([distances[i - 1] for i in own]) / np.mean([distances[i - 1] for i in others]))
    assert first["all_users"] == pytest.approx(np.mean(ratios), rel=1e-4)

    text = (output / "card.md").read_text(encoding="utf-8")
    assert text.startswith(f"# User {test.user_ids[wanted]}\n") and "| | small | again |" in text

    before = scripts.files_of(output)
    scripts.assert_refused(scripts.run(SCRIPT, *arguments), "exists already")
    assert scripts.files_of(output) == before


@pytest.mark.long
def test_runs_on_two_datasets_are_refused(tmp_path, trained):
    other = scripts.write_world(tmp_path / "world", split_seed=1)
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    flags = (run / "flags.txt").read_text()
    (run / "flags.txt").write_text(flags.replace(str(trained.dataset), str(tmp_path / "world")))
    (run / "dataset.txt").write_text(other.fingerprint + "\n")
    done = scripts.run(SCRIPT, f"--runs={trained.run},{run}", f"--output={tmp_path / 'made'}")
    scripts.assert_refused(done, other.fingerprint[:16], "trained on the same dataset")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--runs=r,r"], "names a run twice"),
        (["--runs=r,s"], "is not the directory of a run"),
        (["--runs=r", "--num_users=11"], "--num_users=11"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path, flags, message):
    scripts.assert_refused(scripts.run(SCRIPT, "--output=made", *flags, cwd=tmp_path), message)
    assert not list(tmp_path.iterdir())


def test_without_scikit_learn_it_says_what_to_install(tmp_path):
    hidden = (
        "import runpy, sys\nfrom importlib import metadata\nreal = metadata.version\n"
        "def version(name):\n"
        "    if name == 'scikit-learn':\n        raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.version = version\n"
        f"sys.argv = ['case_studies.py', '--runs=r', '--output={tmp_path}/made']\n"
        f"runpy.run_path({str(scripts.ROOT / SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden], env=scripts.environment(), capture_output=True, text=True, check=False
    )
    scripts.assert_refused(
        done, "need scikit-learn, which is not installed here", "pip install 'causerec_tf[plots]'"
    )
    assert not list(tmp_path.iterdir())

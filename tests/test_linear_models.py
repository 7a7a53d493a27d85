"""The yardstick: its models against their formulas written out with dense matrices, and its script."""

import json

import numpy as np
import pytest
import scipy.sparse

from benchmarks.linear_models import Ease, ItemNeighbours
from tests.pipelines import scripts

SCRIPT = "benchmarks/yardstick.py"


@pytest.fixture
def world():
    random = np.random.default_rng(0)
    interactions_UV = (random.random([30, 70]) < 0.15).astype(np.float32)
    interactions_UV[:, 5] = 0  # an item that nobody has
    histories_BV = (random.random([8, 70]) < 0.1).astype(np.float32)
    histories_BV[0] = 0  # a user without a history
    return interactions_UV, histories_BV


@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_ease_is_the_ridge_regression_with_diagonal_zero(world, l2):
    interactions_UV, histories_BV = world
    gram_VV = interactions_UV.astype(np.float64).T @ interactions_UV
    inverse_VV = np.linalg.inv(gram_VV + l2 * np.eye(len(gram_VV)))
    weights_VV = np.eye(len(gram_VV)) - inverse_VV / np.diag(inverse_VV)
    np.testing.assert_allclose(np.diag(weights_VV), 0, atol=1e-9)
    ease = Ease(scipy.sparse.csr_matrix(interactions_UV), l2)
    scores_BV = ease.scores(scipy.sparse.csr_matrix(histories_BV))
    np.testing.assert_allclose(scores_BV, histories_BV @ weights_VV, atol=2e-5)


def test_neighbours_sum_the_cosines_with_the_items_of_the_history(world):
    interactions_UV, histories_BV = world
    lengths_V = np.maximum(np.linalg.norm(interactions_UV, axis=0), 1)
    cosines_VV = (interactions_UV.T @ interactions_UV) / np.outer(lengths_V, lengths_V)
    scores_BV = ItemNeighbours(scipy.sparse.csr_matrix(interactions_UV)).scores(
        scipy.sparse.csr_matrix(histories_BV)
    )
    np.testing.assert_allclose(scores_BV, histories_BV @ cosines_VV, atol=1e-6)


def test_the_script_chooses_on_validation_users_and_measures_the_choice_alone_on_test_users(tmp_path):
    scripts.write_world(tmp_path / "world")
    done = scripts.run(
        SCRIPT, f"--dataset={tmp_path / 'world'}", "--l2=1,100", f"--output={tmp_path / 'records'}"
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "records" / "world.json").read_text(encoding="utf-8"))
    neighbours, *eases = record["rows"]
    assert [row["l2"] for row in eases] == [1, 100]
    scores = [row["validation"]["seen_items_kept"]["recall@50"] for row in eases]
    measured = ["test" in row for row in eases]
    assert measured == [score == max(scores) for score in scores] and sum(measured) == 1
    # Fifty of 120 items by chance have a recall of .42.
    for row in (neighbours, eases[measured.index(True)]):
        for policy in ("seen_items_kept", "seen_items_left_out"):
            assert 0.6 < row["test"][policy]["recall@50"] <= 1


@pytest.mark.parametrize("l2", ["much", "0", ""])
def test_a_weight_that_cannot_be_is_told(tmp_path, l2):
    done = scripts.run(SCRIPT, f"--dataset={tmp_path}", f"--l2={l2}")
    assert done.returncode == 2 and "--l2=" in done.stderr

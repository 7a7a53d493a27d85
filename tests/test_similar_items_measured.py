"""The benchmark of similar items, beside a twin that goes through one pair at a time."""

import json

import numpy as np
import pytest

import causerec_tf as cr
from benchmarks import similar_items
from tests.pipelines import scripts

SCRIPT = "benchmarks/similar_items.py"


def test_the_figures_are_the_twins(plain_run, tmp_path):
    run = cr.load_run(plain_run)
    done = scripts.run(SCRIPT, f"--runs={run.directory}", f"--output={tmp_path}", "--cutoffs=2,9")
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "similar_items.json").read_text())
    pairs = []
    for items in run.dataset.read("test").rows():
        of_user = set()
        for one, other in zip(items.tolist(), items.tolist()[1:], strict=False):
            of_user |= {(one, other), (other, one)} if one != other else set()
        pairs += of_user
    assert stored["pairs"] == len(pairs)

    takers = {item: set() for item in range(1, run.dataset.num_items + 1)}
    for user, items in enumerate(run.dataset.read("train").rows()):
        for item in items.tolist():
            takers[item].add(user)
    vectors = run.item_vectors()["vector"].to_numpy()

    def knn(one, other):
        lengths = max(1, len(takers[one])) * max(1, len(takers[other]))
        return len(takers[one] & takers[other]) / lengths**0.5

    rules = {
        "run_cosine": lambda a, b: float(
            vectors[a - 1] @ vectors[b - 1] / np.linalg.norm(vectors[a - 1]) / np.linalg.norm(vectors[b - 1])
        ),
        "run_inner_product": lambda a, b: float(vectors[a - 1] @ vectors[b - 1]),
        "item_knn": knn,
        "pop": lambda a, b: len(takers[b]),
    }
    for name, rule in rules.items():
        lists = {}
        for one in {pair[0] for pair in pairs}:
            others = [other for other in takers if other != one]
            lists[one] = sorted(others, key=lambda other, one=one, rule=rule: -rule(one, other))
        for k in (2, 9):
            hits = np.mean([other in lists[one][:k] for one, other in pairs])
            # Equal scores to the last bit may stand in either order.
            assert stored["figures"][name][f"hit@{k}"] == pytest.approx(hits, abs=0.004), (name, k)
    assert stored["ratios"]["run_cosine_over_item_knn_at_9"] == pytest.approx(
        stored["figures"]["run_cosine"]["hit@9"] / stored["figures"]["item_knn"]["hit@9"]
    )
    assert stored["figures"]["pop"]["distinct_items"] == 10  # the ninth and the one that is asked for


def test_a_pair_is_of_neighbours_both_ways_once_a_user():
    sequences = [np.array([1, 2, 1, 2, 2, 3]), np.array([2, 1]), np.array([5])]
    pairs = similar_items.held_out_pairs(sequences)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (0, 1), (1, 0), (1, 0), (1, 2), (2, 1)]


def test_what_cannot_be_measured_is_refused(tmp_path):
    done = scripts.run(SCRIPT, f"--runs={tmp_path}", "--cutoffs=0")
    scripts.assert_refused(done, "--cutoffs=0: wanted whole numbers above 0")

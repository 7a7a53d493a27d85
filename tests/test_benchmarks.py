"""The benchmarks run at tiny sizes and store what others read: never how long anything took."""

import json
import math

import numpy as np
import pytest

from benchmarks import evaluation, products, rounds, tables
from tests.pipelines import scripts

RUN = "benchmarks/run.py"
RATIOS = {
    "training": {
        "base_over_tfrs",
        "causerec_item_step_over_base",
        "causerec_item_comirec_sa_step_over_comirec_sa",
    },
    "evaluation": {"numpy_over_ours"},
    "growth": {"step_10m_over_100k"},
    "evaluation_growth": {"pair_10m_over_100k", "user_of_many_over_few"},
    "index": {"exact_over_index_at_recall_99"},
    "serving": {"http_over_bare_p50", "batched_over_one_by_one"},
    "compilation": {"mlp_base_plain_over_xla", "mlp_causerec_item_plain_over_xla"},
}


@pytest.mark.parametrize(
    "names",
    [["evaluation", "evaluation_growth"], pytest.param(list(RATIOS), marks=pytest.mark.long)],
    ids=["some", "all"],
)
def test_each_stores_its_ratios_and_a_picture(tmp_path, names):
    scripts.write_world(tmp_path / "world")
    done = scripts.run(
        RUN,
        *("--quick", "--rounds=2", "--towers=comirec_sa"),
        *(f"--dataset={tmp_path / 'world'}", f"--output={tmp_path / 'results'}"),
        *([] if names == list(RATIOS) else [f"--only={','.join(names)}"]),
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        ratios = RATIOS[name]
        stored = json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))
        assert set(stored["ratios"]) >= ratios
        for ratio, median in stored["ratios"].items():
            assert math.isfinite(median) and median > 0
            spread = stored["spread"][ratio]
            assert len(spread["rounds"]) == 2
            assert spread["min"] <= spread["median"] <= spread["max"]
        assert stored["quick"] and "benchmarks/run.py" in stored["command"]
        assert stored["machine"]["cores"] >= 1
        assert (tmp_path / "results" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    if names != list(RATIOS):
        return
    preparation = json.loads((tmp_path / "results" / "preparation.json").read_text(encoding="utf-8"))
    assert [run["rows"] for run in preparation["details"]["runs"]] == [2000]
    assert preparation["measures"]["local_2k_memory"]["median"] > 0
    assert preparation["measures"]["local_2k_disk"]["unit"] == "bytes a row"
    page = tables.filled(tables.PAGE.read_text(encoding="utf-8"), tmp_path / "results")
    assert "not measured yet" not in page
    for ratio in set.union(*RATIOS.values()):
        assert f"| `{ratio}` |" in page


@pytest.mark.parametrize("flag", ["--only=speed", "--dataset=nowhere", "--rounds=0", "--rows=5,many"])
def test_wrong_flags_are_refused(flag):
    scripts.assert_refused(scripts.run(RUN, flag), "error:", flag.partition("=")[2])


def test_rounds_rotate_and_their_ratios_stay_within_a_round():
    order = []
    blocks = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = rounds.interleave(blocks, 3)
    assert order == list("abcbcacab")
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 3)
    assert rounds.quotients([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_operations_of_a_step():
    # 6 B S d of the softmax; 6 rows (d 256 + 256 256 + 256 d) of the MLP.
    step = products.mean_tower_step(batch_size=10, num_candidates=30, width=8, encoded=3)
    softmax, mlp = 6 * 10 * 30 * 8, 6 * 3 * 10 * (8 * 256 + 256 * 256 + 256 * 8)
    assert sum(one.operations for one in step) == softmax + mlp


@pytest.mark.parametrize("shape", [[600, 8], [600, 4, 8]])
def test_the_numpy_reference_ranks_as_a_full_sort_does(shape):
    random = np.random.default_rng(0)
    users, items = random.standard_normal(shape, np.float32), random.standard_normal([90, 8], np.float32)
    scores = users @ items.T
    if scores.ndim == 3:
        scores = scores.max(axis=1)
    wanted = np.argsort(-scores, axis=1)[:, : evaluation.K] + 1
    np.testing.assert_array_equal(evaluation.numpy_top_k(users, items), wanted)
    np.testing.assert_array_equal(evaluation.our_top_k(users, items), wanted)

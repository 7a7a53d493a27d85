"""The peers' script; the models have their tests in tests/baselines."""

import json

import pytest

from tests.pipelines import scripts

SCRIPT = "benchmarks/yardstick.py"


def test_each_policy_chooses_on_validation_users_and_measures_the_choice_on_test_users(tmp_path):
    scripts.write_world(tmp_path / "world")
    peers = "--peers=pop,own_past,item_knn,vsknn,ease"
    place = tmp_path / "peers.json"
    done = scripts.run(SCRIPT, f"--dataset={tmp_path / 'world'}", peers, f"--output={place}")
    assert done.returncode == 0, done.stderr
    found = json.loads(place.read_text(encoding="utf-8"))
    assert found["ratios"] == {}  # no run of ours
    peers = found["datasets"]["world"]["peers"]
    assert "left_out" not in peers["own_past"]  # it knows seen items only
    for policy in ("kept", "left_out"):
        trials = {one["l2"]: one[policy]["recall@50"] for one in peers["ease"]["trials"]}
        assert sorted(trials) == [100, 300, 1000]
        chosen = peers["ease"][policy]["chosen"]["l2"]
        assert trials[chosen] == max(trials.values())
        # Fifty of 120 items by chance have a recall of .42.
        for name in ("item_knn", "vsknn", "ease"):
            assert 0.6 < peers[name][policy]["test"]["recall@50"] <= 1


def test_ratios_are_ours_over_the_best_peer():
    def of(recall, ndcg):
        return {"test": {"recall@50": recall, "ndcg@50": ndcg}}

    peers = {"a": {"kept": of(0.2, 0.3), "left_out": of(0.5, 0.1)}, "b": {"kept": of(0.4, 0.1)}}
    ours = {"kept": {"recall@50": 0.5, "ndcg@50": 0.15}, "left_out": {"recall@50": 0.4, "ndcg@50": 0.2}}
    # In a process of its own, for a script's flags are those of its process.
    code = "import json, sys; from benchmarks.yardstick import ratios_of;"
    code += "print(json.dumps(ratios_of('d', *json.loads(sys.argv[1]))))"
    done = scripts.run_code(code, json.dumps([ours, peers]))
    assert json.loads(done.stdout) == {
        "d.kept.recall@50": 1.25,
        "d.kept.ndcg@50": 0.5,
        "d.left_out.recall@50": 0.8,
        "d.left_out.ndcg@50": 2.0,
    }


@pytest.mark.parametrize("peers", ["knn", "pop,knn"])
def test_a_peer_that_is_not_known_is_told(tmp_path, peers):
    done = scripts.run(SCRIPT, f"--dataset={tmp_path}", f"--peers={peers}")
    assert done.returncode == 2 and "--peers has" in done.stderr

"""The yardstick's script; the models have their tests in tests/baselines."""

import json

import pytest

from tests.pipelines import scripts

SCRIPT = "benchmarks/yardstick.py"


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

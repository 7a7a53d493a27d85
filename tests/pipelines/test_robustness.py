"""The scripts that disturb and remove, as a user runs them."""

import json

import pytest

from tests.pipelines import scripts


@pytest.mark.long
def test_a_record_and_a_table(tmp_path, trained):
    output = tmp_path / "out"
    flags = ["--rates=0.5", "--draws=1"]
    done = scripts.run("pipelines/robustness.py", f"--runs={trained.run}", f"--output={output}", *flags)
    assert done.returncode == 0, done.stderr
    record = json.loads((output / "robustness.json").read_text())
    kept = json.loads((trained.run / "metrics.json").read_text())
    (system,) = record["systems"].values()
    assert system["clean"]["recall@50"]["mean"] == pytest.approx(kept["test"]["recall@50"], abs=1e-6)
    assert record["dataset"] == kept["dataset"]
    assert {one["rate"] for one in system["conditions"]} == {0.5}
    assert "random insertion" in (output / "robustness.md").read_text()


def test_indispensable(tmp_path, trained):
    output = tmp_path / "record.json"
    done = scripts.run("pipelines/indispensable.py", f"--run={trained.run}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(output.read_text())["ways"]) == {"concept", "deletion", "random", "concept_lowest"}
    again = scripts.run("pipelines/indispensable.py", f"--run={trained.run}", f"--output={output}")
    scripts.assert_refused(again, "exists: choose another --output")


def test_bad_rates_are_refused(tmp_path):
    arguments = ["--runs=r", f"--output={tmp_path / 'out'}", "--rates=0.1,2"]
    scripts.assert_refused(
        scripts.run("pipelines/robustness.py", *arguments), "wanted different numbers above 0"
    )
    assert not list(tmp_path.iterdir())

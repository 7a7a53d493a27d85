"""The script of the planted noise, as a user runs it."""

import json

import pytest

from tests.pipelines import scripts

SCRIPT = "pipelines/planted_noise.py"


def flagfile(directory, **changes):
    path = directory / "runs.flags"
    path.write_text("\n".join(scripts.flags(epochs=1, embedding_dim=8, max_history=8, **changes)))
    return path


@pytest.mark.long
def test_every_system_is_measured_on_both_histories(tmp_path):
    output = tmp_path / "out"
    flags = [f"--flagfile_of_runs={flagfile(tmp_path)}", f"--output={output}", "--num_users=600"]
    done = scripts.run(SCRIPT, *flags)
    assert done.returncode == 0, done.stderr
    record = json.loads((output / "planted_noise.json").read_text())
    systems = record["systems"]
    assert list(systems) == ["base-clean-0", "base-noisy-0", "item-noisy-0"]
    for name, system in systems.items():
        assert {"clean_history", "noisy_history"} <= set(system)
        assert ("detection" in system) == ("noisy" in name)
        # Noise in the history is no other user: the figures are near, and not the same.
        clean, noisy = (system[kind]["recall@50"]["mean"] for kind in ("clean_history", "noisy_history"))
        assert clean != noisy and clean == pytest.approx(noisy, abs=0.1)
    assert set(record["datasets"]) == {"clean", "noisy"}


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        ({"method": "base"}, [], "--method=base: wanted a counterfactual one"),
        ({}, ["--seeds=1,1"], "--seeds=1,1: wanted different whole numbers"),
    ],
)
def test_bad_input_is_refused(tmp_path, changes, flags, message):
    asked = [f"--flagfile_of_runs={flagfile(tmp_path, **changes)}", f"--output={tmp_path / 'out'}"]
    scripts.assert_refused(scripts.run(SCRIPT, *asked, *flags), message)
    assert not (tmp_path / "out").exists()

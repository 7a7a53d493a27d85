"""A profile of a run's steps, as TensorBoard's profile plugin looks for it."""

import pytest

from tests.pipelines import scripts


@pytest.mark.long
def test_a_profile_is_written_once(tmp_path):
    scripts.write_world(tmp_path / "world")
    run = tmp_path / "run"
    done = scripts.run(
        "pipelines/train.py",
        *scripts.flags(dataset=tmp_path / "world", run=run, method="base", batch_size=128),
        "--profile",
    )
    assert done.returncode == 0, done.stderr
    (profile,) = run.glob("events/plugins/profile/*/*.xplane.pb")
    assert profile.stat().st_size > 1000


@pytest.mark.long
def test_a_run_too_short_for_a_profile_says_so(tmp_path):
    scripts.write_world(tmp_path / "world", num_users=20)
    done = scripts.run(
        "pipelines/train.py",
        *scripts.flags(dataset=tmp_path / "world", run=tmp_path / "run", method="base", batch_size=128),
        "--profile",
    )
    assert done.returncode == 0, done.stderr
    assert "no profile" in done.stderr
    assert not list((tmp_path / "run").glob("events/plugins"))

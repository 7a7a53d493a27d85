"""Outputs that cannot be written are told before the work, by every script that takes its time."""

import os
import shutil

import pytest

from pipelines.command_line import outputs
from tests.pipelines import scripts
from tests.pipelines.test_compare import write_plan
from tests.pipelines.test_tune import write_plan as write_tuning_plan


class Refused(Exception):
    pass


@pytest.fixture(name="closed")
def fixture_closed(tmp_path, monkeypatch):
    """A directory that allows no writing; to the superuser who may run the tests all others are open."""
    (tmp_path / "closed" / "run").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: (path.name, mode & os.W_OK) != ("closed", os.W_OK))
    return tmp_path / "closed"


def check(place, **options):
    outputs.check_place(place, "--output", Refused, **options)


def test_what_is_made_beside_its_place_needs_the_directory_above(closed):
    for place in (closed / "a.json", closed / "new" / "deep" / "a.json", closed / "run"):
        with pytest.raises(Refused) as refused:
            check(place)
        assert str(refused.value) == (
            f"--output={place} cannot be written: the permissions of {closed}, or a read-only mount, do not"
            " allow it. Choose another --output, or change that."
        )
    check(closed)
    check(closed / "run" / "a.json")


def test_a_directory_that_is_filled_needs_itself(closed):
    for place in (closed, closed / "new"):
        with pytest.raises(Refused, match=f"the permissions of {closed}, or"):
            check(place, is_filled=True)
    check(closed / "run", is_filled=True)


def test_directories_that_are_missing_are_neither_made_nor_missed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "new" / "deep" / "a.json", "new/a.json", "a.json"):
        check(place)
        check(place, is_filled=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_directory_should_be_is_named_with_the_flag(tmp_path):
    file = tmp_path / "shop.csv"
    file.write_text("")
    message = r"--output=\S* cannot be made, since \S*shop\.csv is a file\. Choose another --output\."
    for place, is_filled in ((file / "a.json", False), (file / "new" / "run", True), (file, True)):
        with pytest.raises(Refused, match=message):
            check(place, is_filled=is_filled)
    check(file)  # that it is replaced


# Runs a script as a user to whom a directory is closed.
DENIED = """
import os, runpy, sys
closed, script = sys.argv[1:3]
allowed = os.access
os.access = lambda path, mode, **more: os.path.realpath(path) != closed and allowed(path, mode, **more)
sys.argv[:3] = [script]
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("script", "flag", "flags"),
    [
        ("prepare", "--output={closed}/world", []),
        pytest.param(
            *("prepare", "--output={closed}/world", ["--input=none.csv", "--runner=DirectRunner"]),
            marks=pytest.mark.long,  # Beam takes seconds to import
        ),
        ("histories", "--output={closed}/h.jsonl", ["--input=none.csv"]),
        ("train", "--run={closed}/run", ["--dataset={place}/world"]),
        ("evaluate", "--output={closed}/record.json", ["--run=none"]),
        ("evaluate", "--per_user={closed}/new/users.npz", ["--run=none"]),
        ("compare", "--output={closed}", ["--plan={place}/plan.toml", "--runs={place}/runs"]),
        ("compare", "--runs={closed}", ["--plan={place}/plan.toml", "--output={place}/out"]),
        ("tune", "--output={closed}", ["--plan={place}/tuning.toml"]),
        ("robustness", "--output={closed}/noise", ["--runs=none"]),
        ("planted_noise", "--output={closed}", ["--flagfile_of_runs=none"]),
        ("indispensable", "--output={closed}/record.json", ["--run=none"]),
        ("case_studies", "--output={closed}/cases", ["--runs=none"]),
        ("retrieve", "--output={closed}/top.jsonl", ["--bundle=none", "--input={place}/h.jsonl"]),
        ("retrieve", "--output={closed}/", ["--bundle=none", "--input={place}/h.jsonl"]),
        ("bundle", "--bundle={closed}/new", ["--run=none"]),
        ("bundle", "--bundle={place}", ["--rollback"]),
        ("update_index", "--bundle={place}", ["--upsert=none"]),
    ],
)
def test_scripts_tell_it_before_they_work(tmp_path, trained, script, flag, flags):
    """What they would work with is not there, but for what they must read to know what they write."""
    if "--runner=DirectRunner" in flags:
        pytest.importorskip("apache_beam", reason="Apache Beam is not installed")
    folder = "export" if script in ("bundle", "update_index") else "pipelines"
    place = tmp_path / "place"
    closed = place / "user_tower"  # also of a bundle, at `place`
    (closed / "1").mkdir(parents=True)
    (place / "world").symlink_to(trained.dataset)
    write_tuning_plan(place).rename(place / "tuning.toml")
    write_plan(place)
    (place / "h.jsonl").write_text("")
    before = scripts.files_of(tmp_path)
    arguments = [one.format(closed=closed, place=place) for one in (flag, *flags)]
    done = scripts.run_code(DENIED, closed, scripts.ROOT / folder / f"{script}.py", *arguments)
    scripts.assert_refused(done, f"{flag.partition('=')[0]}=", f"the permissions of {closed}, or a read-only")
    assert scripts.files_of(tmp_path) == before


def test_a_finished_run_is_only_read(tmp_path, trained):
    closed = tmp_path / "run"
    shutil.copytree(trained.run, closed)
    flags = [f"--flagfile={trained.flagfile}", f"--run={closed}"]
    done = scripts.run_code(DENIED, closed, scripts.ROOT / "pipelines/train.py", *flags)
    assert done.returncode == 0 and "is finished" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("script", "flag", "flags"),
    [
        ("pipelines/train", "--run=runs", ["--dataset={place}/world"]),
        ("pipelines/train", "--warm_start=runs", ["--dataset={place}/world", "--run={place}/new"]),
        ("pipelines/evaluate", "--run=runs", []),
        ("pipelines/compare", "--runs=runs", ["--plan={place}/plan.toml", "--output={place}/out"]),
        pytest.param(
            *("pipelines/tune", "--runs=runs", ["--plan={place}/tuning.toml", "--output={place}/out"]),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *("pipelines/robustness", "--runs=runs", ["--output={place}/out"]), marks=pytest.mark.long
        ),
        ("pipelines/planted_noise", "--output=out", ["--flagfile_of_runs={flagfile}"]),
        ("pipelines/retrieve", "--bundle=b", ["--input={place}/h.jsonl", "--output={place}/o.jsonl"]),
        ("pipelines/retrieve", "--output=out/", ["--bundle=b", "--input={place}/h.jsonl"]),
        ("export/bundle", "--run=runs", ["--bundle={place}/b"]),
        ("export/bundle", "--bundle=b", ["--run={run}"]),
        pytest.param(*("export/bundle", "--bundle=b", ["--rollback"]), marks=pytest.mark.long),
        pytest.param(*("export/update_index", "--bundle=b", ["--upsert=none"]), marks=pytest.mark.long),
        ("export/serve", "--bundle=b", ["--port=0"]),
    ],
)
def test_a_path_that_tensorflow_takes_for_a_pattern_is_refused_before_any_work(
    tmp_path, trained, script, flag, flags
):
    """Also where the pattern is in the name of the working directory."""
    if script == "export/serve":
        pytest.importorskip("uvicorn", reason="the packages of the service are not installed")
    place = tmp_path / "place"
    here = tmp_path / "tries [2]"
    for directory in (place, here / "runs", here / "b" / "user_tower" / "1"):
        directory.mkdir(parents=True)
    (place / "world").symlink_to(trained.dataset)
    write_tuning_plan(place).rename(place / "tuning.toml")
    write_plan(place)
    (place / "h.jsonl").write_text("")
    before = scripts.files_of(tmp_path)
    given = [one.format(place=place, flagfile=trained.flagfile, run=trained.run) for one in (flag, *flags)]
    done = scripts.run(f"{script}.py", *given, cwd=here)
    value = flag.partition("=")[2].rstrip("/")
    scripts.assert_refused(
        done, f"={value}", f"lies at {here}/{value}", "takes [ for a pattern of file names"
    )
    assert scripts.files_of(tmp_path) == before

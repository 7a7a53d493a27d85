"""The wheel holds what is needed, and its command works from another folder."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from tests.worlds import write_world

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("causerec_tf/", "pipelines/", "export/")


def run(*command, cwd, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(name="wheel", scope="module")
def fixture_wheel(tmp_path_factory):
    """Built from the tracked files, so that nothing else gets in and nothing is left in the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, names):
        if name.startswith(PACKAGES) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps")
    run(*pip, "--no-build-isolation", "--wheel-dir", str(place), str(source), cwd=place)
    (made,) = place.glob("*.whl")
    return made


def test_the_wheel_holds_recipes_page_and_command_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tracked = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    modules = {name for name in tracked if name.startswith(PACKAGES) and name.endswith(".py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "causerec_tf/recipe_flagfiles/recommended.flags" in names
    assert any(name.endswith("page.html") for name in names)
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"causerec_tf", "pipelines", "export"}
    (entry,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "causerec = pipelines.causerec:main" in zipfile.ZipFile(wheel).read(entry).decode()


def test_the_command_trains_by_a_recipe_from_another_folder(wheel, tmp_path):
    """Installed without its dependencies, which are those of this environment."""
    site = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--quiet")
    run(*pip, "--no-compile", "--target", str(site), str(wheel), cwd=tmp_path)
    folder = tmp_path / "folder"
    write_world(folder / "datasets" / "quickstart", num_users=300, num_items=60, num_interests=6)
    # Before the checkout, which this environment has installed for development.
    command = str(site / "bin" / "causerec")
    recipe = "train --recipe=quickstart --epochs=1 --embedding_dim=16"
    said = run(command, *recipe.split(), cwd=folder, PYTHONPATH=str(site))
    assert "epoch 1/1" in said and (folder / "runs" / "quickstart" / "metrics.json").exists()
    assert "retrieve" in run(command, cwd=folder, PYTHONPATH=str(site))


@pytest.mark.long
def test_the_whole_wheel_in_an_environment_of_its_own(wheel, tmp_path):
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, f"{wheel}[serving]", cwd=tmp_path)  # publishing writes warm-up requests
    command = str(tmp_path / "venv" / "bin" / "causerec")
    for arguments in (
        "prepare --output=datasets/quickstart",
        "train --recipe=quickstart",
        "evaluate --run=runs/quickstart --exclude_seen",
        "publish --run=runs/quickstart --bundle=bundles/quickstart",
    ):
        said = run(command, *arguments.split(), cwd=tmp_path)
    assert "published: bundles/quickstart/user_tower/1" in said

"""Retrieval and the service on a machine where ScaNN cannot be imported, as on macOS or ARM."""

import contextlib
import json
import os
import subprocess
import urllib.request

import pytest

from tests.export.service.shop import IDS, Version
from tests.export.service.waiting import PATIENCE, until
from tests.pipelines import forked, scripts

pytest.importorskip("uvicorn", reason="the extra `service` is not installed")

HISTORY = [IDS[0], IDS[9]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    place = tmp_path_factory.mktemp("without") / "bundle"
    Version(1).publish(place)
    return place


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Of a process that finds a scann which cannot be loaded."""
    blocked = tmp_path_factory.mktemp("blocked")
    (blocked / "scann.py").write_text('raise ImportError("no build for this platform")\n')
    others = [str(scripts.ROOT), os.environ.get("PYTHONPATH", "")]
    return scripts.environment() | {"PYTHONPATH": os.pathsep.join([str(blocked), *others])}


# A script in a process that has begun: it forgets the scann it has, and does what PYTHONPATH says.
SCRIPT = """
import os, runpy, sys
for name in [name for name in sys.modules if name.partition(".")[0] == "scann"]:
    del sys.modules[name]
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(environment, script, *arguments):
    command = ("-c", SCRIPT, scripts.ROOT / script, *arguments)
    return forked.run(*command, cwd=None, env=environment, timeout=300)


@pytest.mark.parametrize("engine", ["auto", "hnswlib"])
def test_retrieval(bundle, environment, tmp_path, engine):
    if engine == "hnswlib":
        pytest.importorskip("hnswlib", reason="hnswlib is not installed (pip install -e '.[hnswlib]')")
    (tmp_path / "h.jsonl").write_text(json.dumps({"user_id": "u", "history": HISTORY}))
    arguments = (f"--bundle={bundle}", f"--engine={engine}", "--k=7")
    done = run(
        environment,
        "pipelines/retrieve.py",
        *arguments,
        *(f"--input={tmp_path / 'h.jsonl'}", f"--output={tmp_path / 'o.jsonl'}"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "o.jsonl").read_text())["items"] == Version(1).items(HISTORY, 7)


def test_asked_for_by_name_it_is_missed_in_words(bundle, environment, tmp_path):
    (tmp_path / "h.jsonl").write_text(json.dumps({"user_id": "u", "history": HISTORY}))
    done = run(
        environment,
        "pipelines/retrieve.py",
        *(f"--bundle={bundle}", "--engine=scann"),
        *(f"--input={tmp_path / 'h.jsonl'}", f"--output={tmp_path / 'o.jsonl'}"),
    )
    scripts.assert_refused(done, "ScaNN cannot be loaded (no build for this platform)", "--engine=numpy")
    assert not (tmp_path / "o.jsonl").exists()


def test_vectors_leave(bundle, environment, tmp_path):
    done = run(environment, "export/vectors.py", f"--bundle={bundle}", f"--items={tmp_path / 'i.parquet'}")
    assert done.returncode == 0, done.stderr
    assert f"{len(IDS)} vectors of 6 numbers" in done.stdout


def test_publishing_says_where_it_can_be_done(bundle, environment, tmp_path):
    (tmp_path / "gone.txt").write_text(IDS[2])
    done = run(
        environment, "export/update_index.py", f"--bundle={bundle}", f"--delete={tmp_path / 'gone.txt'}"
    )
    scripts.assert_refused(done, "ScaNN cannot be loaded", "Indexes are built and changed where it runs")


def post(address, path, body):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.load(response)


@contextlib.contextmanager
def serving(bundle, environment, log):
    with log.open("w") as file:
        command = scripts.command("export/serve.py", f"--bundle={bundle}", "--port=0", "--timeout_ms=60000")
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:

        def is_ready():
            assert process.poll() is None, log.read_text()
            return '"serving"' in log.read_text()

        until(is_ready)
        line = next(line for line in log.read_text().splitlines() if '"serving"' in line)
        yield json.loads(line)["address"]
    finally:
        process.kill()
        process.wait()


@pytest.mark.long
def test_the_service(bundle, environment, tmp_path):
    with serving(bundle, environment, tmp_path / "log") as address:
        answer = post(address, "/recommend", {"history": HISTORY, "k": 7})
        assert answer["items"] == Version(1).items(HISTORY, 7)
        similar = post(address, "/similar", {"items": [IDS[4]], "k": 3})["answers"][0]
        assert len(similar["items"]) == 3 and not similar["unknown"]

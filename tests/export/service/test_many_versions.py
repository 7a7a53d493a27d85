"""A thousand publications and roll-backs under a service that is asked all the time."""

import json
import random
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra `service` is not installed")

from export.publishing.publish import roll_back
from export.store.bundle_errors import BundleError
from export.store.layout import read_tower, tower_directory, tower_numbers
from tests.export.service.shop import IDS, Version
from tests.export.service.test_process import entries, started
from tests.export.service.waiting import PATIENCE, until

HISTORIES = [IDS[:1], IDS[3:9], [IDS[40], "never seen", IDS[2]], IDS[20:50]]
K, KEPT, MODELS = 10, 3, 8


def expected_of(model):
    """What a version answers, by the twin that scores one history at a time."""
    answers = []
    for history in HISTORIES:
        items = model.items(history, K)
        rows = [model.ids.index(item) + 1 for item in items]
        answers.append({"items": items, "scores": (model.table[rows] @ model.vector(history)).tolist()})
    return answers


@pytest.mark.long
@pytest.mark.parametrize("changes", [12, 1_000])
def test_no_answer_mixes_versions_and_none_fails(tmp_path, changes):
    models = [Version(number) for number in range(1, MODELS + 1)]
    bundle, log = tmp_path / "bundle", tmp_path / "log"
    # Each once, for its fingerprint.
    versions = {model.publish(bundle, keep=KEPT): expected_of(model) for model in models}
    answers = [json.dumps(one) for one in versions.values()]
    assert len(set(answers)) == MODELS
    expected = {"histories": HISTORIES, "k": K, "versions": versions}
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    stop, report = tmp_path / "stop", tmp_path / "report.json"
    choose = random.Random(0)
    done = {"published": 0, "rolled back": 0}
    asking = Path(__file__).with_name("asking.py")
    with started(bundle, log, "--poll_seconds=0.05", "--nolog_requests") as (process, address):
        load = subprocess.Popen(
            [sys.executable, str(asking), address, str(tmp_path / "expected.json"), str(stop), str(report)]
        )
        try:
            began = time.monotonic()
            while sum(done.values()) < changes:
                assert process.poll() is None and load.poll() is None
                publication = None
                if choose.random() < 0.5:
                    try:
                        publication = roll_back(bundle)
                    except BundleError as error:
                        assert "keeps no version earlier" in str(error)
                if publication is None:
                    newest = read_tower(tower_directory(bundle, tower_numbers(bundle)[-1]))["version"]
                    others = [model for model, one in zip(models, versions, strict=True) if one != newest]
                    choose.choice(others).publish(bundle, keep=KEPT)
                    done["published"] += 1
                else:
                    done[publication.action] += 1
                if sum(done.values()) % 100 == 0:
                    print(f"{sum(done.values())} changes after {time.monotonic() - began:.0f} s", flush=True)
            seconds = time.monotonic() - began
            last = read_tower(tower_directory(bundle, tower_numbers(bundle)[-1]))["version"]
            readyz = f"{address}/readyz"
            until(lambda: json.load(urllib.request.urlopen(readyz, timeout=PATIENCE))["version"] == last)
            stop.touch()
            assert load.wait(PATIENCE) == 0
        finally:
            load.kill()
            load.wait()
    found = json.loads(report.read_text())
    told = {name: found[name] for name in ("answers", "slowest", "seen")}
    print(f"{done} in {seconds:.0f} s; {told}")
    assert (found["failed"], found["wrong"], found["mixed"]) == ([], [], [])
    assert found["answers"] > changes
    assert set(found["seen"]) <= set(versions) and len(found["seen"]) >= min(3, MODELS)
    lines = entries(log)
    assert [line for line in lines if line["level"] != "info"] == []
    assert np.diff([line["number"] for line in lines if "number" in line]).min(initial=1) > 0

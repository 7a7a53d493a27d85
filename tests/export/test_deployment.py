"""The files of a deployment: what they publish, and what the image installs. Nothing of it is run here."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from export.service.options import Options

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "export" / "serving"


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path):
    """Name -> version of every pinned line."""
    pins = re.findall(r"(?m)^([A-Za-z0-9_.-]+)==(\S+)", path.read_text(encoding="utf-8"))
    return {canonical(name): version for name, version in pins}


def test_the_proxy_alone_is_reached_from_outside():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((SERVING / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert all("network_mode" not in service for service in services.values())
    host, port = re.findall(r"server (\w+):(\d+);", (SERVING / "nginx.conf").read_text())[0]
    assert f"--port={port}" in services[host]["command"]
    source, _, _ = services["proxy"]["volumes"][0].split(":")
    assert (SERVING / source).is_file()


def test_the_proxy_limits_what_the_service_limits():
    text = (SERVING / "nginx.conf").read_text()
    assert text.count("{") == text.count("}")
    (body,) = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(body) << 20 == Options.max_body_bytes
    for limit in ("limit_conn clients", "client_header_timeout", "client_body_timeout"):
        assert limit in text


def test_the_image_installs_what_is_locked_with_hashes():
    lines = (SERVING / "Dockerfile").read_text().splitlines()
    installs = [shlex.split(line.removeprefix("RUN ")) for line in lines if "pip install" in line]
    first, second = installs
    assert {"--require-hashes", "--no-build-isolation"} < set(first) and first[-2:] == [
        "-r",
        "export/serving/requirements.txt",
    ]
    assert {"--no-deps", "--no-build-isolation"} < set(
        second
    )  # the project itself, and nothing from elsewhere
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", (SERVING / "requirements.txt").read_text())[1:]
    assert entries and all("--hash=sha256:" in one and "==" in one.split()[0] for one in entries)


def test_the_lock_of_the_image_has_all_that_the_service_needs_in_the_versions_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["service"], *extras["serving"]]
    image = locked(SERVING / "requirements.txt")
    names = {canonical(re.match(r"[A-Za-z0-9_.-]+", one)[0]) for one in needed}
    assert names | {"setuptools"} <= set(image)
    tested = locked(ROOT / "requirements.txt") | locked(ROOT / "requirements-dev.txt")
    assert {name: tested.get(name) for name in image} == image

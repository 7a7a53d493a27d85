"""The blocks of docs/vectors.md, as they stand there, give the retriever's items in its order."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export.batch.history_files import HistoryRow
from export.batch.vector_blocks import item_blocks, user_blocks
from export.batch.vector_files import VectorWriter
from export.retriever import Retriever
from tests.export.service.shop import IDS, Version
from tests.pipelines import forked

ROOT = Path(__file__).parents[2]
# A comma, a quote and a line's end in an id would show a file that was quoted wrongly.
HISTORIES = [[IDS[0], IDS[9]], [IDS[20]], IDS[10:14]]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with items.parquet, users.parquet and bundles/shop, and the items that are to be found."""
    directory = tmp_path_factory.mktemp("stores")
    Version(1).publish(directory / "bundles" / "shop")
    retriever = Retriever.open(directory / "bundles" / "shop")
    users = (HistoryRow("", str(number), history) for number, history in enumerate(HISTORIES))
    for name, blocks in (
        ("items", item_blocks(retriever.catalogue)),
        ("users", user_blocks(retriever._tower, users)),
    ):
        with VectorWriter(directory / f"{name}.parquet", overwrite=False, npy=False, about={}) as writer:
            for columns, vectors in blocks:
                writer.write(columns, vectors)
    return directory


def wanted():
    return [Version(1).items(history, 10, exclude_seen=False) for history in HISTORIES]


def blocks(heading, language="python"):
    """The blocks of a section."""
    text = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    return re.findall(rf"^```{language}\n(.*?)\n```", section, re.M | re.S)


def run_block(code, place, after="print(found)"):
    done = forked.run("-c", f"{code}\n{after}", cwd=place, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("store", ["Faiss", "hnswlib"])
def test_a_library_finds_the_retrievers_items(place, store):
    pytest.importorskip(store.lower(), reason=f"{store} is not installed (pip install -e '.[benchmarks]')")
    (code,) = blocks(store)
    assert run_block(code, place) == f"{wanted()}\n"


def test_an_engine_of_ones_own_answers_as_the_retriever(place):
    (code,) = blocks("Another engine under the retriever")
    after = f"for one in retriever.recommend({HISTORIES!r}, 10, False): print(one.items)"
    assert run_block(code, place, after).splitlines() == [repr(items) for items in wanted()]


def with_pgvector():
    """Where the programs of a PostgreSQL are that has pgvector, or None."""
    places = []
    if (found := importlib.util.find_spec("pgserver")) and found.origin:
        places.append(Path(found.origin).parent / "pginstall" / "bin")
    places += [Path(program).resolve().parent for program in [shutil.which("postgres")] if program]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for place in places:
        asked = [place / "pg_config", "--sharedir"]
        if not (place / "initdb").exists() or not asked[0].exists():
            continue
        shared = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if (Path(shared) / "extension" / "vector.control").exists():
            return place
    return None


@contextlib.contextmanager
def postgres(programs, directory):
    """A running server that listens on a socket in a directory; gives what its clients need to know."""
    # It refuses to run as root.
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(directory, "nobody")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def run(*command):
        done = subprocess.run(
            command, env=environment, cwd=directory, capture_output=True, text=True, check=False, **user
        )
        assert done.returncode == 0, done.stdout + done.stderr

    data, log = directory / "data", directory / "log"
    run(programs / "initdb", "--auth=trust", "--username=tester", "--no-sync", f"--pgdata={data}")
    options = f"-k {directory} -c listen_addresses= -c fsync=off"
    run(programs / "pg_ctl", "start", "--wait", f"--pgdata={data}", f"--log={log}", f"--options={options}")
    try:
        yield environment | {"PGHOST": str(directory), "PGUSER": "tester", "PGDATABASE": "postgres"}
    finally:
        run(programs / "pg_ctl", "stop", "--mode=immediate", f"--pgdata={data}")


@pytest.fixture
def short_directory():
    """The path of a socket has at most 107 bytes, and others than its owner must get there."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pg") as place:
        yield Path(place)


def test_a_server_with_pgvector_finds_the_retrievers_items(place, short_directory):
    programs = with_pgvector()
    if programs is None:
        pytest.skip(
            "no PostgreSQL with pgvector (pip install -e '.[benchmarks]', or Debian's postgresql-*-pgvector)"
        )
    (write,) = blocks("pgvector")
    (commands,) = blocks("pgvector", language="bash")
    run_block(write, place, after="")
    with postgres(programs, short_directory) as environment:
        done = subprocess.run(
            ["bash", "-euc", commands],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    # Of an id with a line's end psql shows more lines than one.
    assert done.stdout.endswith("\n".join(wanted()[0]) + "\n"), (done.stdout, wanted()[0])
    assert np.isin(wanted()[0], IDS).all()

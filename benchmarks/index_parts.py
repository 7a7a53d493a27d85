"""What an index in parts costs and saves: peak memory of the build, time, recall, time of a query.

    python benchmarks/index_parts.py --items=1000000 --parts=1,4

Generated unit vectors in clusters, as of `benchmarks.index`; each number of parts in a process of its own,
whose vectors are mapped from a file.
Seconds are the processor's.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder would hide that it is a package

from causerec_tf.errors import InputError
from pipelines.command_line import command

FLAGS = flags.FLAGS

_WIDTH = 64
_NUM_QUERIES = 500


def main() -> None:
    """Measures each number of parts, and prints a table."""
    with tempfile.TemporaryDirectory() as place:
        _write_world(Path(place), FLAGS.items)
        print(f"{'parts':>5} {'MB before':>10} {'MB at peak':>10} {'build s':>8} {'recall':>7} {'ms':>7}")
        for parts in map(int, FLAGS.parts):
            program = f"from benchmarks import index_parts; index_parts.build({place!r}, {parts})"
            done = subprocess.run(
                [sys.executable, "-c", program],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                cwd=Path(__file__).resolve().parents[1],
            )
            one = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{parts:5} {one['before']:10.0f} {one['peak']:10.0f} {one['seconds']:8.0f}"
                f" {one['recall']:7.4f} {one['milliseconds']:7.3f}",
                flush=True,
            )


def build(place: str, parts: int) -> None:
    """Builds and saves an index in this process, and prints what it took."""
    from export.index.building import build_index
    from export.index.index_options import IndexOptions
    from export.index.measuring import Truth, measured

    vectors = np.load(Path(place) / "items.npy", mmap_mode="r")
    queries = np.load(Path(place) / "queries.npy")
    before, started = _memory("VmRSS"), time.process_time()
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        options = IndexOptions(method="tree", parts=parts)
        index = build_index(
            vectors, queries=queries[:_NUM_QUERIES], options=options, scratch=Path(scratch) / "parts"
        )
        figures = {"before": before, "peak": _memory("VmHWM"), "seconds": time.process_time() - started}
        others = queries[_NUM_QUERIES:]
        point = measured(index, vectors, Truth.of(vectors, others, index.description["k"]))
    print(json.dumps(figures | {name: point[name] for name in ("recall", "milliseconds")}))


def _write_world(place: Path, num_items: int) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal([max(2, num_items // 50), _WIDTH], np.float32)
    for name, count in (("items", num_items), ("queries", 2 * _NUM_QUERIES)):
        vectors = 0.5 * random.standard_normal([count, _WIDTH], np.float32)
        vectors += centres[random.integers(len(centres), size=count)]
        np.save(place / f"{name}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _memory(what: str) -> float:
    """Megabytes of this process, mapped files that were read included: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


if __name__ == "__main__":
    flags.DEFINE_integer("items", 1_000_000, "Items of the catalogue.", lower_bound=1_000)
    flags.DEFINE_list("parts", ["1", "4"], "Numbers of parts.")
    command.run(main, bad_input=(InputError,))

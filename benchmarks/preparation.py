"""Preparation: rows a second, peak memory and bytes on disk against the rows of a log.

Each log is prepared in a process of its own.

Users and items of the generated log follow Zipf's law, with 50 events a user and 250 an item on average.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import pictures
from benchmarks.report import Result

ROOT = Path(__file__).resolve().parents[1]

_EVENTS_A_USER = 50
_EVENTS_AN_ITEM = 250
_USER_EXPONENT = 0.5
_ITEM_EXPONENT = 0.8


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      rows: of the logs that the local way prepares.
      beam_rows: rows of the log that Beam prepares as well, one of `rows`; None: none.
    """

    rows: tuple[int, ...] = (500_000, 5_000_000, 50_000_000)
    beam_rows: int | None = None


def measure(scale: Scale, say: Callable[[str], None] = print) -> Result:
    """Prepares each log once.

    Args:
      scale: how much is measured.
      say: told how it goes on.

    Returns:
      The result; its ratio divides the seconds a row of the largest log by those of the smallest.

    Raises:
      RuntimeError: a preparation failed, or Beam came to another fingerprint.
    """
    result = Result("preparation", details={"scale": dataclasses.asdict(scale), "runs": []})
    seconds_a_row = {}
    with tempfile.TemporaryDirectory() as folder:
        for rows in scale.rows:
            log = Path(folder) / "log.csv"
            say(f"writing a log of {rows:,} rows")
            write_log(log, rows)
            log_bytes = log.stat().st_size
            runners = ["local", *(["DirectRunner"] if rows == scale.beam_rows else [])]
            fingerprints = set()
            for runner in runners:
                say(f"preparing it: {runner}")
                run = _prepare(log, Path(folder) / "dataset", runner)
                result.details["runs"].append({"runner": runner, "rows": rows, "log_bytes": log_bytes} | run)
                name = f"{runner}_{rows // 1000}k"
                result.add(f"{name}_rows", "rows/s", [rows / run["seconds"]])
                result.add(f"{name}_memory", "peak GiB", [run["peak_gib"]])
                result.add(f"{name}_disk", "bytes a row", [run["dataset_bytes"] / rows])
                fingerprints.add(run["fingerprint"])
                if runner == "local":
                    seconds_a_row[rows] = run["seconds"] / rows
            if len(fingerprints) > 1:
                raise RuntimeError(f"the runners disagree on {rows:,} rows: {fingerprints}")
    largest, smallest = seconds_a_row[max(scale.rows)], seconds_a_row[min(scale.rows)]
    result.ratios["seconds_a_row_largest_over_smallest"] = [largest / smallest]
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws the rows a second of each log."""
    rows = [one for one in result.measures if one.unit == "rows/s"]
    pictures.draw_bars(directory / "preparation.png", "Preparing a log, rows a second", rows)


def write_log(path: Path, rows: int) -> None:
    """Writes a CSV file of `u<number>,i<number>,<seconds>` in random order of time."""
    random = np.random.default_rng(0)

    def draw(count: int, exponent: float) -> pl.Series:
        rest = 1.0 - exponent
        uniform = random.random(rows)
        rank = (uniform * ((count + 1.0) ** rest - 1.0) + 1.0) ** (1.0 / rest)
        return pl.Series(np.clip(rank, 1, count).astype(np.int64)).cast(pl.String)

    columns = {
        "user_id": "u" + draw(max(rows // _EVENTS_A_USER, 1), _USER_EXPONENT),
        "item_id": "i" + draw(max(rows // _EVENTS_AN_ITEM, 1), _ITEM_EXPONENT),
        "timestamp": random.integers(1_600_000_000, 1_700_000_000, rows),
    }
    pl.DataFrame(columns).write_csv(path)


def _prepare(log: Path, output: Path, runner: str) -> dict:
    """Runs the script; its seconds, its peak of memory, and the fingerprint that came of it."""
    command = [
        *(sys.executable, str(ROOT / "pipelines" / "prepare.py"), f"--input={log}"),
        *(f"--output={output}", f"--runner={runner}", "--overwrite"),
    ]
    # A process between, so that the peak of its children is the one of this run alone.
    watch = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(done.returncode)"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", watch, *command], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    info = json.loads((output / "dataset.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "peak_gib": int(done.stdout) / 2**20,
        "fingerprint": info["fingerprint"],
        "users": sum(info["counts"]["users"].values()),
        "items": info["num_items"],
        "dataset_bytes": sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
    }

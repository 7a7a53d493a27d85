"""Finds a recipe for a log: the search with its processes, its bar and its files."""

import math
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from causerec_tf import files
from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from pipelines.choosing import choosing_page, rounds, trial_process
from pipelines.choosing.preset import read_preset
from pipelines.command_line import report

CHOSEN = "chosen.flags"
PAGE = "choosing.md"
_EVALUATE = Path(__file__).parents[1] / "evaluate.py"
_ENOUGH_EPOCHS = 5
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(budget: str) -> float:
    """The seconds of a budget such as 90s, 30m or 2h.

    Raises:
      InputError: it is no such thing.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget)
    if not found or float(found[1]) <= 0:
        raise InputError(f"--budget={budget}: wanted a time such as 90s, 30m or 2h.")
    return float(found[1]) * _UNITS[found[2]]


def choose(dataset: str, output: Path, *, preset: str, budget: str, given: Mapping[str, Any]) -> Path:
    """Searches, or goes on with a search, and writes what was chosen.

    Args:
      dataset: directory of the dataset.
      output: directory of the search.
      preset: what is tried; see `preset.read_preset`.
      budget: the time for the trainings of all trials; what starts and measures them comes on top.
      given: settings that every trial has.

    Returns:
      The flagfile of the best trial, `chosen.flags` in `output`; `choosing.md` lies beside it.

    Raises:
      InputError: the preset, the budget or the dataset cannot be used, or another search is in `output`.
      RuntimeError: a trial failed.
    """
    plan, seconds = read_preset(preset), seconds_of(budget)
    from causerec_tf import training
    from causerec_tf.data.sequences import open_dataset

    opened = open_dataset(dataset)
    opened.verify()
    training.check_users(opened)
    with files.only_one(output / ".lock", f"{output} is being filled by another search. Wait for it."):
        search = rounds.RoundSearch(
            plan,
            output,
            dataset=dataset,
            fingerprint=opened.fingerprint,
            num_items=opened.num_items,
            seconds=seconds,
            given=given,
        )
        total = sum(one.num_trials for one in plan.rounds)
        with tqdm(total=total, desc="trials", dynamic_ncols=True) as bar:

            def on_end(attempt: rounds.Attempt) -> None:
                bar.write(_line(attempt))
                if attempt is search.attempts[0] and (note := short_trials(attempt, seconds / plan.time)):
                    bar.write(note)
                bar.update()

            def on_skip(reason: str) -> None:
                bar.write(f"left out: {reason}")
                bar.update()

            search.run(_train_beside, on_end, on_skip)
        baselines = _baselines(search.best.settings, output)
        flagfile = output / CHOSEN
        files.write_text(flagfile, choosing_page.chosen_flagfile(search))
        title = f"A recipe for {opened.name}"
        command = report.this_command()
        text = choosing_page.page(search, baselines, title=title, command=command)
        files.write_text(output / PAGE, text)
    print(text[text.index("\n## Beside") :])
    print(f"chosen: {flagfile}\npage: {output / PAGE}")
    return flagfile


def _train_beside(settings: Settings, seconds: float, directory: Path) -> int:
    """Trains a trial in a process of its own, which leaves its memory to the next one."""
    what = (settings, seconds, directory)
    process = multiprocessing.get_context("spawn").Process(target=trial_process.run, args=what, daemon=True)
    process.start()
    try:
        process.join()
    finally:
        process.terminate()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def _baselines(settings: Settings, output: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The rules and linear models that the data allow, on the validation users, by policy."""
    record = output / "validation.json"
    arguments = [
        f"--run={settings.run}",
        "--split=validation",
        "--baselines",
        f"--output={record}",
        "--overwrite",
    ]
    done = subprocess.run(
        [sys.executable, str(_EVALUATE), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the baselines could not be measured: {done.stderr.strip()[-500:]}")
    found = files.read_json(record)["baselines"]
    names = {"validation": "validation", "validation_without_seen": "without_seen"}
    return {
        name: {names[split]: figures for split, figures in of.items() if split in names}
        for name, of in found.items()
        if "validation" in of
    }


def short_trials(attempt: rounds.Attempt, seconds: float) -> str:
    """What to say where trials of so many seconds are too short to tell options apart; empty: nothing."""
    needed = _ENOUGH_EPOCHS * attempt.result.get("seconds_per_epoch", 0.0)
    if needed <= seconds:
        return ""
    return (
        f"note: a trial has {attempt.result['epochs']} of this log's epochs. What pays only after more, such"
        f" as the augmentation, may be missed: a budget {math.ceil(needed / seconds)} times as large gives"
        f" {_ENOUGH_EPOCHS}."
    )


def _line(attempt: rounds.Attempt) -> str:
    where = f"{attempt.round_name}.{attempt.name}"
    if "failed" in attempt.result:
        return f"{where}: {attempt.result['failed']}"
    values = attempt.result["validation"]
    figures = ", ".join(f"{name} {values[name]:.4f}" for name in ("recall@50", "ndcg@50"))
    return f"{where}: {attempt.result['epochs']} epochs, {figures}"

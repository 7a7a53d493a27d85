"""The search for a system's settings: the plan of its trials, and which of them is kept.

A system starts from its flagfile. Stage by stage every option is tried on top of what is kept so far, and the
best trial by validation Recall@50 is kept: a coordinate search, whose budget is the number of its trials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causerec_tf.errors import InputError
from causerec_tf.settings import CHOSEN_BY
from pipelines.comparison.plan import PlannedRun, as_flags, check_table, load_table, planned_run


@dataclass(frozen=True)
class System:
    """A system to tune.

    Attributes:
      flagfile: where it starts.
      stages: for each stage the options to try, each a table of flags.
    """

    flagfile: str
    stages: tuple[tuple[dict[str, Any], ...], ...]


@dataclass(frozen=True)
class TuningPlan:
    """What to tune.

    Attributes:
      dataset: directory of the dataset.
      flags: of every trial.
      seed: of every trial.
      systems: in the plan's order.
    """

    dataset: str
    flags: dict[str, Any]
    seed: int
    systems: tuple[System, ...]


@dataclass(frozen=True)
class Trial:
    """A trial and what it gave.

    Attributes:
      changes: the flags that differ from the flagfile's.
      tried: those of them that are new in this trial.
      record: of the run.
    """

    changes: dict[str, Any]
    tried: dict[str, Any]
    record: dict

    @property
    def score(self) -> float:
        """Validation Recall@50."""
        return self.record["validation"][CHOSEN_BY]


def read_plan(path: Path) -> TuningPlan:
    """Reads a plan and checks it.

    Args:
      path: of the TOML file.

    Raises:
      InputError: a key that cannot be, a stage that is not there, systems with budgets of different size.
    """
    table = load_table(path)
    check_table(
        table,
        str(path),
        required={"dataset": str, "stages": dict, "systems": list},
        optional={"flags": dict, "seed": int},
    )
    systems = []
    for number, entry in enumerate(table["systems"], start=1):
        where = f"{path}, system {number}"
        check_table(entry, where, required={"flagfile": str, "stages": list}, optional={})
        if not Path(entry["flagfile"]).is_file():
            raise InputError(f"{where}: there is no flagfile {entry['flagfile']} here, in {Path.cwd()}.")
        for name in entry["stages"]:
            if name not in table["stages"]:
                raise InputError(f"{where}: stage {name!r}: wanted one of {', '.join(table['stages'])}.")
        stages = tuple(tuple(table["stages"][name]) for name in entry["stages"])
        systems.append(System(entry["flagfile"], stages))
    budgets = {system.flagfile: 1 + sum(map(len, system.stages)) for system in systems}
    if len(set(budgets.values())) > 1:
        trials = ", ".join(f"{name} {count}" for name, count in budgets.items())
        raise InputError(f"{path}: every system needs the same number of trials, got {trials}.")
    return TuningPlan(table["dataset"], table.get("flags", {}), table.get("seed", 0), tuple(systems))


def search(
    plan: TuningPlan, system: System, runs: Path, train: Callable[[Sequence[PlannedRun]], list[dict]]
) -> list[Trial]:
    """Tries every stage of a system.

    Args:
      plan: for what all systems share.
      system: to tune.
      runs: where directories of runs are made.
      train: runs -> their records; those of one stage come together.

    Returns:
      All trials, in the order in which they were made.
    """
    trials: list[Trial] = []
    best: Trial | None = None
    for stage in ({},), *system.stages:
        kept = best.changes if best else {}
        number = len(trials)
        planned = [
            _planned(plan, system, kept | option, number + place, runs) for place, option in enumerate(stage)
        ]
        for option, record in zip(stage, train(planned), strict=True):
            trials.append(Trial(kept | option, option, record))
        # The first of several that are equally good: the one nearer to the flagfile.
        best = max(trials, key=lambda trial: trial.score)
    return trials


def _planned(plan: TuningPlan, system: System, changes: dict, number: int, runs: Path) -> PlannedRun:
    where = f"{system.flagfile}, trial {number}"
    arguments = [
        f"--flagfile={system.flagfile}",
        *as_flags(plan.flags, where),
        *as_flags(changes, where),
        "--recipe=tuned",
        f"--variant=trial_{number}",
        f"--seed={plan.seed}",
    ]
    return planned_run(arguments, plan.dataset, runs, where)

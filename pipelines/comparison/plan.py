"""The plan of a comparison: a small TOML file -> every run with its settings, checked before anything runs.

docs/comparing.md says what may stand in the file.
"""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from causerec_tf import flagfiles, metrics
from causerec_tf.errors import InputError
from causerec_tf.settings import RECIPE_LABELS, Settings

VALIDATION = "validation"
TEST_WITHOUT_SEEN = "test_without_seen"
# What can be measured: the key in records -> in words.
MEASURES = {
    "test": "test users",
    TEST_WITHOUT_SEEN: "test users, seen items left out",
    VALIDATION: "validation users",
}
# Those with a value for each user, in every record of this version.
METRICS = tuple(f"{name}@{k}" for name in metrics.NAMES for k in metrics.CUTOFFS)
_SHOWN = ("recall@20", "recall@50", "ndcg@20", "ndcg@50", "hr@20", "hr@50")
_TESTED = ("recall@50", "ndcg@50")
PAPER_METRICS = tuple(f"{name}@{k}" for name in ("recall", "ndcg_target_order", "hr") for k in (20, 50))

_KINDS: dict[Any, str] = {str: "a string", int: "a whole number", list: "a list", dict: "a table"}
_KINDS |= {str | dict: "a string or a table", int | float: "a number", bool: "true or false"}
# A row's keys say these, so that its flags cannot say something else.
_KEYS_OF_A_ROW = {
    **{"recipe": "recipe", "variant": "variant", "seed": "seeds"},
    **{"dataset": "dataset at the top", "run": "--runs of the script"},
}


@dataclass(frozen=True)
class PlannedRun:
    """One run that the plan asks for.

    Its name, `<system>[.<variant>]-<recipe>-<seed>`, is that of its record and its directory; with its flags
    pipelines/train.py has its settings.
    """

    name: str
    settings: Settings
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row of the table: the runs of `<system>[.<variant>]` with one recipe, by ascending seed."""

    system: str
    recipe: str
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Paper:
    """The figures of a publication, system -> metric -> value, with their source and perhaps a note."""

    source: str
    note: str
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Plan:
    """What to run and what to lay beside it.

    Attributes:
      dataset: directory of the dataset.
      baselines: recipe -> the system that the rows of this recipe are tested against.
      controls: system -> a second one that its rows are tested against.
      measure: whose users the table shows, one of `MEASURES`.
      metrics: the columns of the table.
      tested: the metrics of the tests and the picture.
      rows: of the table, in the plan's order.
      paper: figures to lay beside ours, if any.
    """

    dataset: str
    baselines: Mapping[str, str]
    controls: Mapping[str, str]
    measure: str
    metrics: tuple[str, ...]
    tested: tuple[str, ...]
    rows: tuple[Row, ...]
    paper: Paper | None

    @property
    def measures_test_users(self) -> bool:
        """Whether test users are looked at: then rows are tested against each other."""
        return self.measure != VALIDATION

    @property
    def runs(self) -> list[PlannedRun]:
        """All runs, in the order of the plan."""
        return [run for row in self.rows for run in row.runs]


def read_plan(path: Path, runs: Path) -> Plan:
    """Reads a TOML file and checks all of it; `runs` is where directories of runs are made.

    Raises:
      InputError: a key, a flag or a value that cannot be, a file that is missing, two rows that would make
        the same record or the same row of the table, or a baseline or control that no row is of.
    """
    table = load_table(path)
    check_table(
        table,
        str(path),
        required={"dataset": str, "baseline": str | dict, "rows": list},
        optional={
            **{"controls": dict, "flags": dict, "settings": dict, "paper": str},
            **{"measure": str, "metrics": list, "tested": list},
        },
    )
    measure = table.get("measure", "test")
    if measure not in MEASURES:
        raise InputError(f"{path}: measure = {measure!r}: wanted one of {', '.join(MEASURES)}.")
    if not table["rows"]:
        raise InputError(f"{path} has no rows: there is nothing to compare.")
    rows: dict[tuple[str, str], Row] = {}
    for number, entry in enumerate(table["rows"], start=1):
        where = f"{path}, row {number}"
        for run in _runs_of(entry, where, table, runs):
            _add(rows, run, where)
    baselines = _baselines_of(table["baseline"], [*dict.fromkeys(recipe for _, recipe in rows)], str(path))
    systems, controls = [*dict.fromkeys(system for system, _ in rows)], table.get("controls", {})
    for key, system in (
        *(("baseline", system) for system in baselines.values()),
        *(("controls", system) for pair in controls.items() for system in pair),
    ):
        if system not in systems:
            raise InputError(f"{path}: {key} = {system!r}: wanted one of its rows, {', '.join(systems)}.")
    return Plan(
        dataset=table["dataset"],
        baselines=baselines,
        controls=controls,
        measure=measure,
        metrics=_metrics_of(table, "metrics", _SHOWN, str(path)),
        tested=_metrics_of(table, "tested", _TESTED, str(path)),
        rows=tuple(
            dataclasses.replace(row, runs=tuple(sorted(row.runs, key=lambda run: run.settings.seed)))
            for row in rows.values()
        ),
        paper=_read_paper(Path(table["paper"])) if "paper" in table else None,
    )


def _metrics_of(table: dict, key: str, default: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The metrics that a plan names under a key."""
    chosen = table.get(key, default)
    if not chosen or len(set(map(str, chosen))) < len(chosen) or any(one not in METRICS for one in chosen):
        raise InputError(
            f"{where}: {key} = {chosen!r}: wanted one or more, each once, of {', '.join(METRICS)}."
        )
    return tuple(chosen)


def _baselines_of(baseline: str | dict, recipes: Sequence[str], where: str) -> dict[str, str]:
    """Recipe -> baseline, of one for all recipes or a table that names one for each."""
    if isinstance(baseline, str):
        return dict.fromkeys(recipes, baseline)
    if set(baseline) != set(recipes):
        raise InputError(
            f"{where}: baseline has the recipes {', '.join(baseline)}: wanted those of its rows,"
            f" {', '.join(recipes)}."
        )
    return baseline


def _runs_of(entry: Any, where: str, plan: dict, runs: Path) -> list[PlannedRun]:
    """The runs of one [[rows]] of the file."""
    check_table(
        entry,
        where,
        required={"seeds": list},
        optional={"flagfile": str, "settings": list, "recipe": str, "variant": str, "flags": dict},
    )
    if not entry["seeds"]:
        raise InputError(f"{where}: seeds = []: wanted one seed or more.")
    arguments = as_flags(plan.get("flags", {}), where)
    if "flagfile" in entry:
        if not Path(entry["flagfile"]).is_file():
            raise InputError(f"{where}: there is no flagfile {entry['flagfile']} here, in {Path.cwd()}.")
        arguments.insert(0, f"--flagfile={entry['flagfile']}")
    shared = plan.get("settings", {})
    for name in entry.get("settings", []):
        if name not in shared:
            raise InputError(f"{where}: settings has {name!r}: wanted some of {', '.join(shared)}.")
        arguments += as_flags(shared[name], where)
    arguments += as_flags(entry.get("flags", {}), where)
    if "recipe" in entry and entry["recipe"] not in RECIPE_LABELS:
        raise InputError(f"{where}: recipe = {entry['recipe']!r}: wanted one of {', '.join(RECIPE_LABELS)}.")
    arguments += [
        f"--{flag}={entry[name]}"
        for name, flag in (("recipe", "recipe_label"), ("variant", "variant"))
        if name in entry
    ]
    made = []
    for seed in entry["seeds"]:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise InputError(f"{where}: seeds has {seed!r}: wanted whole numbers.")
        made.append(_planned_run([*arguments, f"--seed={seed}"], plan["dataset"], runs, where))
    return made


def _planned_run(arguments: Sequence[str], dataset: str, runs: Path, where: str) -> PlannedRun:
    """A run with these settings, named by its system, recipe and seed."""
    arguments = [*arguments, f"--dataset={dataset}"]
    settings = parse_flags([*arguments, f"--run={runs}"], where)
    name = f"{_system(settings)}-{settings.recipe_label}-{settings.seed}"
    directory = str(runs / Path(dataset).absolute().name / name)
    settings = dataclasses.replace(settings, run=directory)
    return PlannedRun(name, settings, (*arguments, f"--run={directory}"))


def parse_flags(arguments: Sequence[str], where: str) -> Settings:
    """The settings that flags ask for; an `InputError` that names `where` if they cannot be."""
    try:
        return flagfiles.parse(arguments)
    except (flags.Error, InputError) as error:
        raise InputError(f"{where}: {error}") from error


def _add(rows: dict[tuple[str, str], Row], run: PlannedRun, where: str) -> None:
    """Puts a run into its row of the table."""
    key = (_system(run.settings), run.settings.recipe_label)
    others = rows[key].runs if key in rows else ()
    for other in others:
        if other.name == run.name:
            raise InputError(
                f"{where} would make the record {run.name}, which the plan makes already. Remove a seed, or"
                " name what differs with variant = ..."
            )
        if _without_seed(other) != _without_seed(run):
            raise InputError(
                f"{where} would stand in one row of the table with {other.name}, but has other settings."
                " Name what differs with variant = ..."
            )
    rows[key] = Row(*key, (*others, run))


def _system(settings: Settings) -> str:
    return f"{settings.system}.{settings.variant}" if settings.variant else settings.system


def _without_seed(run: PlannedRun) -> Settings:
    return dataclasses.replace(run.settings, seed=0, run="")


def as_flags(values: Mapping[str, Any], where: str) -> list[str]:
    """The flags of a table of flags; an `InputError` for what a plan says elsewhere, or is no value."""
    for name, value in values.items():
        if name in _KEYS_OF_A_ROW:
            raise InputError(f"{where}: the flags have {name}; {_KEYS_OF_A_ROW[name]} says that.")
        if not isinstance(value, str | int | float):
            raise InputError(f"{where}: {name} = {value!r} is no value of a flag.")
    return [f"--{name}={value}" for name, value in values.items()]


def _read_paper(path: Path) -> Paper:
    table = load_table(path)
    check_table(table, str(path), required={"source": str, "systems": dict}, optional={"note": str})
    for system, figures in table["systems"].items():
        if not isinstance(figures, dict) or set(figures) != set(PAPER_METRICS):
            raise InputError(f"{path}: {system} must have the figures {', '.join(PAPER_METRICS)}.")
        for metric, value in figures.items():
            if not isinstance(value, float) or not 0 <= value <= 1:
                raise InputError(
                    f"{path}: {system} has {metric} = {value!r}: wanted a number from 0.0 to 1.0."
                )
    return Paper(table["source"], table.get("note", ""), table["systems"])


def load_table(path: Path) -> dict:
    """Reads a TOML file; an `InputError` says that it is not there, or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path} here, in {Path.cwd()}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML: {error}.") from error


def check_table(table: Any, where: str, *, required: Mapping[str, Any], optional: Mapping[str, Any]) -> None:
    """Checks that a table has the keys it must have, no others, and values of the right kind."""
    known = {**required, **optional}
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}: wanted a table with {', '.join(known)}.")
    if unknown := [key for key in table if key not in known]:
        raise InputError(f"{where} has the key {', '.join(unknown)}: wanted only {', '.join(known)}.")
    if missing := [key for key in required if key not in table]:
        raise InputError(f"{where} has no {', '.join(missing)}.")
    for key, value in table.items():
        if not isinstance(value, known[key]):
            raise InputError(f"{where}: {key} = {value!r}: wanted {_KINDS[known[key]]}.")

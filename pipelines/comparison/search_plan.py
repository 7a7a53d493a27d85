"""The plan of a search: a small TOML file -> systems with what may be tried of each, all of it checked.

docs/comparing.md says what may stand in the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial

from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from pipelines.comparison.plan import as_flags, check_table, load_table, parse_flags


@dataclass(frozen=True)
class System:
    """A system to tune: its name is that of its study, its trials and its flagfile.

    What may be tried of a setting in its space is a list of values, a list of tables of settings, or a range.
    """

    name: str
    flags: Mapping[str, Any]
    space: Mapping[str, Any]


@dataclass(frozen=True)
class SearchPlan:
    """What to tune on a dataset; the seed is that of the search and of every training."""

    dataset: str
    seed: int
    systems: tuple[System, ...]

    def settings(self, system: System, changes: Mapping[str, Any], run: Path) -> Settings:
        """The settings of a trial.

        Raises:
          InputError: a flag or a value that cannot be.
        """
        where = f"system {system.name}"
        arguments = as_flags({**system.flags, **changes}, where)
        more = ["--recipe_label=tuned", f"--seed={self.seed}", f"--dataset={self.dataset}", f"--run={run}"]
        return parse_flags([*arguments, *more], where)


def read_plan(path: Path) -> SearchPlan:
    """Reads a plan and checks it: every option of every system makes settings that can be, and has an effect.

    Raises:
      InputError: a key, a flag, a value or a range that cannot be, or a system without anything to try.
    """
    table = load_table(path)
    known = {"flags": dict, "space": dict, "seed": int}
    check_table(table, str(path), required={"dataset": str, "systems": dict}, optional=known)
    systems = []
    for name, entry in table["systems"].items():
        where = f"{path}, system {name}"
        check_table(entry, where, required={}, optional={"flags": dict, "space": dict})
        if not re.fullmatch("[a-z0-9_]+", name):
            raise InputError(f"{where}: wanted a name of a-z, 0-9 and _ only.")
        space = {**table.get("space", {}), **entry.get("space", {})}
        if not space:
            raise InputError(f"{where} has no space: there is nothing to try.")
        systems.append(System(name, {**table.get("flags", {}), **entry.get("flags", {})}, space))
    plan = SearchPlan(table["dataset"], table.get("seed", 0), tuple(systems))
    if not systems:
        raise InputError(f"{path} has no systems: there is nothing to tune.")
    for system in systems:
        _check_space(plan, system, f"{path}, system {system.name}")
    return plan


def _check_space(plan: SearchPlan, system: System, where: str) -> None:
    """Checks each option beside the flags that every trial has, and that each setting acts somewhere."""
    changed: set[str] = set()
    acting: set[str] = set()
    for name, options in system.space.items():
        try:
            distribution_of(name, options)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{where}: {name} = {options!r}: {error} Wanted a list of values, a list of tables of flags,"
                " or a range, { low = ..., high = ... } with log = true or step = ..."
            ) from error
        for option in _ends(options):
            changes = option if isinstance(option, dict) else {name: option}
            settings = plan.settings(system, changes, Path(where))
            if settings.stop_after:
                raise InputError(f"{where}: stop_after leaves out the validation that trials are chosen by.")
            changed |= set(changes)
            acting |= set(settings.acting())
    if "choose_by" in changed:
        raise InputError(
            f"{where}: trials are compared by one figure: choose_by stands in flags, not in the space."
        )
    if idle := sorted(changed - acting):
        raise InputError(f"{where}: {', '.join(idle)} has no effect with any of its options. Leave it out.")


def _ends(options: list | dict) -> list:
    return options if isinstance(options, list) else [options["low"], options["high"]]


def distribution_of(name: str, options: list | dict) -> BaseDistribution:
    """What Optuna draws from; it raises `ValueError` or `TypeError` for what cannot be drawn from."""
    if isinstance(options, list):
        return CategoricalDistribution([_label(option) for option in options])
    if isinstance(getattr(Settings, name, None), int):
        return IntDistribution(**options)
    return FloatDistribution(**options)


def suggest(trial: Trial | FrozenTrial, space: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that a trial is to try."""
    changes: dict[str, Any] = {}
    for name, options in space.items():
        if isinstance(options, list):
            by_label = {_label(option): option for option in options}
            chosen = by_label[trial.suggest_categorical(name, list(by_label))]
            changes |= chosen if isinstance(chosen, dict) else {name: chosen}
        else:
            draw = trial.suggest_int if isinstance(getattr(Settings, name), int) else trial.suggest_float
            changes[name] = draw(name, **options)
    return changes


def _label(option: Any) -> Any:
    """What a study calls an option: a table by its flags."""
    return " ".join(as_flags(option, "")) or "as it is" if isinstance(option, dict) else option


def start_of(system: System, settings: Settings) -> dict[str, Any]:
    """The options that are nearest to the flags alone: what the first trial tries."""
    start = {}
    for name, options in system.space.items():
        if isinstance(options, dict):
            value = getattr(settings, name)
            if options["low"] <= value <= options["high"]:
                start[name] = value
            continue
        for option in options:
            changes = option if isinstance(option, dict) else {name: option}
            if all(getattr(settings, key) == value for key, value in changes.items()):
                start[name] = _label(option)
                break
    return start

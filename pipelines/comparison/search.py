"""The search for settings: its plan, one Optuna study a system, and the trials that are trained for it.

docs/comparing.md says what may stand in the plan. What is tried depends on the seed, the trial's number and
what earlier trials gave, and all of it is in a SQLite file: a search that was killed goes on as if it
had not been.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from causerec_tf.errors import InputError
from causerec_tf.settings import CHOSEN_BY, Settings
from pipelines.comparison.plan import as_flags, check_table, load_table, parse_flags

BEST = "best"  # what a trial's study keeps of its best epoch: the number and the validation figures
TRIALS_AT_RANDOM = 4  # before the sampler has something to learn from
# An epoch is laid beside the same one of earlier trials: from the second on, once there are some of them.
_PRUNED_AFTER = {"n_startup_trials": 4, "n_warmup_steps": 2}
_SECONDS_BETWEEN_LOOKS = 1.0
_RANGE = {"low": int | float, "high": int | float}
_OF_A_RANGE = {"log": bool, "step": int | float}


@dataclass(frozen=True)
class System:
    """A system to tune.

    Attributes:
      name: of its study, its trials and its flagfile.
      flags: of every trial.
      space: name -> what may be tried: a list of values of the setting, a list of tables of settings, or a
        range.
    """

    name: str
    flags: Mapping[str, Any]
    space: Mapping[str, Any]


@dataclass(frozen=True)
class SearchPlan:
    """What to tune.

    Attributes:
      dataset: directory of the dataset.
      seed: of the search and of every training.
      systems: in the plan's order.
    """

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

    Args:
      path: of the TOML file.

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
        if isinstance(options, dict):
            check_table(options, f"{where}: {name}", required=_RANGE, optional=_OF_A_RANGE)
            if not options["low"] < options["high"]:
                raise InputError(f"{where}: {name} has low = {options['low']}: wanted less than high.")
            if options.get("log") and options["low"] <= 0:
                raise InputError(f"{where}: {name} has low = {options['low']} and log: wanted more than 0.")
            if options.get("log") and "step" in options:
                raise InputError(f"{where}: {name} has log and step: wanted one of them.")
        elif not isinstance(options, list) or not options:
            raise InputError(
                f"{where}: {name} = {options!r}: wanted a list of values, a list of tables of flags, or a"
                " range, { low = ..., high = ... }."
            )
        for option in _ends(options):
            changes = option if isinstance(option, dict) else {name: option}
            settings = plan.settings(system, changes, Path(where))
            changed |= set(changes)
            acting |= set(settings.acting())
    if idle := sorted(changed - acting):
        raise InputError(f"{where}: {', '.join(idle)} has no effect with any of its options. Leave it out.")


def _ends(options: list | dict) -> list:
    return options if isinstance(options, list) else [options["low"], options["high"]]


def suggest(trial: Trial | FrozenTrial, space: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that a trial is to try."""
    changes: dict[str, Any] = {}
    for name, options in space.items():
        if isinstance(options, list):
            by_label = {_label(option): option for option in options}
            chosen = by_label[trial.suggest_categorical(name, list(by_label))]
            changes |= chosen if isinstance(chosen, dict) else {name: chosen}
        elif isinstance(getattr(Settings, name), int):
            whole = {"step": options.get("step", 1), "log": options.get("log", False)}
            changes[name] = trial.suggest_int(name, options["low"], options["high"], **whole)
        else:
            real = {"step": options.get("step"), "log": options.get("log", False)}
            changes[name] = trial.suggest_float(name, options["low"], options["high"], **real)
    return changes


def _label(option: Any) -> Any:
    """What a study calls an option: a table by its flags."""
    return " ".join(as_flags(option, "")) or "as it is" if isinstance(option, dict) else option


def _start(system: System, settings: Settings) -> dict[str, Any]:
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


class Search:
    """The study of one system, in a file that survives whatever ends the search."""

    def __init__(self, plan: SearchPlan, system: System, fingerprint: str, file: Path):
        """Opens the study, or begins it with the flags alone as its first trial.

        Args:
          plan: what to tune.
          system: of the plan.
          fingerprint: of the dataset.
          file: of all studies.

        Raises:
          InputError: the study that is there was begun with another plan or dataset.
        """
        self.system, self.plan = system, plan
        self._directory = file.parent / "trials" / system.name
        self._study = open_study(file, system.name)
        asked = {"flags": system.flags, "space": system.space, "seed": plan.seed, "dataset": fingerprint}
        asked = json.loads(json.dumps(asked))
        begun = self._study.user_attrs.get("asked")
        if begun is None:
            self._study.set_user_attr("asked", asked)
        elif begun != asked:
            differs = ", ".join(name for name in asked if asked[name] != begun.get(name))
            raise InputError(
                f"{file} holds a search for {system.name} that was begun with another {differs}. Undo the"
                " change, or choose another --output."
            )
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(_start(system, plan.settings(system, {}, self._directory)))

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that were begun, in their order."""
        return [one for one in self._study.get_trials(deepcopy=False) if one.state != TrialState.WAITING]

    @property
    def best(self) -> FrozenTrial | None:
        """The best of the trials that ended, the first of several; None before there is one."""
        complete = [one for one in self.trials if one.state == TrialState.COMPLETE]
        return max(complete, key=lambda one: one.value or 0.0, default=None)

    def settings_of(self, trial: FrozenTrial) -> Settings:
        """The settings of a trial that was begun."""
        changes = suggest(trial, self.system.space)
        return self.plan.settings(self.system, changes, self._directory / str(trial.number))

    def begin(self, limit: int) -> Iterator[int]:
        """The numbers of the trials to train: those that a kill left, then new ones, when they are asked for.

        Args:
          limit: how many trials there are in all.
        """
        left = [one.number for one in self.trials if one.state == TrialState.RUNNING]
        while left or len(self.trials) < limit:
            number = left.pop(0) if left else len(self.trials)
            self._study.sampler = _sampler(self.plan.seed, number)
            trial = self._study.ask() if number == len(self.trials) else trial_of(self._study, number)
            suggest(trial, self.system.space)
            yield number

    def run(
        self,
        limit: int,
        jobs: int,
        start: Callable[[int, Settings], BaseProcess],
        on_progress: Callable[[], None],
    ) -> None:
        """Trains until there are enough trials that ended.

        Args:
          limit: how many trials there are in all.
          jobs: processes side by side.
          start: starts the process of a trial, which tells the study what came of it.
          on_progress: called now and then.

        Raises:
          RuntimeError: a trial's process failed; the others are ended.
        """
        waiting = self.begin(limit)
        running: dict[int, BaseProcess] = {}
        try:
            while True:
                while len(running) < jobs and (number := next(waiting, None)) is not None:
                    running[number] = start(number, self.settings_of(self.trials[number]))
                on_progress()
                if not running:
                    return
                wait([process.sentinel for process in running.values()], _SECONDS_BETWEEN_LOOKS)
                for number in [one for one, process in running.items() if not process.is_alive()]:
                    process = running.pop(number)
                    if process.exitcode != 0:
                        raise RuntimeError(
                            f"trial {number} of {self.system.name} failed (exit code {process.exitcode});"
                            f" {self._directory / str(number)}.log says why. The same command goes on"
                            " with it."
                        )
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.join()


def open_study(file: Path, name: str) -> optuna.Study:
    """Opens a study, or makes it.

    Args:
      file: of all studies, SQLite.
      name: of the study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Trials that are trained side by side wait for each other's writing.
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{file.absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    return optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(**_PRUNED_AFTER),
        load_if_exists=True,
    )


def trial_of(study: optuna.Study, number: int) -> Trial:
    """A trial that was begun, to go on with: Optuna has it by an id of its own."""
    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial: it needs no memory of what was drawn for others before a stop."""
    drawn = np.random.SeedSequence([seed, number]).generate_state(1)
    return optuna.samplers.TPESampler(seed=int(drawn[0]), n_startup_trials=TRIALS_AT_RANDOM)


class Reporter:
    """Reports the epochs of a trial to its study, and ends a trial that falls behind the others."""

    def __init__(self, trial: Trial):
        """Takes up a trial where it is.

        Args:
          trial: that is trained.
        """
        self._trial = trial
        self._reported = set(trial._get_latest_trial().intermediate_values)

    @property
    def best_score(self) -> float:
        """Of the epochs that were reported."""
        return self._trial.user_attrs[BEST]["validation"][CHOSEN_BY]

    def on_epoch(self, number: int, validation: Mapping[str, float]) -> None:
        """Reports an epoch, if it is not known from before a stop.

        Raises:
          optuna.TrialPruned: the trial is behind the median of the others at this epoch.
        """
        if number in self._reported:
            return
        if BEST not in self._trial.user_attrs or validation[CHOSEN_BY] > self.best_score:
            self._trial.set_user_attr(BEST, {"epoch": number, "validation": dict(validation)})
        self._trial.report(validation[CHOSEN_BY], step=number)
        self._reported.add(number)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def page(searches: Sequence[Search], *, title: str, command: str, shown: Sequence[str]) -> str:
    """Every trial of every system, in Markdown.

    Args:
      searches: of the systems, in the plan's order.
      title: of the page.
      command: that made them.
      shown: validation figures that get a column.
    """
    lines = [f"# {title}", "", "```", command, "```", ""]
    lines += ["Validation users, at the best epoch of each trial; the test users were not looked at."]
    for search in searches:
        lines += ["", f"## {search.system.name}", ""]
        lines += ["| trial | tried | " + " | ".join(shown) + " | epoch | |"]
        lines += ["|---|---|" + "---:|" * (len(shown) + 1) + "---|"]
        for trial in search.trials:
            best = trial.user_attrs.get(BEST)
            figures = [f"{best['validation'][name]:.4f}" if best else "" for name in shown]
            epochs = f"{best['epoch']} of {len(trial.intermediate_values)}" if best else ""
            outcome = "**best**" if search.best == trial else trial.state.name.lower()
            outcome = "" if outcome == "complete" else outcome
            tried = " ".join(f"`{flag}`" for flag in tried_flags(trial))
            lines.append("| " + " | ".join([str(trial.number), tried, *figures, epochs, outcome]) + " |")
    return "\n".join(lines) + "\n"


def tried_flags(trial: FrozenTrial) -> list[str]:
    """What a trial tried, as flags, numbers at three digits."""
    flags = []
    for name, value in trial.params.items():
        if isinstance(value, str) and (value.startswith("--") or value == "as it is"):
            flags += [] if value == "as it is" else value.split(" ")
        else:
            flags.append(f"--{name}={value:.3g}" if isinstance(value, float) else f"--{name}={value}")
    return flags


def best_flagfile(search: Search) -> str:
    """A flagfile of the best trial: its settings without its places."""
    best = search.best
    assert best is not None
    settings = dataclasses.replace(search.settings_of(best), dataset="", run="")
    lines = settings.to_flagfile().splitlines(keepends=True)
    score = f"# {search.system.name}, trial {best.number}: validation {CHOSEN_BY} {best.value:.4f}\n"
    return score + "".join(line for line in lines if not line.endswith("=\n"))

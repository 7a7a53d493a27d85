"""The search for settings: one Optuna study a system, and the trials that are trained for it.

What is tried depends on the seed, the trial's number and what earlier trials gave, and all of it is in a
SQLite file: a search that was killed goes on as if it had not been.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from pipelines.comparison.search_plan import SearchPlan, System, start_of, suggest

BEST = "best"  # what a study keeps of a trial's best epoch: the number and the validation figures
_TRIALS_AT_RANDOM = 4  # before the sampler has something to learn from
# An epoch is laid beside the same one of earlier trials: from the second on, once there are some of them.
_PRUNED_AFTER = {"n_startup_trials": 4, "n_warmup_steps": 2}
_SECONDS_BETWEEN_LOOKS = 1.0


class Search:
    """The study of one system, in a file that survives whatever ends the search."""

    def __init__(self, plan: SearchPlan, system: System, fingerprint: str, file: Path):
        """Opens the study, or begins it with the flags alone as its first trial.

        `fingerprint` is the dataset's, `file` that of all studies.

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
            self._study.enqueue_trial(start_of(system, plan.settings(system, {}, self._directory)))

    @property
    def choose_by(self) -> str:
        """The validation figure that trials are compared by."""
        return self.plan.settings(self.system, {}, self._directory).choose_by

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
        """The numbers of the trials to train, when they are asked for: first those that a kill left."""
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
        """Trains until there are so many trials in all, `jobs` of them side by side.

        `start` starts the process of a trial, which tells the study what came of it.

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
    """Opens a study in the SQLite file of all of them, or makes it."""
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
    return optuna.samplers.TPESampler(seed=int(drawn[0]), n_startup_trials=_TRIALS_AT_RANDOM)


class Reporter:
    """Reports the epochs of a trial to its study, and ends a trial that falls behind the others."""

    def __init__(self, trial: Trial, choose_by: str = Settings.choose_by):
        """Takes up a trial where it is; `choose_by` is the validation figure that counts."""
        self._trial = trial
        self._choose_by = choose_by
        self._reported = set(trial._get_latest_trial().intermediate_values)

    @property
    def best_score(self) -> float:
        """Of the epochs that were reported."""
        return self._trial.user_attrs[BEST]["validation"][self._choose_by]

    def on_epoch(self, number: int, validation: Mapping[str, float]) -> None:
        """Reports an epoch, if it is not known from before a stop.

        Raises:
          optuna.TrialPruned: the trial is behind the median of the others at this epoch.
        """
        if number in self._reported:
            return
        if BEST not in self._trial.user_attrs or validation[self._choose_by] > self.best_score:
            self._trial.set_user_attr(BEST, {"epoch": number, "validation": dict(validation)})
        self._trial.report(validation[self._choose_by], step=number)
        self._reported.add(number)
        if self._trial.should_prune():
            raise optuna.TrialPruned

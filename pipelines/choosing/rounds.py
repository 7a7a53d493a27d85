"""The search through a preset's rounds: trials in turn, each in a process, all on validation users.

What is done lies in the trials' directories, so that a search that was stopped goes on where it was.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causerec_tf import files, recipes
from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from pipelines.choosing.preset import TOGETHER, Preset, Round, settings_of

# Trains a trial within so many seconds in a directory; returns the exit code of its process.
StartTrial = Callable[[Settings, float, Path], int]


@dataclass(frozen=True)
class Attempt:
    """A trial of a round.

    Attributes:
      round_name: of its round.
      name: of its option.
      flags: the preset's, those of the rounds before, and its own.
      changed: the option's own.
      settings: the same, with its epochs.
      result: what `trial_process` wrote: `epochs`, `validation` and so on; or `failed`, in words.
      users: metric, or metric + `WITHOUT_SEEN` -> float32 [validation users], in the order of the dataset.
      is_control: whether it is shown, and not chosen.
    """

    round_name: str
    name: str
    flags: Mapping[str, Any]
    changed: Mapping[str, Any]
    settings: Settings
    result: Mapping[str, Any]
    users: Mapping[str, np.ndarray]
    is_control: bool

    @property
    def score(self) -> float:
        """The validation figure that trials are compared by; below all others where it failed."""
        return self.result.get("score", -1.0)

    @property
    def is_still_gaining(self) -> bool:
        """Whether its best epoch is among the last fifth: more may be better."""
        return self.result["best_epoch"] > 0.8 * self.result["epochs"]


class RoundSearch:
    """The trials of a preset on a dataset, within a budget."""

    def __init__(
        self,
        preset: Preset,
        output: Path,
        *,
        dataset: str,
        fingerprint: str,
        num_items: int,
        seconds: float,
        given: Mapping[str, Any],
    ):
        """Begins a search, or goes on with the one in `output`.

        Args:
          preset: what is tried.
          output: directory of the search.
          dataset: directory of the dataset.
          fingerprint: of the dataset.
          num_items: its items.
          seconds: of all trials' training together.
          given: settings that every trial has, whatever the preset says.

        Raises:
          InputError: the search that is there was begun otherwise.
        """
        self.preset, self.output, self.seconds = preset, output, seconds
        self._dataset, self._num_items, self._given = dataset, num_items, dict(given)
        rounds = [dataclasses.asdict(one) for one in preset.rounds]
        asked: dict[str, Any] = {"flags": dict(preset.flags), "rounds": rounds, "given": self._given}
        asked |= {"dataset": fingerprint, "seconds": seconds}
        begun = output / "search.json"
        if not begun.exists():
            files.write_json(begun, asked)
        elif (found := files.read_json(begun)) != asked:
            differs = ", ".join(name for name in asked if asked[name] != found.get(name))
            raise InputError(
                f"{output} holds a search that was begun with another {differs}. Undo the change, or choose"
                " another place."
            )
        self.attempts: list[Attempt] = []

    @property
    def best(self) -> Attempt:
        """What the settings are taken of: the best of the last round that has a trial, its start included.

        Raises:
          RuntimeError: every trial failed.
        """
        able = [one for one in self.attempts if not one.is_control and "score" in one.result]
        if not able:
            raise RuntimeError(f"no trial has a result; see {self.output}/trials for what each printed.")
        return max(able, key=lambda one: one.score)

    def of_round(self, name: str) -> list[Attempt]:
        """The trials of a round."""
        return [one for one in self.attempts if one.round_name == name]

    def run(
        self, start: StartTrial, on_end: Callable[[Attempt], None], on_skip: Callable[[str], None]
    ) -> None:
        """Tries everything that was not tried yet.

        Args:
          start: trains a trial.
          on_end: called with each trial that has ended, those of earlier calls too.
          on_skip: called with the reason why an option is left out.

        Raises:
          RuntimeError: a trial's process failed.
        """
        unit = self.seconds / self.preset.time
        for one in self.preset.rounds:
            origin = self.best if self.attempts else None
            base = {**self.preset.flags, **(origin.flags if origin else {})}
            for option, changed in self._options(one, origin, on_skip):
                flags = {**base, **changed}
                where = f"{one.name}.{option}"
                settings = dataclasses.replace(settings_of(flags, where), **self._given)
                if reason := self._idle(one, settings, origin):
                    on_skip(f"{where}: {reason}")
                    continue
                attempt = self._attempt(
                    one, option, flags, changed, settings, unit * one.time_of(option), start
                )
                self.attempts.append(attempt)
                on_end(attempt)

    def _options(
        self, one: Round, origin: Attempt | None, on_skip: Callable[[str], None]
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The options of a round; the last, what gained together, depends on the trials before it."""
        yield from one.options.items()
        if not one.together:
            return
        least = origin.score if origin else 0.0
        gained = [each for each in self.of_round(one.name) if not each.is_control and each.score > least]
        if len(gained) < 2:
            on_skip(f"{one.name}.{TOGETHER}: fewer than two options gained")
            return
        # Where two change the same, the better one's counts.
        gained.sort(key=lambda each: each.score)
        yield TOGETHER, {name: value for each in gained for name, value in each.changed.items()}

    def _idle(self, one: Round, settings: Settings, start: Attempt | None) -> str:
        """Why an option needs no trial, in words; empty: it does."""
        try:
            recipes.check_softmax(settings, self._num_items)
        except InputError:
            return "the full softmax does not fit"
        has_more_time = one.time > min(other.time for other in self.preset.rounds)
        if start is not None and not has_more_time and _same(settings, start.settings):
            return "it changes nothing here"
        return ""

    def _attempt(
        self,
        one: Round,
        option: str,
        flags: Mapping[str, Any],
        changed: Mapping[str, Any],
        settings: Settings,
        seconds: float,
        start: StartTrial,
    ) -> Attempt:
        directory = self.output / "trials" / f"{one.name}.{option}"
        result_file = directory / "result.json"
        settings = dataclasses.replace(settings, dataset=self._dataset, run=str(directory / "run"))
        if not result_file.exists():
            code = start(settings, seconds, directory)
            if code != 0:
                raise RuntimeError(
                    f"the trial {directory.name} failed (exit code {code}); {directory / 'log.txt'} says why."
                    " The same command goes on with it."
                )
        result = files.read_json(result_file)
        users: dict[str, np.ndarray] = {}
        if "score" in result:
            settings = dataclasses.replace(settings, epochs=result["epochs"], patience=result["epochs"])
            with np.load(directory / "users.npz", allow_pickle=False) as arrays:
                users = {name: arrays[name] for name in arrays.files}
        is_control = option == one.control
        return Attempt(one.name, option, dict(flags), dict(changed), settings, result, users, is_control)


def _same(settings: Settings, other: Settings) -> bool:
    """Whether two make the same run, but for places and epochs."""
    places: dict[str, Any] = dict.fromkeys(("dataset", "run"), "") | {"epochs": 1, "patience": 1}
    return dataclasses.replace(settings, **places).acting() == dataclasses.replace(other, **places).acting()

"""A preset: a TOML file that says what is tried of a log, round by round. Its comments say how."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from pipelines.comparison.plan import as_flags, check_table, load_table, parse_flags

PRESETS = Path(__file__).parent
TOGETHER = "together"
# As much of a round's time: what several settings bring together, a longer history among them, takes longer.
_TIMES_TOGETHER = 2


@dataclass(frozen=True)
class Round:
    """Options that are tried on the best settings so far.

    Attributes:
      name: of the round.
      time: what a trial of it may take, beside those of other rounds; see `time_of`.
      options: name -> flags.
      control: the option that is shown, and not chosen.
      together: whether the options that gained, where several did, are then tried together, twice as long.
    """

    name: str
    time: float
    options: Mapping[str, Mapping[str, Any]]
    control: str | None = None
    together: bool = False

    @property
    def num_trials(self) -> int:
        """How many it makes at most."""
        return len(self.options) + self.together

    def time_of(self, option: str) -> float:
        """What a trial may take."""
        return self.time * (_TIMES_TOGETHER if option == TOGETHER else 1)

    @property
    def whole_time(self) -> float:
        """What all its trials may take."""
        return sum(self.time_of(option) for option in [*self.options, *[TOGETHER] * self.together])


@dataclass(frozen=True)
class Preset:
    """What is tried.

    Attributes:
      flags: of every trial.
      rounds: in their order.
      least_epochs: what was chosen in the last round is trained for so many at least, if it was still
        gaining.
    """

    flags: Mapping[str, Any]
    rounds: tuple[Round, ...]
    least_epochs: int = 1

    @property
    def time(self) -> float:
        """What all trials may take, in the unit of the rounds."""
        return sum(one.whole_time for one in self.rounds)


def read_preset(name: str | Path) -> Preset:
    """Reads a preset by its name, such as `any`, or its path.

    Raises:
      InputError: there is no such preset, or it says what cannot be.
    """
    path = Path(name) if Path(name).is_file() else PRESETS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in PRESETS.glob("*.toml")))
        raise InputError(f"there is no preset {str(name)!r}: wanted {known}, or a TOML file like it.")
    table = load_table(path)
    optional = {"flags": dict, "least_epochs": int}
    check_table(table, str(path), required={"rounds": list}, optional=optional)
    rounds = tuple(_round(one, str(path)) for one in table["rounds"])
    preset = Preset(table.get("flags", {}), rounds, table.get("least_epochs", 1))
    if preset.least_epochs < 1:
        raise InputError(f"{path}: least_epochs = {preset.least_epochs}: wanted 1 or more.")
    if not preset.rounds:
        raise InputError(f"{path} has no rounds: there is nothing to try.")
    for one in preset.rounds:  # a wrong flag is said before anything is trained
        for option, changes in one.options.items():
            settings_of({**preset.flags, **changes}, f"{path}, {one.name}, {option}")
    return preset


def settings_of(flags: Mapping[str, Any], where: str) -> Settings:
    """The settings of a trial, without its places.

    Raises:
      InputError: a flag or a value that cannot be; the message names `where`.
    """
    return parse_flags(["--dataset=", "--run=", *as_flags(flags, where)], where)


def _round(entry: Any, path: str) -> Round:
    optional = {"time": int | float, "control": str, "together": bool}
    check_table(entry, f"{path}, a round", required={"name": str, "options": dict}, optional=optional)
    where = f"{path}, round {entry['name']}"
    if not entry["options"] or any(not isinstance(one, dict) for one in entry["options"].values()):
        raise InputError(f"{where}: options = {entry['options']!r}: wanted a table of flags for each.")
    time, control = float(entry.get("time", 1)), entry.get("control")
    together = entry.get("together", False)
    if together and TOGETHER in entry["options"]:
        raise InputError(f"{where}: an option is named {TOGETHER!r}, as what is tried last is. Rename it.")
    if not 0 < time < float("inf"):
        raise InputError(f"{where}: time = {time:g}: wanted a number above 0.")
    if control is not None and control not in entry["options"]:
        raise InputError(f"{where}: control = {control!r}: wanted one of {', '.join(entry['options'])}.")
    return Round(entry["name"], time, entry["options"], control, together)

"""The settings of a run on the command line: `causerec_tf.flagfiles`, and what a person may not ask for."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from causerec_tf import flagfiles, recipes
from causerec_tf.errors import InputError
from causerec_tf.settings import RECIPE_LABELS, Settings

if TYPE_CHECKING:
    from causerec_tf.data.sequences import Dataset

AUTO = "auto"  # the recipe that is found, of scripts with a flag of this name
_REQUIRED = ("dataset", "run")


def read(flag_values: flags.FlagValues) -> Settings:
    """The settings that parsed flags ask for.

    Raises:
      InputError: a value is out of bounds, the dataset or the run has no name, or a setting that was given on
        the command line has no effect beside the others; one that a flagfile brings may have none.
    """
    check_places(flag_values)
    return _acting(flagfiles.settings_of(flag_values))


def read_like(flag_values: flags.FlagValues, chosen: str, dataset: "Dataset") -> Settings:
    """The settings of a chosen run, to be trained on a dataset; parsed flags that were given replace them.

    Raises:
      InputError: as of `read` and `retraining.settings_like`.
    """
    from causerec_tf.retraining import settings_like

    places = {name: flag_values[name].value for name in _REQUIRED}
    return _acting(settings_like(chosen, dataset, places | given(flag_values)))


def given(flag_values: flags.FlagValues) -> dict[str, Any]:
    """The settings that were given on the command line, or by a flagfile of it, without places."""
    names = [field.name for field in dataclasses.fields(Settings) if field.name not in _REQUIRED]
    return {name: flag_values[name].value for name in names if flag_values[name].present}


def read_chosen(flag_values: flags.FlagValues, flagfile: Path) -> Settings:
    """The settings of a recipe that was found, and those that were given.

    Raises:
      InputError: as of `read`.
    """
    places: dict[str, Any] = {name: flag_values[name].value for name in _REQUIRED}
    return _acting(dataclasses.replace(flagfiles.read(flagfile), **places, **given(flag_values)))


def check_places(flag_values: flags.FlagValues) -> None:
    """Raises `InputError` where the dataset or the run has no name."""
    for name in _REQUIRED:
        if not flag_values[name].value:  # a path that is empty is the working directory
            raise InputError(f"--{name}= names nothing: wanted a directory.")


def _acting(settings: Settings) -> Settings:
    settings.check_acting([argument.lstrip("-").partition("=")[0] for argument in sys.argv[1:]])
    return settings


def with_recipe(arguments: list[str]) -> list[str]:
    """A command line with `--recipe=NAME` replaced by the recipe's flagfile, in its place."""
    changed = []
    for argument in arguments:
        name, separator, value = argument.lstrip("-").partition("=")
        if name == "recipe" and argument.startswith("-") and value not in RECIPE_LABELS:
            if not separator:
                raise InputError(f"{argument} names no recipe: wanted --recipe=NAME.")
            if value == AUTO:
                changed.append(f"--{AUTO}")
                continue
            argument = f"--flagfile={recipes.flagfile(value)}"
        changed.append(argument)
    return changed

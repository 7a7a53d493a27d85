"""The settings of a run on the command line: `causerec_tf.flagfiles`, and what a person may not ask for."""

import sys

from absl import flags

from causerec_tf import flagfiles, recipes
from causerec_tf.errors import InputError
from causerec_tf.settings import RECIPE_LABELS, Settings

_REQUIRED = ("dataset", "run")


def read(flag_values: flags.FlagValues) -> Settings:
    """The settings that parsed flags ask for.

    Raises:
      InputError: a value is out of bounds, the dataset or the run has no name, or a setting that was given on
        the command line has no effect beside the others; one that a flagfile brings may have none.
    """
    for name in _REQUIRED:
        if not flag_values[name].value:  # a path that is empty is the working directory
            raise InputError(f"--{name}= names nothing: wanted a directory.")
    settings = flagfiles.settings_of(flag_values)
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
            argument = f"--flagfile={recipes.flagfile(value)}"
        changed.append(argument)
    return changed

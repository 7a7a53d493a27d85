"""Settings as flags, and the flagfiles that hold them: one parser, absl's, with comments and nested files."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from causerec_tf import recipes
from causerec_tf.errors import InputError
from causerec_tf.settings import GROUPS, RECIPE_LABELS, RuntimeSettings, Settings

_REQUIRED = ("dataset", "run")
# What earlier versions called a setting, and what they had that is gone, with the value that did not act.
_RENAMED = {"recipe": "recipe_label"}
_REMOVED = {"lambda_cn": 0.0}

_logger = logging.getLogger(__name__)


def group_title(group: type) -> str:
    """What `--help` calls a group of settings."""
    return f"{group.__name__.removesuffix('Settings').lower()} settings"


def define(flag_values: flags.FlagValues) -> None:
    """Defines a flag for each setting, under the title of its group.

    Args:
      flag_values: where to define them.
    """
    define_as: dict[Any, Any] = {
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    for group in GROUPS:
        given: dict[str, Any] = {"flag_values": flag_values, "module_name": group_title(group)}
        for field in dataclasses.fields(group):
            name, meaning, choices = field.name, field.metadata["help"], field.metadata["choices"]
            if choices:
                flags.DEFINE_enum(name, str(field.default), list(choices), meaning, **given)
            elif name in _REQUIRED:
                flags.DEFINE_string(name, None, meaning, required=True, **given)
            else:
                define_as[field.type](name, field.default, meaning, **given)
    flags.DEFINE_string(
        "recipe",
        None,
        f"On the command line: a recipe by its name, {' or '.join(recipes.names())}. In flagfiles of"
        " earlier versions: what is now --recipe_label.",
        flag_values=flag_values,
        module_name=group_title(RuntimeSettings),
    )


def settings_of(flag_values: flags.FlagValues) -> Settings:
    """The settings that parsed flags ask for.

    Raises:
      InputError: a value is out of bounds, or `--recipe` stands where no recipe can be taken.
    """
    values: dict[str, Any] = {one.name: flag_values[one.name].value for one in dataclasses.fields(Settings)}
    label = flag_values["recipe"].value
    if label is not None and label not in RECIPE_LABELS:
        raise InputError(
            f"--recipe={label} in a flagfile: a recipe is named on the command line. Wanted --recipe_label,"
            " or --flagfile with the recipe's file."
        )
    if label is not None and not flag_values["recipe_label"].present:
        values["recipe_label"] = label
    return Settings(**values)


def parse(arguments: Sequence[str]) -> Settings:
    """The settings that these flags ask for, as if a script had got them.

    Args:
      arguments: `--name=value`, and `--flagfile=path` too; a later one replaces an earlier one.

    Raises:
      absl.flags.Error: a flag or a value that cannot be, or a flagfile that cannot be read.
      InputError: a value is out of bounds.
    """
    values = flags.FlagValues()
    define(values)
    for name in _REMOVED:
        flags.DEFINE_float(name, None, "Of earlier versions.", flag_values=values)
    left = values(["settings", *arguments])
    if len(left) > 1:
        raise flags.Error(f"unexpected argument {left[1]!r}: every setting is a flag, --name=value.")
    _drop({name: values[name].value for name in _REMOVED if values[name].present})
    return settings_of(values)


def read(path: Path) -> Settings:
    """Reads a flagfile of settings, such as the `flags.txt` of a run.

    Args:
      path: of the flagfile; it may have comments and name other flagfiles.

    Raises:
      InputError: the file is not there, or holds what is no setting.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: {path.parent} is not the directory of a run.")
    try:
        # Those that are required may be missing from a file of settings to start from.
        return parse(["--dataset=", "--run=", f"--flagfile={path}"])
    except flags.Error as error:
        raise InputError(f"{path}: {error}") from error


def from_record(values: Mapping[str, Any]) -> Settings:
    """The settings that a record of this or an earlier version holds; one it does not hold has its default.

    Raises:
      InputError: it holds one that this version does not have.
    """
    values = {_RENAMED.get(name, name): value for name, value in values.items()}
    _drop({name: values.pop(name) for name in _REMOVED if name in values})
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(set(values) - known):
        raise InputError(f"its settings have {', '.join(unknown)}, which this version does not have.")
    return Settings(**values)


def _drop(removed: Mapping[str, Any]) -> None:
    """Settings of earlier versions may go where they had no effect."""
    for name, value in removed.items():
        if value != _REMOVED[name]:
            raise InputError(
                f"--{name}={value} is a setting of an earlier version, which this one does not have. Use that"
                " version, or train without it."
            )
        _logger.info(
            "--%s=%s is a setting of an earlier version; it had no effect and is left out.", name, value
        )

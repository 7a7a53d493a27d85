"""The settings of a run as flags: names, defaults and meanings are those of `Settings`."""

import dataclasses
from typing import Any

from absl import flags

from causerec_tf.errors import InputError
from causerec_tf.settings import Settings

# They are the flags of the script that calls `define`, and stand in its --help.
flags.disclaim_key_flags()

_REQUIRED = ("dataset", "run")


def define(flag_values: flags.FlagValues) -> None:
    """Defines a flag for each setting.

    Args:
      flag_values: where to define them.
    """
    define_as: dict[Any, Any] = {
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    for field in dataclasses.fields(Settings):
        name, meaning, choices = field.name, field.metadata["help"], field.metadata["choices"]
        if choices:
            flags.DEFINE_enum(name, str(field.default), list(choices), meaning, flag_values=flag_values)
        elif name in _REQUIRED:
            flags.DEFINE_string(name, None, meaning, required=True, flag_values=flag_values)
        else:
            define_as[field.type](name, field.default, meaning, flag_values=flag_values)


def read(flag_values: flags.FlagValues) -> Settings:
    """The settings that parsed flags ask for.

    Raises:
      InputError: a value is out of bounds, or the dataset or the run has no name.
    """
    for name in _REQUIRED:
        if not flag_values[name].value:  # a path that is empty is the working directory
            raise InputError(f"--{name}= names nothing: wanted a directory.")
    return _settings(flag_values)


def parse(arguments: list[str]) -> Settings:
    """The settings that these flags ask for, as if a script had got them.

    Args:
      arguments: `--name=value`, and `--flagfile=path` too; a later one replaces an earlier one.

    Raises:
      absl.flags.Error: a flag or a value that cannot be, or a flagfile that cannot be read.
      InputError: a value is out of bounds.
    """
    values = flags.FlagValues()
    define(values)
    left = values(["settings", *arguments])
    if len(left) > 1:
        raise flags.Error(f"unexpected argument {left[1]!r}: every setting is a flag, --name=value.")
    return _settings(values)


def _settings(flag_values: flags.FlagValues) -> Settings:
    values: dict[str, Any] = {one.name: flag_values[one.name].value for one in dataclasses.fields(Settings)}
    return Settings(**values)

"""The packages of the peers, which are no requirement of the project."""

from importlib import metadata

from causerec_tf.errors import InputError

_PACKAGES = ("recbole", "torch", "numpy")


def versions() -> dict[str, str]:
    """The peers' versions.

    Raises:
      InputError: one of them is not installed.
    """
    try:
        return {name: metadata.version(name) for name in _PACKAGES}
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed here: docs/parity.md says how to make an environment that has it."
        ) from error

"""The flags --runner and --beam_options of the scripts that can leave their work to Apache Beam.

What is wrong with them is raised as the script's own kind of bad input: preparation and retrieval share no
errors, since what is exported knows nothing of training.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from absl import flags

FLAGS = flags.FLAGS

# They are the flags of the script that calls `define`, and stand in its --help.
flags.disclaim_key_flags()

_LOCAL = "local"
_RUNNERS = ["DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"]


def define(local: str) -> None:
    """Defines both; `local` is by what the work is done without Beam, for --help."""
    flags.DEFINE_enum(
        "runner",
        _LOCAL,
        [_LOCAL, *_RUNNERS],
        f"local: {local}; otherwise a runner of Apache Beam (docs/operations.md).",
    )
    flags.DEFINE_string("beam_options", "", "Beam's own options, as on its command line.")


def is_asked(bad_input: type[Exception]) -> bool:
    """Whether the work is left to Beam; raises `bad_input` if it is not, yet there are options for it."""
    if FLAGS.runner != _LOCAL:
        return True
    if FLAGS.beam_options:
        raise bad_input(
            "--beam_options have no effect with --runner=local. Leave them out, or name a runner of Beam."
        )
    return False


@contextmanager
def absence_explained(bad_input: type[Exception]) -> Iterator[None]:
    """Raises `bad_input` in plain words where an import fails because Beam is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise bad_input(
            f"--runner={FLAGS.runner} needs Apache Beam: pip install 'causerec_tf[beam]'. Without it,"
            " use --runner=local."
        ) from error

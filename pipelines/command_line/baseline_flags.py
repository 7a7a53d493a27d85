"""The flags --baselines and --most_memory, and the baselines that they ask for."""

from typing import TYPE_CHECKING

from absl import flags

from causerec_tf import recipes
from causerec_tf.errors import InputError

if TYPE_CHECKING:
    from causerec_tf.baselines.baseline import Baseline
    from causerec_tf.data.training_events import TrainingEvents

FLAGS = flags.FLAGS

# They are the flags of the script that calls `define`, and stand in its --help.
flags.disclaim_key_flags()

_ALL = "true"  # what absl makes of the bare flag


def define() -> None:
    """Defines both."""
    flags.DEFINE_flag(
        flags.Flag(
            flags.ListParser(),
            flags.ListSerializer(","),
            "baselines",
            list(recipes.CHEAP_BASELINES),
            f"What to lay beside the model. The bare flag: {', '.join(recipes.BASELINES)}, as far as the data"
            " allow. Or a list of them; pop_30d: POP of the last 30 days; ease_200: EASE with l2 = 200.",
            boolean=True,
        )
    )
    flags.DEFINE_float("most_memory", 8.0, "GiB that the matrix of EASE may take.", lower_bound=0.0)


def names() -> list[str]:
    """The baselines that are asked for; POP is always there.

    Raises:
      InputError: there is none of a name, or --most_memory has no effect.
    """
    asked = list(recipes.BASELINES) if _asks_for_all() else FLAGS.baselines
    asked = [] if asked == ["false"] else asked
    wanted = list(dict.fromkeys(["pop", *asked]))
    for name in wanted:
        recipes.baseline_of(name)
    if FLAGS["most_memory"].present and not any(name.startswith("ease") for name in wanted):
        raise InputError("--most_memory has no effect without --baselines=ease. Leave it out, or add that.")
    return wanted


def made(names: list[str], training: "TrainingEvents") -> dict[str, "Baseline"]:
    """The baselines of `names`, for these training events; of all, those that the data allow.

    Raises:
      InputError: one that was asked for by its name cannot be fitted.
    """
    baselines = recipes.baselines(names, most_memory=FLAGS.most_memory)
    for name in names:
        if reason := baselines[name].refusal(training):
            if not _asks_for_all():
                raise InputError(f"--baselines={name}: {reason}")
            print(f"note: without {name}: {reason}")
            del baselines[name]
    return baselines


def say(name: str) -> None:
    """Says which baseline's turn it is, of those that were asked for: some take minutes."""
    if FLAGS["baselines"].present:
        print(f"measuring {name}", flush=True)


def _asks_for_all() -> bool:
    return FLAGS.baselines == [_ALL]

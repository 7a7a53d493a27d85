"""The flags that say who is trained on and who is measured on, in a group of their own in `--help`."""

from typing import Any

from absl import flags

from causerec_tf.data.splits.protocol_settings import ProtocolSettings
from causerec_tf.data.splits.protocols import NAMES, TEST_TARGETS
from pipelines.command_line.command import GROUP_ENDING

FLAGS = flags.FLAGS

_GROUP: dict[str, Any] = {"module_name": "protocol" + GROUP_ENDING}
_CUT = "a date, a number in the unit of the log's times, or a share such as q.9"


def define() -> None:
    """Defines them."""
    default = ProtocolSettings()
    flags.DEFINE_enum(
        "protocol",
        default.name,
        NAMES,
        "Who is trained on and who is measured on. users: 8:1:1, history the first 80 %; leave_one_out: the"
        " target is each user's last item; time: what comes after a moment; given: published test lists."
        " none: everything is trained on. docs/protocols.md.",
        **_GROUP,
    )
    flags.DEFINE_string(
        "validation_from",
        None,
        f"time: where validation begins, of what comes before --test_from: {_CUT}. None: q.9.",
        **_GROUP,
    )
    flags.DEFINE_string("test_from", None, f"time: where test begins: {_CUT}.", **_GROUP)
    flags.DEFINE_enum(
        "test_target",
        None,
        TEST_TARGETS,
        "time: the targets are all events of a user after the cut, or the user's last one. None: all.",
        **_GROUP,
    )
    flags.DEFINE_list(
        "given_test",
        [],
        "given: the files of the published test lists, read as those of --input, which then has the training"
        " lists.",
        **_GROUP,
    )


def settings() -> ProtocolSettings:
    """What the flags ask for."""
    return ProtocolSettings(FLAGS.protocol, FLAGS.validation_from, FLAGS.test_from, FLAGS.test_target)

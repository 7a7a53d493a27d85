"""pipelines/train.py with what tests of strategies need: a machine of two devices, and a look at the table.

`python -m tests.distributed.training_program --flags...`, with TWO_DEVICES in the environment for the first.
"""

import os

from causerec_tf.errors import InputError
from pipelines import train
from pipelines.command_line import command


def arrange():
    """Gives TensorFlow two devices if asked to; the place of a table in parts is printed when it is made."""
    import tensorflow as tf

    from causerec_tf import training

    if "TWO_DEVICES" in os.environ:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    make = training.compiled_model

    def make_and_tell(*arguments, **named):
        model = make(*arguments, **named)
        for part in getattr(model.item_tower.table, "variables", []):
            print("part of the table:", part.device, part.shape.as_list(), flush=True)
        return model

    training.compiled_model = make_and_tell


def main():
    arrange()
    train.main()


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

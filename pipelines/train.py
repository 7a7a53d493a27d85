"""Trains a retriever on a prepared dataset and measures it on the test users.

    python pipelines/train.py --flagfile=configs/quickstart.flags

The same command goes on from where a stopped run was, and prints the record of a finished one.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from absl import flags

from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from pipelines import command, report

FLAGS = flags.FLAGS

_REQUIRED = ("dataset", "run")


def _define_settings() -> None:
    """A flag for each setting: names, defaults and meanings are those of `Settings`."""
    define: dict[Any, Any] = {
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    for field in dataclasses.fields(Settings):
        name, meaning, choices = field.name, field.metadata["help"], field.metadata["choices"]
        if choices:
            flags.DEFINE_enum(name, str(field.default), list(choices), meaning)
        elif name in _REQUIRED:
            flags.DEFINE_string(name, None, meaning, required=True)
        else:
            define[field.type](name, field.default, meaning)


_define_settings()
flags.DEFINE_bool("profile", False, "Profile steps 20 to 40 for TensorBoard, in the run's events/.")


def main() -> None:
    """Trains, evaluates, writes metrics.json."""
    values: dict[str, Any] = {f.name: FLAGS[f.name].value for f in dataclasses.fields(Settings)}
    settings = Settings(**values)

    # TensorFlow takes seconds to import: a wrong flag should not wait for it.
    from causerec_tf import records, runs, training
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.data.windows import num_batches
    from pipelines.profiling import StepProfile
    from pipelines.progress import ProgressBar

    command.keep_freed_memory()
    started = time.monotonic()
    dataset = open_dataset(settings.dataset)
    run = runs.RunDirectory(Path(settings.run))
    if not run.metrics.exists():
        # Before there is a directory of the run, and before hours of training meet it.
        dataset.verify()
        training.check_users(dataset)
    run.start(settings, dataset)
    if run.metrics.exists():
        print(f"{run.path} is finished: this is its record, {run.metrics}.")
        report.print_record(json.loads(run.metrics.read_text(encoding="utf-8")))
        return

    steps = num_batches(dataset, settings.batch_size)
    print(
        f"{settings.system} on {dataset.name}: {dataset.num_items:,} items,"
        f" {dataset.num_training_windows:,} training examples, {steps:,} steps an epoch"
    )
    bar = ProgressBar(steps, settings.epochs)
    profiles = [StepProfile(run.events)] if FLAGS.profile else []
    try:
        with run.locked():
            model, progress = training.train(
                settings,
                dataset,
                run,
                callbacks=[bar, *profiles],
                on_start=bar.resume,
                on_epoch=bar.print_epoch,
            )
    finally:
        bar.close()
        for profile in profiles:
            profile.close()
    record = records.run_record(
        model,
        settings,
        dataset,
        progress,
        exclude_seen=False,  # as the paper; pipelines/evaluate.py measures the other policy
        command=report.this_command(),
    )
    runs.write_json(run.metrics, record)
    print(
        f"kept epoch {record['best_epoch']} of {record['epochs']};"
        f" {record['train_examples_per_second']:,.0f} examples/s;"
        f" {time.monotonic() - started:.0f} s in all"
    )
    report.print_record(record)
    print(f"record: {run.metrics}")


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

r"""Trains a retriever on a prepared dataset and measures it on the test users.

    python pipelines/train.py --flagfile=configs/quickstart.flags
    python pipelines/train.py --recipe=recommended --dataset=datasets/shop --run=runs/shop

The same command goes on from where a stopped run was, and prints the record of a finished one. A finished run
whose record lacks something that this version writes is measured again, not trained again.

    python pipelines/train.py --flagfile=configs/recommended.flags --warm_start=runs/yesterday \
        --dataset=datasets/today --run=runs/today

starts from the towers of an earlier run; docs/warm_start.md.

    python pipelines/train.py --recipe=auto --budget=30m --dataset=datasets/shop --run=runs/shop

first finds a recipe for this log, as `tune.py --preset=any` does, in runs/shop/search; docs/comparing.md.
`--strategy` trains on several devices or machines; docs/distributed_training.md.
"""

import time
from pathlib import Path

from absl import flags

from causerec_tf import flagfiles
from causerec_tf.errors import InputError
from pipelines.command_line import command, outputs, report, settings_flags

FLAGS = flags.FLAGS

flagfiles.define(FLAGS)
flags.DEFINE_bool(
    "test",
    True,
    "Measure the test users at the end. --notest is for trials whose settings are still being chosen; the"
    " same command without it adds what is missing.",
)
flags.DEFINE_string(
    "like",
    None,
    "Directory of a finished run: take its settings and end after as many epochs as its best, without"
    " validation, on all of the dataset; where that has test users, on all before their targets. Settings"
    " given beside it replace those of the run. docs/protocols.md.",
)
flags.DEFINE_bool(settings_flags.AUTO, False, "The same as --recipe=auto.")
flags.DEFINE_string("budget", "30m", "Of --recipe=auto: time for the trainings of its trials: 90s, 30m, 2h.")
flags.DEFINE_bool("profile", False, "Profile steps 20 to 40 for TensorBoard, in the run's events/.")


def main() -> None:
    """Trains, evaluates, writes metrics.json."""
    settings_flags.check_places(FLAGS)
    _check_auto()
    settings = None if FLAGS.like or FLAGS.auto else settings_flags.read(FLAGS)

    # TensorFlow takes seconds to import: a wrong flag should not wait for it.
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.distributed import servers, strategies
    from causerec_tf.progress_bar import ProgressBar
    from causerec_tf.runs import RunDirectory
    from causerec_tf.train_run import train_run
    from causerec_tf.training import steps_per_epoch
    from pipelines.command_line.profiling import StepProfile

    command.keep_freed_memory()
    started = time.monotonic()
    if settings is not None:
        strategies.read_task(settings.strategy)  # a missing cluster is said before anything is read
    dataset = open_dataset(FLAGS.dataset)
    if FLAGS.auto:
        settings = settings_flags.read_chosen(FLAGS, _chosen())
    settings = settings or settings_flags.read_like(FLAGS, FLAGS.like, dataset)
    dataset = settings.view_of(dataset)
    task = strategies.read_task(settings.strategy)
    is_chief = task is None or task.is_chief
    run = RunDirectory(Path(settings.run))
    if is_chief:
        run.check_place()
        # Before hours of training meet it; a finished run is only read.
        if not run.metrics.exists():
            outputs.check_place(run.path, "--run", InputError, is_filled=True)
    if settings.strategy == "parameter_server" and task is not None and not is_chief:
        servers.serve(task, is_finished=run.metrics.exists)
        return
    if settings.method == "hierarchical" and 1 in (settings.num_positives, settings.num_negatives):
        print(
            f"note: --num_positives={settings.num_positives} and --num_negatives={settings.num_negatives} are"
            " halved between items and interests, and one of one goes to the items; the paper has 2 and 16"
        )
    bar = ProgressBar(steps_per_epoch(settings, dataset), settings.last_epoch, settings.choose_by)
    profiles = [StepProfile(run.events)] if FLAGS.profile else []
    try:
        with command.stop_explained(lambda: _what_is_kept(run, settings.last_epoch)):
            record = train_run(
                settings,
                dataset,
                test=FLAGS.test,
                command=report.this_command(),
                task=task,
                callbacks=[*([bar] if is_chief else []), *profiles],
                on_start=bar.begin if is_chief else lambda progress: None,
                on_epoch=bar.print_epoch if is_chief else lambda epoch: None,
                say=lambda line: print(line, flush=True),
            )
    finally:
        bar.close()
        for profile in profiles:
            profile.close()
    if record is None:
        return
    print(
        f"kept epoch {record['best_epoch']} of {record['epochs']};"
        f" {record['train_examples_per_second']:,.0f} examples/s;"
        f" {time.monotonic() - started:.0f} s in all"
    )
    report.print_record(record)
    print(f"record: {run.metrics}")


def _check_auto() -> None:
    """Raises `InputError` where --recipe=auto does not go with other flags, or --budget without it."""
    if FLAGS.auto and FLAGS.like:
        raise InputError("--recipe=auto with --like: the run has its settings. Leave one of them out.")
    if FLAGS["budget"].present and not FLAGS.auto:
        raise InputError("--budget has no effect without --recipe=auto. Leave it out, or add that.")


def _chosen() -> Path:
    """The flagfile of the recipe that was found for the dataset, which is looked for now if it was not."""
    from causerec_tf.runs import SEARCH, RunDirectory
    from pipelines.choosing.choose import choose

    run = RunDirectory(Path(FLAGS.run))
    run.check_place()
    given = settings_flags.given(FLAGS)
    return choose(FLAGS.dataset, run.path / SEARCH, preset="any", budget=FLAGS.budget, given=given)


def _what_is_kept(run, epochs: int) -> str:
    """What a run that is stopped goes on from, in words."""
    from causerec_tf.progress import saved_progress

    progress = saved_progress(run)
    if progress is None:
        return f"{run.path} has no checkpoint yet; the same command begins anew"
    steps = f" and {progress.batch:,} steps of the next" if progress.batch else ""
    return (
        f"the last checkpoint in {run.path} has {progress.epoch} of {epochs} epochs{steps}; the same command"
        " goes on from there"
    )


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,), rewrite=settings_flags.with_recipe)

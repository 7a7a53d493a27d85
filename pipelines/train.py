r"""Trains a retriever on a prepared dataset and measures it on the test users.

    python pipelines/train.py --flagfile=configs/quickstart.flags

The same command goes on from where a stopped run was, and prints the record of a finished one. A finished run
whose record lacks something that this version writes is measured again, not trained again.

    python pipelines/train.py --flagfile=configs/recommended.flags --warm_start=runs/yesterday \
        --dataset=datasets/today --run=runs/today

starts from the towers of an earlier run; docs/warm_start.md. `--strategy` trains on several devices or
machines; docs/distributed_training.md.
"""

import contextlib
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
flags.DEFINE_bool("profile", False, "Profile steps 20 to 40 for TensorBoard, in the run's events/.")


def main() -> None:
    """Trains, evaluates, writes metrics.json."""
    settings = settings_flags.read(FLAGS)

    # TensorFlow takes seconds to import: a wrong flag should not wait for it.
    from causerec_tf import files, runs, training, warm_start
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.data.windows import num_batches
    from causerec_tf.distributed import servers, strategies
    from causerec_tf.progress import is_used_up

    command.keep_freed_memory()
    started = time.monotonic()
    task = strategies.read_task(settings.strategy)
    is_chief = task is None or task.is_chief
    dataset = open_dataset(settings.dataset)
    run = runs.RunDirectory(Path(settings.run))
    if is_chief:  # the others may look while it is being made
        run.check_place()
    kept = files.read_json(run.metrics) if run.metrics.exists() else None
    missing = run.missing(kept, test=FLAGS.test)
    # A finished run goes on where more epochs or more patience are asked for.
    is_trained = kept is not None and is_used_up(kept["epochs"], kept["best_epoch"], settings)
    if kept is not None and is_trained and not missing:
        if is_chief:
            run.start(settings, dataset)
        runs.check_best(run, finished=True)
        print(f"{run.path} is finished: this is its record, {run.metrics}.")
        report.print_record(kept)
        return

    # Before there is a directory of the run, and before hours of training meet it.
    if is_chief:
        outputs.check_place(run.path, "--run", InputError, is_filled=True)
    dataset.verify()
    training.check_users(dataset)
    if settings.strategy == "parameter_server" and task is not None and not is_chief:
        servers.serve(task, is_finished=run.metrics.exists)
        return
    # Before TensorFlow computes anything.
    distribution = strategies.start(settings, dataset.num_items, task)
    source = None
    if settings.warm_start and not run.has_checkpoint:
        source = warm_start.read(settings, dataset)
        print(_describe(source.about))
    with run.locked() if is_chief else contextlib.nullcontext():
        if is_chief:
            run.start(settings, dataset)
        if is_trained:
            if not run.has_checkpoint:
                raise InputError(
                    f"{run.path} is finished, but lacks {', '.join(missing)}, and has no checkpoint to"
                    " measure again. Choose another --run to train it anew."
                )
            print(f"{run.path} is trained, but lacks {', '.join(missing)}: measuring it again.")
        if settings.method == "hierarchical" and 1 in (settings.num_positives, settings.num_negatives):
            print(
                f"note: --num_positives={settings.num_positives} and"
                f" --num_negatives={settings.num_negatives} are halved between items and interests, and one"
                " of one goes to the items; the paper has 2 and 16"
            )
        steps = num_batches(dataset, settings.batch_size)
        print(
            f"{settings.system} on {dataset.name}: {dataset.num_items:,} items,"
            f" {dataset.num_training_windows:,} training examples, {steps:,} steps an epoch"
        )
        if not distribution.is_chief:
            print("training with the others; the chief reports", flush=True)
            training.train(settings, dataset, run, warm_start=source, distribution=distribution)
            return
        with command.stop_explained(lambda: _what_is_kept(run, settings.epochs)):
            model, progress = _train(settings, dataset, run, source, distribution, steps)
            record = _measure(model, settings, progress, dataset, run, distribution)
            files.write_json(run.metrics, record)
    print(
        f"kept epoch {record['best_epoch']} of {record['epochs']};"
        f" {record['train_examples_per_second']:,.0f} examples/s;"
        f" {time.monotonic() - started:.0f} s in all"
    )
    report.print_record(record)
    print(f"record: {run.metrics}")


def _train(settings, dataset, run, source, distribution, steps: int) -> tuple:
    """Trains with a progress bar: the model of the best epoch, and how it went."""
    from causerec_tf import training
    from pipelines.command_line.profiling import StepProfile
    from pipelines.command_line.progress import ProgressBar

    bar = ProgressBar(steps, settings.epochs)
    profiles = [StepProfile(run.events)] if FLAGS.profile else []
    try:
        return training.train(
            settings,
            dataset,
            run,
            warm_start=source,
            distribution=distribution,
            callbacks=[bar, *profiles],
            on_start=bar.resume,
            on_epoch=bar.print_epoch,
        )
    finally:
        bar.close()
        for profile in profiles:
            profile.close()


def _measure(model, settings, progress, dataset, run, distribution) -> dict:
    """The record of a trained run; with --test the figures of each test user go into a file of their own."""
    from causerec_tf import evaluation, files, records

    exclude_seen = False  # as the paper; pipelines/evaluate.py measures the other policy
    test = None
    if FLAGS.test:
        test = evaluation.evaluate(model, dataset, "test", exclude_seen=exclude_seen)
        files.write_arrays(run.test_users, test.per_user)
    return records.run_record(
        settings,
        dataset,
        progress,
        test,
        exclude_seen=exclude_seen,
        command=report.this_command(),
        distribution=distribution.about,
    )


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


def _describe(about: dict) -> str:
    """What a warm start found, in words."""
    items = about["items"]
    note = "" if about["is_finished"] else "\nnote: that run is not finished; this is its best epoch so far"
    return (
        f"starting from epoch {about['epoch']} of {about['run']}: {items['kept']:,} items keep their vectors,"
        f" {items['new_from_histories'] + items['new_at_random']:,} are new"
        f" ({items['new_from_histories']:,} placed by the histories before them),"
        f" {items['gone']:,} are gone{note}"
    )


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

r"""Measures a trained run on test or validation users, or on targets of your own, with baselines beside it.

    python pipelines/evaluate.py --run=runs/quickstart --split=test --cutoffs=10,20 --baselines
    python pipelines/evaluate.py --run=runs/shop --targets=next_week.csv --user_column=customer \
        --item_column=sku

Seen items are kept and left out in one pass; --exclude_seen measures the latter alone. docs/evaluation.md.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from causerec_tf.errors import InputError
from causerec_tf.files import check_free, write_arrays, write_json
from causerec_tf.metrics import CUTOFFS
from export.batch.history_files import Columns, expand, read_histories
from export.query import ids_of
from export.store.bundle_errors import BundleError
from pipelines.command_line import baseline_flags, command, outputs, report, target_flags, trained_runs
from pipelines.studies import disturbed, robustness_page

if TYPE_CHECKING:
    from causerec_tf.data.holdout import EvaluationUsers
    from causerec_tf.runs import TrainedRun

FLAGS = flags.FLAGS

flags.DEFINE_string("run", None, "Directory of a trained run.", required=True)
flags.DEFINE_string("dataset", None, "Where the run's dataset is, if not where it was trained from.")
flags.DEFINE_enum("split", "test", ["test", "validation"], "Whose users.")
target_flags.define()
flags.DEFINE_list("cutoffs", [str(k) for k in CUTOFFS], "The k of every metric.")
flags.DEFINE_bool(
    "exclude_seen",
    False,
    "Measure only with the items of a user's history left out of lists and targets. Otherwise both.",
)
baseline_flags.define()
flags.DEFINE_list(
    "disturbed",
    None,
    "Rates of disturbance: measure with foreign clicks in the histories, too. docs/studies.md;"
    " pipelines/robustness.py has several runs side by side, and pictures.",
)
flags.DEFINE_string("output", None, "Where to write the record, as JSON.")
flags.DEFINE_string(
    "per_user", None, "Where to write the figures of each user, as .npz; seen items kept, or --exclude_seen."
)
flags.DEFINE_bool("overwrite", False, "Replace an --output or --per_user that exists.")


def main() -> None:
    """Evaluates, prints, writes the record and the users' figures if asked to."""
    for flag, file in (("--output", FLAGS.output), ("--per_user", FLAGS.per_user)):
        if file:
            outputs.check_place(file, flag, InputError)
            check_free(file, flag, overwrite=FLAGS.overwrite)
    cutoffs, names = _cutoffs(), baseline_flags.names()
    target_flags.check()
    rates = disturbed.rates_of("disturbed", FLAGS.disturbed) if FLAGS.disturbed is not None else []
    if rates and FLAGS.exclude_seen:
        raise InputError(
            "--disturbed with --exclude_seen: an item that was clicked is left out then, whether the click"
            " belongs there or not. Leave one of the two flags out."
        )
    if rates and FLAGS.targets:
        raise InputError("--disturbed is of the users of a --split. Leave it or --targets out.")

    from causerec_tf import evaluation, measurement, records
    from causerec_tf.data.training_events import TrainingEvents

    trained = trained_runs.load_one(FLAGS.run, FLAGS.dataset)
    settings, dataset = trained.settings, trained.dataset
    split = "targets" if FLAGS.targets else FLAGS.split
    users = _users(trained)
    training = TrainingEvents(dataset)
    measured = measurement.measure(
        trained.model,
        users,
        training,
        policies=(True,) if FLAGS.exclude_seen else evaluation.POLICIES,
        cutoffs=cutoffs,
        baselines=baseline_flags.made(names, training),
        groups=True,
        on_baseline=baseline_flags.say,
    )
    counts = records.users_measured(split, measured)
    record = records.head(settings, dataset, exclude_seen=FLAGS.exclude_seen, users=counts)
    record["protocol"] |= target_flags.protocol()
    record |= {"is_finished": trained.is_finished, **records.what_was_measured(split, measured)}
    record |= {"command": report.this_command(), "versions": records.versions()}
    report.print_record(record)
    report.print_groups(record)
    if rates:
        record["disturbed"] = _disturbed(trained, rates)
    if FLAGS.per_user:
        write_arrays(Path(FLAGS.per_user), measured[FLAGS.exclude_seen].per_user)
        print(f"users:  {FLAGS.per_user}")
    if FLAGS.output:
        write_json(Path(FLAGS.output), record)
        print(f"record: {FLAGS.output}")


def _cutoffs() -> list[int]:
    """The cut-offs, ascending."""
    given = FLAGS.cutoffs
    if (
        not given
        or not all(one.isdecimal() and int(one) > 0 for one in given)
        or len(set(given)) < len(given)
    ):
        raise InputError(f"--cutoffs={','.join(given)}: wanted different whole numbers above 0.")
    return sorted(int(one) for one in given)


def _users(trained: "TrainedRun") -> "EvaluationUsers":
    """Who is measured: of a split, or those of --targets."""
    from causerec_tf import measurement
    from causerec_tf.data import targets

    dataset, max_history = trained.dataset, trained.model.max_history
    if not FLAGS.targets:
        return measurement.users_of(dataset, FLAGS.split, max_history, exclude_seen=FLAGS.exclude_seen)
    item_ids = dataset.item_ids()
    if FLAGS.histories:
        rows = list(read_histories(expand([FLAGS.histories]), Columns()))
        user_ids = np.array([row.user_id for row in rows], dtype=object)
        histories = targets.known_items([ids_of(row.history) for row in rows], item_ids)
    else:
        user_ids, histories = targets.whole_histories(dataset)
    found = targets.own_targets(target_flags.read(), user_ids, histories, item_ids, max_history)
    print(
        f"{len(found.users):,} users to measure; left out: {found.without_history:,} users without a history,"
        f" {found.unknown_items:,} targets that are no items of the dataset"
    )
    if FLAGS.exclude_seen and not found.users.are_targets_unseen().any():
        raise InputError("--exclude_seen: every target is in its user's history, so that none is left.")
    return found.users


def _disturbed(trained, rates: list[float]) -> dict:
    """Measures with disturbed histories, prints what is lost, and gives it for the record."""
    result = disturbed.measure(
        trained, FLAGS.run, FLAGS.split, rates, num_draws=disturbed.NUM_DRAWS, seed=disturbed.SEED
    )
    conditions = [one.record() for one in result.conditions]
    print(robustness_page.summary(conditions))
    return {
        "seed": disturbed.SEED,
        "draws": disturbed.NUM_DRAWS,
        "conditions": conditions,
        "clicks_sha256": result.digest,
    }


if __name__ == "__main__":
    command.run(main, bad_input=(InputError, BundleError))

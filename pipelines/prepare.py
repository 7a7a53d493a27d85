"""A log of interactions -> a dataset: filtered, split by user, ordered by time, in TFRecord shards.

python pipelines/prepare.py --input='logs/*.csv.gz' --output=datasets/shop
python pipelines/prepare.py --input=train.txt,test.txt --format=item_lists --output=datasets/yelp2018
python pipelines/prepare.py --input=tfds:movielens/1m-ratings --output=datasets/ml1m
python pipelines/prepare.py --input=log.csv --schema=schema.toml --item_table=items.csv --output=datasets/shop
python pipelines/prepare.py --output=datasets/generated      # without a log: a generated world
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from causerec_tf.data.columns.feature_tables import TableUse
from causerec_tf.data.columns.features_of_log import Features, FittedFeatures, check_item_features, of_events
from causerec_tf.data.dataset_files import INFO_FILE
from causerec_tf.data.logs.interactions import Log
from causerec_tf.data.logs.item_names import read_item_names
from causerec_tf.data.logs.suspicious_ids import Suspicion
from causerec_tf.data.logs.time_units import describe_span, describe_time
from causerec_tf.data.preparation import generated, generated_with_features, prepare
from causerec_tf.data.splits.filters import Filters
from causerec_tf.data.splits.protocols import USERS, label
from causerec_tf.data.splits.split_sequences import SplitSequences
from causerec_tf.data.splits.user_split import SPLITS
from causerec_tf.data.writing.sequence_counts import count_returns
from causerec_tf.errors import InputError
from causerec_tf.files import check_output
from causerec_tf.schema import Schema
from pipelines.command_line import (
    beam_flags,
    command,
    feature_flags,
    item_tables,
    log_flags,
    outputs,
    protocol_flags,
)
from pipelines.command_line.printed_steps import Steps

FLAGS = flags.FLAGS

_NO_FILTERS = Filters()

log_flags.define(without_input="a generated world")
protocol_flags.define()
feature_flags.define()
flags.DEFINE_string("output", None, "Directory of the dataset to make.", required=True)
flags.DEFINE_string("item_names", None, "A csv or tsv file: item id, readable name.")
flags.DEFINE_integer(
    "min_user_count", _NO_FILTERS.min_user_count, "Least number of interactions of a user.", lower_bound=1
)
flags.DEFINE_integer(
    "min_item_count", _NO_FILTERS.min_item_count, "Least number of interactions of an item.", lower_bound=1
)
flags.DEFINE_integer(
    "max_user_count",
    _NO_FILTERS.max_user_count,
    "Keep only so many of a user's interactions, the last. None: all.",
    lower_bound=1,
)
flags.DEFINE_float(
    "training_share",
    _NO_FILTERS.training_share,
    "Keep only this share of the training users, above 0 and at most 1; validation and test stay whole.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer(
    "split_seed",
    0,
    "Decides which users are train, validation and test.",
    lower_bound=0,
    upper_bound=(1 << 31) - 1,
)
flags.DEFINE_integer("num_shards", 8, "TFRecord files a split.", lower_bound=1)
flags.DEFINE_bool(
    "generated_features",
    False,
    "Of the generated world: with features of items, users and events, and with items that no training user"
    " touched.",
)
beam_flags.define(local="this process, by Polars")
flags.DEFINE_bool("overwrite", False, "Replace the dataset that is at --output.")


def main() -> None:
    """Reads the flags and prepares."""
    if FLAGS["input"].present and not any(FLAGS.input):
        raise InputError("--input is empty: name the log's files, or leave it out for a generated world.")
    _filters().check()
    protocol = protocol_flags.settings()
    protocol.check(_filters(), FLAGS.split_seed, has_test_lists=bool(FLAGS.given_test))
    schema = feature_flags.schema()
    if FLAGS.generated_features and (FLAGS.input or schema):
        given = "--input" if FLAGS.input else "--schema"
        raise InputError(
            f"--generated_features with {given}: the generated world has its own. Leave one out."
        )
    steps = Steps()
    if beam_flags.is_asked(InputError):
        _prepare_by_beam(steps, schema)
        return
    output = Path(FLAGS.output)
    outputs.check_place(output.resolve(), "--output", InputError)
    check_output(output, marker=INFO_FILE, overwrite=FLAGS.overwrite)
    features = feature_flags.read(schema)
    log, names, features = _read(steps, features)
    steps.begin("filtering and ordering")
    returns, uses = 0, list[TableUse]()
    with tqdm(unit="user", leave=False, delay=3, dynamic_ncols=True) as bar:

        def on_ordered(sequences: SplitSequences) -> None:
            nonlocal returns
            returns = count_returns(sequences)
            steps.end(f"{len(sequences.items):,} interactions of {len(sequences.user_ids):,} users")
            if FLAGS.item_names and names is not None:
                print(f"  {_names_given(names, sequences.vocabulary)}")
            steps.begin("writing")
            bar.reset(sum(len(records.users) for records in sequences.records.values()))

        def on_fitted(fitted: FittedFeatures) -> None:
            uses.extend(fitted.uses)

        dataset = prepare(
            log,
            output,
            filters=_filters(),
            protocol=protocol,
            split_seed=FLAGS.split_seed,
            num_shards=FLAGS.num_shards,
            item_names=names,
            features=features,
            overwrite=FLAGS.overwrite,
            on_ordered=on_ordered,
            on_fitted=on_fitted,
            on_written=bar.update,
        )
    steps.end(f"{3 * FLAGS.num_shards} shards")
    _print_summary(dataset.info, log.rows_read, log.skipped, returns, steps.seconds)
    _print_features(features.schema, uses, log.unreadable)


def _prepare_by_beam(steps: Steps, schema: Schema) -> None:
    """The same by Apache Beam."""
    if not FLAGS.input:
        raise InputError(f"--runner={FLAGS.runner} needs a log: name one with --input.")
    for what, is_used in (
        ("tfds:NAME", log_flags.is_tfds()),
        ("--format=item_lists", FLAGS.format == "item_lists"),
        ("--original_user_ids", FLAGS.original_user_ids is not None),
        ("--original_item_ids", FLAGS.original_item_ids is not None),
    ):
        if is_used:
            raise InputError(f"{what} does not go with --runner={FLAGS.runner}. Say --runner=local.")
    check_item_features(schema, f"--runner={FLAGS.runner}")
    log_settings = log_flags.settings()
    with beam_flags.absence_explained(InputError):
        from causerec_tf.data.distributed.beam_preparation import prepare as prepare_by_beam
        from causerec_tf.data.distributed.storage import is_remote
    if not is_remote(FLAGS.output):
        outputs.check_place(Path(FLAGS.output).resolve(), "--output", InputError)
    names = read_item_names(Path(FLAGS.item_names)) if FLAGS.item_names else None

    def say(line: str) -> None:
        print(f"  {line}", flush=True)

    returns = 0

    def on_ordered(vocabulary: Sequence[str], num_returns: int) -> None:
        nonlocal returns
        returns = num_returns
        if names is not None:
            say(_names_given(names, vocabulary))

    steps.begin(f"preparing {','.join(FLAGS.input)} by {FLAGS.runner}")
    info = prepare_by_beam(
        FLAGS.input,
        log_settings,
        FLAGS.output,
        filters=_filters(),
        test_patterns=FLAGS.given_test,
        protocol=protocol_flags.settings(),
        split_seed=FLAGS.split_seed,
        num_shards=FLAGS.num_shards,
        item_names=names,
        features=feature_flags.read(schema),
        on_ordered=on_ordered,
        overwrite=FLAGS.overwrite,
        runner=FLAGS.runner,
        options=FLAGS.beam_options,
        say=say,
    )
    steps.end(f"{3 * FLAGS.num_shards} shards")
    source = info["source"]
    _print_summary(info, source["rows_read"], source["rows_skipped"], returns, steps.seconds)
    uses = [TableUse(owner, **use) for owner, use in source.get("tables", {}).items()]
    _print_features(schema, uses, {})


def _names_given(names: Mapping[str, str], vocabulary: Sequence[str]) -> str:
    return item_tables.coverage(f"--item_names={FLAGS.item_names}", "name", names, vocabulary, InputError)


def _filters() -> Filters:
    return Filters(FLAGS.min_user_count, FLAGS.min_item_count, FLAGS.max_user_count, FLAGS.training_share)


def _read(steps: Steps, features: Features) -> tuple[Log, dict[str, str] | None, Features]:
    """The log, the items' names and the features."""
    of_log = of_events(features.schema)
    names = read_item_names(Path(FLAGS.item_names)) if FLAGS.item_names else None
    if FLAGS.input:
        steps.begin(f"reading {','.join(FLAGS.input)}")
        log, found_names = log_flags.read(FLAGS.given_test, of_log)
        steps.end(f"{log.rows_read:,} rows")
        return log, found_names if names is None else names, features
    if of_log:
        raise InputError(f"{of_log[0].key}: the generated world has no such columns.")
    steps.begin("no --input: generating a world with known interests")
    if FLAGS.generated_features:
        log, world_names, features = generated_with_features(FLAGS.split_seed)
    else:
        log, world_names = generated()
    steps.end(f"{log.rows_read:,} interactions")
    return log, world_names if names is None else names, features


def _print_summary(
    info: dict, rows_read: int, rows_skipped: dict[str, int], returns: int, seconds: float
) -> None:
    counts = info["counts"]
    print(f"\n{'':14}{'users':>12}{'items':>12}{'interactions':>14}")
    for split in SPLITS:
        numbers = counts["users"][split], counts["items"][split], counts["interactions"][split]
        print(f"{split:14}{numbers[0]:>12,}{numbers[1]:>12,}{numbers[2]:>14,}")
    # A user of another protocol than `users` may be in several splits.
    names = "users", "interactions", "repeats"
    of_all = counts.get("log") or {name: sum(counts[name].values()) for name in names}
    total = of_all["users"], info["num_items"], of_all["interactions"]
    print(f"{'all':14}{total[0]:>12,}{total[1]:>12,}{total[2]:>14,}\n")
    share = 100 * returns / total[2]
    evaluated, protocol = counts["evaluation_users"], info.get("protocol", {"name": FLAGS.protocol})
    for name, value in (
        ("rows", log_flags.describe_rows(rows_read, rows_skipped)),
        ("filters", ", ".join(f"{key}={value}" for key, value in info["filters"].items())),
        ("protocol", _describe(protocol, info)),
        ("training pairs", f"{counts['training_windows']:,}"),
        ("evaluated", f"{evaluated['validation']:,} validation, {evaluated['test']:,} test users"),
        ("repeats", f"{of_all['repeats']:,} with user, item and time of an earlier one, kept"),
        (
            "returns",
            f"{share:.0f} % of the events are returns to an item the user had before",
        ),
        ("times", describe_span(info["first_time"], info["last_time"], info["time_unit"])),
        ("fingerprint", info["fingerprint"][:16]),
        ("dataset", FLAGS.output),
        ("seconds", f"{seconds:.1f}"),
    ):
        print(f"{name:16}{value}")
    for split, new in counts.get("new_in", {}).items():
        if new["users"] or new["items"]:
            print(
                f"note: {new['users']:,} {split} users and {new['items']:,} items among the targets"
                f" ({new['targets']:,} of them) are not in training."
            )
    log_flags.print_suspicions(Suspicion(**found) for found in info["source"].get("suspicious_ids", ()))
    empty = [split for split in SPLITS if not counts["users"][split] and protocol["name"] != "none"]
    if empty:
        has_enough = protocol["name"] == USERS and total[0] >= len(SPLITS)
        cure = "take a larger log" + (" or another --split_seed" if has_enough else "")
        print(f"note: no user fell into {' and '.join(empty)}: {cure}.")


def _print_features(schema: Schema, uses: list[TableUse], unreadable: Mapping[str, int]) -> None:
    if schema:
        print(f"{'features':16}{feature_flags.describe_schema(schema)}")
    for use in uses:
        print(f"{f'{use.owner} table':16}{feature_flags.describe(use)}")
    for key, count in unreadable.items():
        print(f"note: {count:,} values of {key} cannot be read and count as missing.")


def _describe(protocol: dict, info: dict) -> str:
    """A protocol with its cuts, as they were asked for and as dates."""
    cuts = [
        f"{name.replace('_', ' ')} {describe_time(protocol[name], info['last_time'], info['time_unit'])}"
        f" ({protocol[f'{name}_asked']})"
        for name in ("validation_from", "test_from")
        if name in protocol
    ]
    return ", ".join([label(protocol), *cuts])


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

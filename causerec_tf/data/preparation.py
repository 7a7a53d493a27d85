"""A log -> a dataset, in this process: read, filter, order, split, write."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causerec_tf.data.columns.features_of_log import Features, FittedFeatures, fit_features
from causerec_tf.data.dataset_files import INFO_FILE
from causerec_tf.data.logs import times
from causerec_tf.data.logs.interactions import TEST_COLUMN, Log
from causerec_tf.data.logs.suspicious_ids import as_recorded, suspicions_of
from causerec_tf.data.splits.filters import Filters, apply_filters
from causerec_tf.data.splits.protocol_settings import ProtocolSettings, times_of
from causerec_tf.data.splits.split_sequences import SplitSequences, build_sequences
from causerec_tf.files import check_output

if TYPE_CHECKING:
    from causerec_tf.data.sequences import Dataset


def prepare(
    log: Log,
    directory: str | Path,
    *,
    filters: Filters | None = None,
    protocol: ProtocolSettings | None = None,
    split_seed: int = 0,
    num_shards: int = 8,
    item_names: Mapping[str, str] | None = None,
    features: Features | None = None,
    overwrite: bool = False,
    on_ordered: Callable[[SplitSequences], None] = lambda sequences: None,
    on_fitted: Callable[[FittedFeatures], None] = lambda features: None,
    on_written: Callable[[int], None] = lambda users: None,
) -> "Dataset":
    """Writes the dataset of a log. The same log and settings give the same bytes.

    Args:
      log: what was read.
      directory: where the dataset shall be.
      filters: which events go into it; None: all.
      protocol: who is trained and measured on; None: by users.
      split_seed: decides which users are train, validation and test.
      num_shards: TFRecord files of each split.
      item_names: item id -> readable name.
      features: a schema and its tables; None: there is none.
      overwrite: replace the dataset that is there, once the new one is whole.
      on_ordered: called once all are in order.
      on_fitted: called once the features are fitted, where there is a schema.
      on_written: called with a number of users whenever so many more have been written.
    """
    check_output(directory, marker=INFO_FILE, overwrite=overwrite)
    filters, asked = filters or Filters(), protocol or ProtocolSettings()
    asked.check(filters, split_seed, has_test_lists=TEST_COLUMN in log.events.columns)
    events = apply_filters(log.events, filters, split_seed)
    found = asked.resolve(lambda: times_of(events["time"].to_numpy(), log.time_unit))
    sequences = build_sequences(events, split_seed=split_seed, num_shards=num_shards, protocol=found)
    on_ordered(sequences)
    fitted = FittedFeatures()
    if features is not None and features.schema:
        fitted = fit_features(features, sequences, log.time_unit)
        on_fitted(fitted)
    # TensorFlow takes seconds to import: only when the log has proved good.
    from causerec_tf.data.writing.sequence_writer import write_dataset

    return write_dataset(
        sequences,
        directory,
        num_shards=num_shards,
        about={
            "time_unit": log.time_unit,
            "filters": filters.description(),
            "split_seed": split_seed,
            "source": source_of(log) | fitted.description(),
        },
        protocol=found,
        item_names=item_names,
        features=fitted.columns,
        overwrite=overwrite,
        progress=on_written,
    )


def generated() -> tuple[Log, dict[str, str]]:
    """The log of the generated world that stands in where there is none, and its items' names."""
    from causerec_tf.data.generated import synthetic

    world = synthetic.generate()
    events = world.events()
    names = dict(zip(world.item_ids, world.item_names, strict=True))
    return Log(events, times.AS_GIVEN, len(events), {}, (), kind="generated"), names


def generated_with_features(split_seed: int) -> tuple[Log, dict[str, str], Features]:
    """The same with features, and with items that no user of training by this seed touched."""
    from causerec_tf.data.generated import generated_features, synthetic

    world = generated_features.with_features(synthetic.generate(), split_seed=split_seed)
    log = Log(world.events, times.AS_GIVEN, len(world.events), {}, (), kind="generated")
    return log, world.item_names, world.features


def source_of(log: Log) -> dict[str, Any]:
    """What `dataset.json` says of where a dataset comes from."""
    if log.kind == "generated":
        return {"kind": log.kind}
    return {
        "kind": log.kind,
        "files": list(log.files),
        **({"test_files": list(log.test_files)} if log.test_files else {}),
        "rows_read": log.rows_read,
        "rows_skipped": log.skipped,
        **({"unreadable": dict(log.unreadable)} if log.unreadable else {}),
        **as_recorded(suspicions_of(log.events)),
    }

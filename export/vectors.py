"""Writes the vectors of items and users for another store, from a bundle or a run: Parquet, and .npy.

python export/vectors.py --bundle=bundles/shop --items=items.parquet
python export/vectors.py --bundle=bundles/shop --users=users.parquet --histories='histories/*.jsonl' --npy
python export/vectors.py --run=runs/shop --items=items.parquet --users=users.parquet --split=test
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from absl import flags

from causerec_tf.errors import InputError
from export.batch.attribute_values import AttributeValues
from export.batch.history_files import Columns, HistoryRow, expand, read_histories
from export.batch.vector_blocks import (
    ITEMS_TOGETHER,
    USERS_TOGETHER,
    Block,
    item_blocks,
    user_block,
    user_blocks,
)
from export.batch.vector_files import VectorWriter
from export.filters.stored_attributes import ItemAttributes
from export.index.catalogue_cache import CatalogueCache
from export.index.engines import engine_named
from export.query import ids_of
from export.store.bundle_errors import BundleError
from export.store.layout import (
    attribute_numbers,
    attributes_directory,
    read_tower,
    resolve_number,
    tower_directory,
)
from export.tower_columns import NO_COLUMNS, TowerColumns
from pipelines.command_line import command, outputs, trained_runs

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Directory of the bundle whose newest version has the vectors.")
flags.DEFINE_string("run", None, "Directory of the trained run, instead of a bundle.")
flags.DEFINE_string("dataset", None, "Where the run's dataset is now, if it was moved.")
flags.DEFINE_string("items", None, "Parquet file to write the items to.")
flags.DEFINE_string("users", None, "Parquet file to write the users to.")
flags.DEFINE_list("histories", None, "Of the users: files of histories as of pipelines/retrieve.py.")
flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "Of a run without --histories: whose histories."
)
flags.DEFINE_string("user_column", "user_id", "Name of the column of user ids.")
flags.DEFINE_string("history_column", "history", "Name of the column of histories, oldest item first.")
flags.DEFINE_string("history_separator", " ", "Separator of the ids in a history that is one string.")
flags.DEFINE_bool("npy", False, "Write the vectors also as an array, beside each file: items.npy, users.npy.")
flags.DEFINE_bool("overwrite", False, "Replace the files that exist.")


def main() -> None:
    """Checks the flags, then writes what is asked for."""
    if (FLAGS.bundle is None) == (FLAGS.run is None):
        raise BundleError("Give either --bundle=DIR or --run=DIR.")
    if not (FLAGS.items or FLAGS.users):
        raise BundleError("Give --items=OUT.parquet, --users=OUT.parquet, or both.")
    if FLAGS.items and FLAGS.users and Path(FLAGS.items).absolute() == Path(FLAGS.users).absolute():
        raise BundleError(f"--items and --users are both {FLAGS.items}; give two files.")
    if FLAGS.histories and not FLAGS.users:
        raise BundleError("--histories are of --users=OUT.parquet; give both.")
    if FLAGS.bundle and FLAGS.users and not FLAGS.histories:
        raise BundleError("A bundle has no histories: --users needs --histories=FILES.")
    for flag, is_used in (("split", FLAGS.run and not FLAGS.histories), ("dataset", FLAGS.run)):
        if FLAGS[flag].present and not is_used:
            raise BundleError(f"--{flag} has no effect here: it is of a --run, without --histories.")
    for flag, place in (("--items", FLAGS.items), ("--users", FLAGS.users)):
        if place:
            outputs.check_place(place, flag, BundleError)
    paths = expand(FLAGS.histories) if FLAGS.histories else []
    columns = Columns(FLAGS.user_column, FLAGS.history_column, FLAGS.history_separator)
    # A run is asked by item ids alone: features are read by the tower that is published.
    tower_columns = TowerColumns.newest(FLAGS.bundle) if FLAGS.bundle and paths else NO_COLUMNS
    histories = read_histories(paths, columns, tower_columns) if paths else None
    about = {"source": FLAGS.bundle or FLAGS.run, "metric": "inner product"}
    writers = {
        flag: VectorWriter(Path(place), overwrite=FLAGS.overwrite, npy=FLAGS.npy, about=about)
        for flag, place in (("items", FLAGS.items), ("users", FLAGS.users))
        if place
    }
    for flag, blocks in (_of_bundle if FLAGS.bundle else _of_run)(histories):
        _write(flag, writers[flag], blocks)


def _of_bundle(histories: Iterator[HistoryRow] | None) -> Iterator[tuple[str, Iterator[Block]]]:
    """What is to be written, by the flag that names the file."""
    catalogues = CatalogueCache(FLAGS.bundle, open_engine=engine_named("numpy"))  # nothing is searched
    number = resolve_number(Path(FLAGS.bundle), None)
    catalogue = catalogues.get(read_tower(tower_directory(Path(FLAGS.bundle), number))["version"])
    if FLAGS.items:
        yield "items", item_blocks(catalogue, _attributes(Path(FLAGS.bundle)))
    if histories is not None:
        from export.towers.local import LocalTower  # loads TensorFlow

        tower = LocalTower.load(Path(FLAGS.bundle), number, catalogues)
        yield "users", user_blocks(tower, histories)
    print(f"version {catalogue.version}")


def _attributes(bundle: Path) -> AttributeValues | None:
    """The newest attributes of a bundle, if it has any."""
    numbers = attribute_numbers(bundle)
    if not numbers:
        return None
    return AttributeValues(ItemAttributes.load(attributes_directory(bundle, numbers[-1])))


def _of_run(histories: Iterator[HistoryRow] | None) -> Iterator[tuple[str, Iterator[Block]]]:
    trained = trained_runs.load_one(FLAGS.run, FLAGS.dataset)
    model, dataset = trained.model, trained.dataset
    item_ids, names = dataset.item_ids(), dataset.item_names()
    # Nothing trained the vectors of other items.
    rows = np.arange(len(item_ids)) if model.trained_items is None else model.trained_items - 1
    if FLAGS.items:

        def of_items() -> Iterator[Block]:
            vectors = model.item_vectors()
            for start in range(0, len(rows), ITEMS_TOGETHER):
                part = rows[start : start + ITEMS_TOGETHER]
                columns = {"item_id": [item_ids[row] for row in part]}
                if names != item_ids:
                    columns["name"] = [names[row] for row in part]
                yield columns, vectors[part]

        yield "items", of_items()
    if FLAGS.users:
        asked = _of_dataset(dataset, model.max_history) if histories is None else _read(histories, item_ids)
        yield "users", _encoded(model, asked)


def _of_dataset(dataset, max_history: int) -> Iterator[tuple[str, np.ndarray]]:
    """The users of --split with their known items: of those who are measured, without what is held out."""
    from causerec_tf.data.holdout import evaluation_users

    sequences = dataset.read(FLAGS.split)
    if FLAGS.split == "train":
        yield from zip(sequences.user_ids, sequences.rows(), strict=True)
    else:
        users = evaluation_users(sequences, max_history)
        yield from zip(users.user_ids, users.seen, strict=True)


def _read(histories: Iterable[HistoryRow], item_ids: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    index = {item: number for number, item in enumerate(item_ids, start=1)}
    for row in histories:
        yield row.user_id, np.array([index[item] for item in ids_of(row.history) if item in index], np.int32)


def _encoded(model, asked: Iterable[tuple[str, np.ndarray]]) -> Iterator[Block]:
    from causerec_tf.evaluation import user_vectors

    users: list[str] = []
    history = np.zeros((USERS_TOGETHER, model.max_history), np.int32)

    def block() -> Block:
        part = history[: len(users)]
        return user_block(users, (part > 0).sum(axis=1), user_vectors(model, part))

    for user, items in asked:
        last = items[-model.max_history :]
        history[len(users)] = 0
        history[len(users), : len(last)] = last
        users.append(user)
        if len(users) == USERS_TOGETHER:
            yield block()
            users = []
    if users:
        yield block()


def _write(flag: str, writer: VectorWriter, blocks: Iterator[Block]) -> None:
    """Writes the blocks to the file that a flag names, and says what came of it."""
    path, unknown = FLAGS[flag].value, 0
    with writer:
        for columns, vectors in blocks:
            writer.write(columns, vectors)
            unknown += int((columns["num_known"] == 0).sum()) if "num_known" in columns else 0
    if not writer.rows:
        raise BundleError(f"There are no {flag}: {path} was not written.")
    print(f"{path}: {writer.rows:,} vectors of {writer.dimension} numbers")
    if unknown:
        print(f"note: {unknown:,} of them are zero: nothing of these histories is known (num_known is 0)")


if __name__ == "__main__":
    command.run(main, bad_input=(BundleError, InputError))

"""Checkpoints that a kill or a disk may have damaged: the last whole one is read, a broken one is named."""

import logging
import shutil
from pathlib import Path

import tensorflow as tf

from causerec_tf.errors import InputError

START_AGAIN = (
    "Remove its files and the file `checkpoint` beside them and run pipelines/train.py again, or choose"
    " another --run."
)
# TensorFlow turns what its reader meets into Python's own kinds of error, IndexError for a short file.
_UNREADABLE = (tf.errors.OpError, AssertionError, ValueError, IndexError)

_logger = logging.getLogger(__name__)


def check_name(directory: Path, flag: str) -> None:
    """Checks that TensorFlow takes the name of a directory of checkpoints, given by a flag, as it is written.

    It takes the name for a glob where it looks whether a checkpoint is there, and where it removes one: below
    `a[1]` it finds none, and a save below `a*` removes the checkpoints of `ab`. SavedModels have checkpoints
    in them. TFRecords, events for TensorBoard and vocabularies are read and written by their names as they
    are (TensorFlow 2.20).

    Raises:
      InputError: it, or a directory above it, has a character of a glob in its name.
    """
    if found := sorted(set("*?[\\") & set(str(directory.absolute()))):
        raise InputError(
            f"{flag}={directory} lies at {directory.absolute()}, and TensorFlow takes {' '.join(found)} for a"
            " pattern of file names. Choose a path without that."
        )


def check_list(directory: Path) -> None:
    """Checks the file `checkpoint`, if any, by which TensorFlow knows the checkpoints of a directory.

    TensorFlow takes one that it cannot read for none, so that a run would start again from nothing.

    Raises:
      InputError: the file is there, and names no checkpoint.
    """
    path = directory / "checkpoint"
    if not path.exists():
        return
    try:
        state = tf.train.get_checkpoint_state(str(directory))
    except ValueError:
        state = None
    if state is None:
        numbers = [int(file.stem.rpartition("-")[2]) for file in directory.glob("ckpt-*.index")]
        last = f"ckpt-{max(numbers)}" if numbers else "ckpt-N"
        raise InputError(
            f"{path} is damaged: it names no checkpoint. Write the line\n"
            f'model_checkpoint_path: "{last}"\n'
            "into it to go on from that one, or choose another --run."
        )


def restore(
    checkpoint: tf.train.Checkpoint, path: str, remedy: str = START_AGAIN, *, partly: bool = False
) -> None:
    """Reads a checkpoint.

    Args:
      checkpoint: what to fill.
      path: of the checkpoint, without the ending of its files.
      remedy: what an error advises.
      partly: whether only a part of it is wanted; otherwise TensorFlow warns of what is left over.

    Raises:
      InputError: its files are damaged, or are of another model.
    """
    try:
        status = checkpoint.restore(path).assert_existing_objects_matched()
        if partly:
            status.expect_partial()
    except _UNREADABLE as error:
        raise InputError(f"the checkpoint {path} cannot be read: {error}\n{remedy}") from error


def check_whole(path: str, remedy: str) -> None:
    """Reads a checkpoint to its last byte, by its checksums, without a model; see `restore`."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except _UNREADABLE as error:
        raise InputError(f"the checkpoint {path} cannot be read: {error}\n{remedy}") from error


def restore_last(manager: tf.train.CheckpointManager, *, partly: bool = False) -> None:
    """Reads the last checkpoint, or where it is damaged the one before, with a warning; see `restore`.

    Raises:
      InputError: none can be read; the message is about the last.
    """
    failures = []
    # A list that was mended by hand names the last one alone, and the manager then lists none.
    for path in dict.fromkeys([manager.latest_checkpoint, *reversed(manager.checkpoints)]):
        try:
            restore(manager.checkpoint, path, partly=partly)
        except InputError as error:
            failures.append((path, error))
            continue
        for failed, _ in failures:
            _logger.warning("The checkpoint %s cannot be read: going on from %s.", failed, path)
        return
    raise failures[0][1]


def sweep(manager: tf.train.CheckpointManager) -> None:
    """Removes what killed saves have left beside the checkpoints, which may be as large as these.

    A save writes into `ckpt-<n>_temp`, and its list into `checkpoint.tmp<random>`. It removes the checkpoint
    that falls off the list after it has written the list. TensorFlow comes back to none of these. Where the
    manager lists nothing, every checkpoint stays: the list may have been mended by hand.
    """
    directory = Path(manager.directory)
    listed = {Path(path).name for path in manager.checkpoints}
    for path in directory.glob("ckpt-*_temp"):
        shutil.rmtree(path)
    for path in directory.glob("checkpoint.tmp*"):
        path.unlink()
    for path in [*directory.glob("ckpt-*.index"), *directory.glob("ckpt-*.data-*")] if listed else []:
        if path.stem not in listed:
            path.unlink()

"""Small runs on generated worlds, and what ends one in the middle."""

import dataclasses

import tensorflow as tf

from causerec_tf import runs, training
from causerec_tf.settings import Settings
from tests.worlds import write_world

FAST = Settings(embedding_dim=16, batch_size=256, sampler="full", epochs=2, memory_size=2000)
OFTEN = {"checkpoint_steps": 3}  # for what is stopped in the middle


def prepare(directory, **world):
    return write_world(directory, **{"num_users": 300, "num_items": 240, "num_interests": 12} | world)


def settings_of(run, dataset, **changes):
    return dataclasses.replace(FAST, run=str(run), dataset=str(dataset.directory), **changes)


def train(run, dataset, callbacks=(), **changes):
    settings = settings_of(run, dataset, **changes)
    directory = runs.RunDirectory(run)
    directory.start(settings, dataset)
    return training.train(settings, dataset, directory, callbacks=callbacks)


class Stop(Exception):
    pass


class StopAt(tf.keras.callbacks.Callback):
    """Ends the process's work in the middle of an epoch, as a kill would."""

    def __init__(self, batches):
        super().__init__()
        self._left = batches

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            raise Stop

"""Arranges Keras 2 before any test module imports TensorFlow."""

import gc
import os

import pytest

from tests.made_once import made_once

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Tracing makes many small objects that stay: by default a tenth of the time goes into looking for cycles.
gc.set_threshold(50_000, 20, 10)

# A file goes to one worker as a whole: the longest first, or the others wait for it at the end.
_FIRST = (
    "test_compare.py",
    "test_features_in_models.py",
    "test_publish_features.py",
    "test_wheel.py",
    "test_beam_preparation.py",
    "test_end_to_end.py",
    "test_interrupted_runs.py",
)


@pytest.fixture
def untraced():
    """Calls of `tf.function` run as they stand: a trace costs more than what little is asked of it."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory):
    """The directory of a run of the base model, by one epoch. Look at it; to change something, copy it."""
    return made_once(tmp_path_factory, "plain_run", _train_plainly)


def _train_plainly(place):
    import causerec_tf as cr
    from tests.pipelines import scripts

    cr.train(scripts.write_world(place / "dataset"), place / "run", progress=False, **scripts.PLAIN)
    return place / "run"


def pytest_collection_finish():
    gc.freeze()  # the modules of all tests stay


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))

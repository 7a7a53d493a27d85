"""Arranges Keras 2 before any test module imports TensorFlow."""

import gc
import os

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


def pytest_collection_finish():
    gc.freeze()  # the modules of all tests stay


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))

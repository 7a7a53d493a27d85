"""TensorFlow and ScaNN as serving needs them: without Keras.

`import tensorflow` loads the whole of Keras at once where it is installed, to register optimisers
for SavedModels that hold some. Ours hold none, so a process that only answers requests would pay
the time and the memory for nothing. Here that one import is refused, which TensorFlow takes calmly;
`tf.keras` is still there and loads at its first use, so training in the same process works.
"""

import importlib
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder

_KERAS = ("keras", "tf_keras")


class _Refusing(Loader):
    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        raise ImportError(f"{spec.name} is left out while TensorFlow starts.")

    def exec_module(self, module: types.ModuleType) -> None:
        raise AssertionError("create_module never gives a module to execute")


class _KerasRefusingFinder(MetaPathFinder):
    """Finds Keras, since TensorFlow asks where it lies, but does not load it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in _KERAS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = _Refusing()
        return spec


@contextmanager
def _keras_refused() -> Iterator[None]:
    finder = _KerasRefusingFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        importlib.invalidate_caches()


with _keras_refused():
    import tensorflow as tf
    from scann.scann_ops import scann_assets_pb2
    from scann.scann_ops.py import scann_ops_pybind as scann

__all__ = ["scann", "scann_assets_pb2", "tf"]

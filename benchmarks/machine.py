"""What the machine is, and how fast it can multiply matrices and move rows of a table."""

import os
import platform
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.products import Product

_PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
_SQUARE = 2048
_BYTES_A_FLOAT = 4
_ROWS_AT_ONCE = 32_768
_REPEATS = 5


def description() -> dict:
    """The machine and the versions of what runs on it, for JSON."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "numpy_blas": f"{blas['name']} {blas['version']}",
        "thread_variables": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, or None where the system does not say."""
    value = _field("/proc/meminfo", "MemAvailable")
    return int(value.split()[0]) * 1024 if value else None


def check_memory(num_floats: int) -> None:
    """Checks that so many float32 numbers fit into the memory that is free.

    Raises:
      MemoryError: they do not.
    """
    available, needed = available_memory(), num_floats * _BYTES_A_FLOAT
    if available is not None and needed > available:
        raise MemoryError(
            f"the catalogues need {needed / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} GiB are"
            " free: end other work, or choose the other benchmarks by --only."
        )


class Limits:
    """Rates that no step can exceed; `measure` takes them once."""

    def __init__(self, products: Iterable[Product], num_rows: int, width: int, *, square: int = _SQUARE):
        """Makes the matrices and the table.

        Args:
          products: whose shapes are timed.
          num_rows: of the table, as many as the catalogue has.
          width: of a row.
          square: side of the large square product.
        """
        random = np.random.default_rng(0)
        shapes = {_shape(product): product for product in products}
        self._pairs = {shape: _operands(product, random) for shape, product in shapes.items()}
        self._shapes = shapes
        side = random.standard_normal([square, square], np.float32)
        self._square, self._square_tensor = side, tf.constant(side)
        self._table = tf.Variable(random.standard_normal([num_rows, width], np.float32))
        self._gathered = tf.constant(random.integers(0, num_rows, _ROWS_AT_ONCE), tf.int32)
        distinct = random.permutation(num_rows)[:_ROWS_AT_ONCE]
        self._scattered = tf.IndexedSlices(
            tf.constant(random.standard_normal([len(distinct), width], np.float32)),
            tf.constant(distinct, tf.int32),
        )

    def measure(self) -> dict[str, Any]:
        """Takes each rate, the best of a few.

        Returns:
          `square_tensorflow` and `square_numpy`, in GFLOP/s; `gather` and `scatter`, in rows/s; `products`:
          (m, k, n, transpose_a, transpose_b) -> seconds of one product.
        """
        side = len(self._square)
        by_tensorflow = _best(lambda: tf.matmul(self._square_tensor, self._square_tensor))
        by_numpy = _best(lambda: self._square @ self._square)
        gather = _best(lambda: tf.gather(self._table, self._gathered))
        scatter = _best(lambda: self._table.scatter_update(self._scattered))
        return {
            "square_tensorflow": 2e-9 * side**3 / by_tensorflow,
            "square_numpy": 2e-9 * side**3 / by_numpy,
            "gather": _ROWS_AT_ONCE / gather,
            "scatter": int(self._scattered.indices.shape[0]) / scatter,
            "products": {shape: self._seconds(shape) for shape in self._shapes},
        }

    def _seconds(self, shape: tuple) -> float:
        (left, right), (*_, transpose_a, transpose_b) = self._pairs[shape], shape
        return _best(lambda: tf.matmul(left, right, transpose_a=transpose_a, transpose_b=transpose_b))


def products_alone(products: Iterable[Product], seconds: dict[tuple, float]) -> float:
    """Seconds that a step's products take when nothing else is done.

    Args:
      products: of the step.
      seconds: of each shape, as `Limits.measure` gives them.
    """
    return sum(seconds[_shape(product)] for product in products)


def _shape(product: Product) -> tuple:
    return product.m, product.k, product.n, product.transpose_a, product.transpose_b


def _operands(product: Product, random: np.random.Generator) -> tuple[tf.Tensor, tf.Tensor]:
    left, right = [product.m, product.k], [product.k, product.n]
    if product.transpose_a:
        left.reverse()
    if product.transpose_b:
        right.reverse()
    return tuple(tf.constant(random.standard_normal(shape, np.float32)) for shape in (left, right))


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few goes."""
    seconds = []
    for _ in range(1 + _REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def _field(path: str, name: str) -> str | None:
    """The value of the first `name: value` line of a file, or None."""
    if not Path(path).is_file():
        return None
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None

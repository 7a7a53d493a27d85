"""ScaNN, which has builds for few platforms; without it, importing this raises a BundleError."""

from export.index.scann_processor import use_avx2
from export.store.bundle_errors import BundleError
from export.store.runtime import tf  # noqa: F401  # first, without Keras: ScaNN imports it, too

try:
    from scann.scann_ops import scann_assets_pb2
    from scann.scann_ops.py import scann_ops_pybind as scann
except ImportError as error:
    raise BundleError(
        f"ScaNN cannot be loaded ({error}): it has builds for Linux alone. Indexes are built and changed"
        " where it runs; elsewhere --engine=numpy or --engine=hnswlib searches them."
    ) from error

use_avx2(scann.scann_pybind.__file__)

__all__ = ["scann", "scann_assets_pb2"]

"""The files of ScaNN in an index: its list of them is checked, since it would open any file that is named."""

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.foreign import loading

_ASSETS = "scann_assets.pbtxt"
_MOST_ASSETS_BYTES = 1 << 16
# The kinds of ScaNN's files, without `_NPY` at their end: of the vectors, of a tree, and of one that spills.
_OF_MEMORY = {
    "full": {"DATASET"},
    "bfloat16": {"BF16_DATASET"},
    "int8": {"INT8_DATASET", "INT8_MULTIPLIERS", "INT8_NORMS"},
}
_OF_TREE = {"AH_CENTERS", "PARTITIONER", "TOKENIZATION", "AH_DATASET"}
_OF_SPILLING = {"AH_DATASET_SOAR"}


def read_assets(directory: Path, description: dict[str, Any]) -> str:
    """Gives ScaNN's list of its files, each of which is of the index and of its method.

    ScaNN would end the process over a missing or a second one of a kind.

    Raises:
      BundleError: a file is missing, of another method, or outside the index.
    """
    from export.index.scann_runtime import scann_assets_pb2

    data = checksums.read(directory, _ASSETS, _MOST_ASSETS_BYTES)
    with loading(directory / _ASSETS):
        assets = text_format.Parse(data.decode(), scann_assets_pb2.ScannAssets())
        kinds = [
            scann_assets_pb2.ScannAsset.AssetType.Name(one.asset_type).removesuffix("_NPY")
            for one in assets.assets
        ]
    for asset in assets.assets:
        checksums.inside(directory, asset.asset_path)
    wanted = set(_OF_MEMORY[description["memory"]])
    if description["method"] == "tree":
        wanted |= _OF_TREE | (_OF_SPILLING & set(kinds))
    if sorted(kinds) != sorted(wanted):
        raise BundleError(
            f"{directory / _ASSETS} lists {sorted(kinds)}; wanted {sorted(wanted)}. Publish again."
        )
    return text_format.MessageToString(assets)

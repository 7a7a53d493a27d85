"""Publishing and serving: the user tower, the item index, and what reads them.

import export
export.publish(run, "bundles/shop")
export.Retriever.open("bundles/shop").recommend([["a", "b"], export.Query(["c"], exclude_seen=False)], k=10)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.publishing.publish_run import publish_run as publish
    from export.query import Query
    from export.retriever import Retriever

__all__ = ["Query", "Retriever", "publish"]

# Imported when they are first used: what serves waits for nothing that publishes.
_PLACES = {
    "publish": ("export.publishing.publish_run", "publish_run"),
    "Query": ("export.query", "Query"),
    "Retriever": ("export.retriever", "Retriever"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, member = _PLACES[name]
    return getattr(importlib.import_module(module), member)

"""Other libraries' indexes beside ours: faiss and hnswlib, where they are installed.

pip install faiss-cpu hnswlib
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

PEERS = {"faiss": "faiss-cpu", "hnswlib": "hnswlib"}

# queries [B, d] -> rows [B, k]
Search = Callable[[np.ndarray], np.ndarray]
# system -> setting -> how it searches
Curves = dict[str, dict[str, Search]]


def faiss_curves(vectors: np.ndarray, k: int) -> Curves:
    """Exhaustive search, and inverted lists with more and more of them probed."""
    import faiss

    num_lists = max(1, min(1024, len(vectors) // 40))
    flat, centres = faiss.IndexFlatIP(vectors.shape[1]), faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    inverted = faiss.IndexIVFFlat(centres, vectors.shape[1], num_lists, faiss.METRIC_INNER_PRODUCT)
    inverted.train(vectors)
    inverted.add(vectors)

    def search(probes: int, queries: np.ndarray) -> np.ndarray:
        inverted.nprobe = probes
        return inverted.search(queries, k)[1]

    def search_flat(queries: np.ndarray) -> np.ndarray:
        return flat.search(queries, k)[1]

    probed = (probes for probes in (10, 20, 40, 80, 160) if probes <= num_lists)
    return {
        "faiss_flat": {"faiss_flat exact": search_flat},
        "faiss_ivf": {f"faiss_ivf nprobe {probes}": partial(search, probes) for probes in probed},
    }


def hnswlib_curve(vectors: np.ndarray, k: int, graph_file: Path | None) -> Curves:
    """A graph that is searched more and more broadly; it is kept as `graph_file`, where one is given."""
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    if graph_file is not None and graph_file.exists():
        graph.load_index(str(graph_file))
    else:
        graph.init_index(max_elements=len(vectors), ef_construction=200, M=16)
        graph.add_items(vectors)
        if graph_file is not None:
            graph.save_index(str(graph_file))
    graph.set_num_threads(1)

    def search(breadth: int, queries: np.ndarray) -> np.ndarray:
        graph.set_ef(breadth)
        return graph.knn_query(queries, k)[0].astype(np.int64)

    breadths = (50, 64, 72, 80, 88, 96, 128, 256)
    return {"hnswlib": {f"hnswlib ef {ef}": partial(search, ef) for ef in breadths}}

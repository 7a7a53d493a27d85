"""The packed vectors of the orders that filtered searches ask for."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import numpy as np

from export.index.packed_vectors import PackedVectors

# Packed, three orders take what the exact vectors do.
_MOST_ORDERS = 3
# Longer vectors have entries that are too small beside a whole number.
_LONGEST = 256


class PackedOrders:
    """Makes them when they are first asked for, and keeps those that were asked for last."""

    def __init__(self, vectors_of: Callable[[np.ndarray], np.ndarray], dimension: int):
        """Takes rows -> float32 [n, d], and d."""
        self._vectors_of, self._dimension = vectors_of, dimension
        # By the identity of the order, which is kept so that no other gets it.
        self._kept: OrderedDict[int, tuple[np.ndarray, PackedVectors]] = OrderedDict()
        self._making, self._changing = Lock(), Lock()

    def get(self, order: np.ndarray) -> PackedVectors | None:
        """The packed vectors of an order; None: the caller goes another way.

        So it is while another thread makes some, and with vectors that are too long.
        """
        if self._dimension > _LONGEST:
            return None
        with self._changing:
            if id(order) in self._kept:
                self._kept.move_to_end(id(order))
                return self._kept[id(order)][1]
        if not self._making.acquire(blocking=False):
            return None
        try:
            made = PackedVectors(order, self._vectors_of)
            with self._changing:
                self._kept[id(order)] = (order, made)
                if len(self._kept) > _MOST_ORDERS:
                    self._kept.popitem(last=False)
            return made
        finally:
            self._making.release()

"""Lists of items as a sparse matrix of users and items."""

import numpy as np
import scipy.sparse

from causerec_tf.data.ragged import ItemLists


def user_item_matrix(
    lists: ItemLists, num_items: int, weights: np.ndarray | None = None
) -> scipy.sparse.csr_matrix:
    """The items of each user.

    Args:
      lists: of U users.
      num_items: V.
      weights: float32 [entries], of each entry of the lists; None: an item counts once, however often it was
        taken.

    Returns:
      float32 [U, V]: the sum of the weights of an item's entries, or 1.
    """
    rows, _ = lists.rows_and_positions()
    data = np.ones(len(rows), np.float32) if weights is None else weights
    matrix = scipy.sparse.csr_matrix((data, (rows, lists.items - 1)), shape=(len(lists), num_items))
    if weights is None:
        matrix.data[:] = 1
    return matrix

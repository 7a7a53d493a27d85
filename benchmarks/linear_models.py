"""Item-to-item models without training steps, as a yardstick: EASE and nearest neighbours of items.

Shapes: U training users, V items, B users that are scored. Items are columns, counted from 0.
"""

import numpy as np
import scipy.linalg
import scipy.sparse

_ITEMS_AT_ONCE = 2048


class ItemNeighbours:
    """ItemKNN with every item as a neighbour: an item's score is its summed cosine with those of a history.

    The cosine is that of the items' columns in the matrix of users and items (Deshpande and Karypis, TOIS
    2004).
    """

    def __init__(self, interactions_UV: scipy.sparse.csr_matrix):
        """Makes the columns as long as one.

        Args:
          interactions_UV: float32 [U, V], 1 where a user has taken an item.
        """
        lengths_V = np.sqrt(interactions_UV.power(2).sum(axis=0).A1)
        self._unit_UV = interactions_UV @ scipy.sparse.diags(1 / np.maximum(lengths_V, 1), dtype=np.float32)

    def scores(self, histories_BV: scipy.sparse.csr_matrix) -> np.ndarray:
        """Scores of all items.

        Args:
          histories_BV: float32 [B, V], 1 for the items of a history.

        Returns:
          float32 [B, V].
        """
        return (histories_BV @ self._unit_UV.T @ self._unit_UV).toarray()


class Ease:
    """EASE (Steck, WWW 2019): a full V x V matrix of weights with diagonal 0, the ridge regression's optimum.

        B = I - P diag(1 / P_jj)  with  P = (X^T X + l2 I)^-1

    By Woodbury's identity `P = (I - X^T K^-1 X) / l2` with the U x U matrix `K = X X^T + l2 I`, which is the
    smaller one where there are fewer users than items. Memory: a few times U x U.
    """

    def __init__(self, interactions_UV: scipy.sparse.csr_matrix, l2: float):
        """Solves the regression.

        Args:
          interactions_UV: float32 [U, V], 1 where a user has taken an item.
          l2: weight of the squares, more than 0.
        """
        self._interactions_UV = interactions_UV
        kernel_UU = (interactions_UV @ interactions_UV.T).toarray()
        kernel_UU[np.diag_indices_from(kernel_UU)] += l2
        factor_UU = scipy.linalg.cholesky(kernel_UU, lower=True, overwrite_a=True, check_finite=False)
        lower_UU, failed = scipy.linalg.get_lapack_funcs("potri", [factor_UU])(
            factor_UU, lower=True, overwrite_c=True
        )
        assert not failed
        # potri fills one triangle alone.
        self._inverse_UU = np.tril(lower_UU)
        self._inverse_UU += np.tril(lower_UU, -1).T
        # x_j^T K^-1 x_j of each item: what P_jj l2 lacks of 1.
        columns_UV = interactions_UV.tocsc()
        self._explained_V = np.concatenate(
            [
                columns_UV[:, first : first + _ITEMS_AT_ONCE]
                .multiply((columns_UV[:, first : first + _ITEMS_AT_ONCE].T @ self._inverse_UU).T)
                .sum(axis=0)
                .A1
                for first in range(0, interactions_UV.shape[1], _ITEMS_AT_ONCE)
            ]
        )

    def scores(self, histories_BV: scipy.sparse.csr_matrix) -> np.ndarray:
        """Scores of all items, `h B`.

        Args:
          histories_BV: float32 [B, V], 1 for the items of a history.

        Returns:
          float32 [B, V].
        """
        of_users_BU = (histories_BV @ self._interactions_UV.T).toarray() @ self._inverse_UU
        # Of P without its identity, that is -X^T K^-1 X / l2; l2 cancels between P and its diagonal.
        scores_BV = (self._interactions_UV.T @ of_users_BU.T).T
        rows, columns = histories_BV.nonzero()
        scores_BV[rows, columns] -= self._explained_V[columns]
        return scores_BV / (1 - self._explained_V)

"""EASE (Steck, WWW 2019): the ridge regression of every item on all others, solved exactly.

Shapes: T training users, V items, B users that are scored; N is the smaller of T and V.
"""

import numpy as np
import scipy.linalg
import scipy.sparse

from causerec_tf.baselines.baseline import Baseline
from causerec_tf.baselines.user_item_matrix import user_item_matrix
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.errors import InputError

GIBIBYTE = 1 << 30
_ROWS_AT_ONCE = 1024


class Ease(Baseline):
    """A weight for every pair of items, B, with diagonal 0; `h B` are the scores of a history h.

        B = I - P diag(1 / P_jj)  with  P = (X^T X + l2 I)^-1,  X the binary matrix [T, V]

    Where there are fewer users than items, by Woodbury's identity `P = (I - X^T K^-1 X) / l2` with the T x T
    matrix `K = X X^T + l2 I`. So one N x N matrix of float32 is inverted, in its place: that is the memory.
    """

    _matrix_TV: scipy.sparse.csr_matrix
    _inverse_NN: np.ndarray
    _diagonal_V: np.ndarray  # of P, times l2

    def __init__(self, l2: float = 500.0, *, most_memory: float = 8.0):
        """Fits later.

        Args:
          l2: weight of the squares, more than 0.
          most_memory: gibibytes that the N x N matrix may take.
        """
        self._l2 = l2
        self._most_memory = most_memory

    def refusal(self, training: TrainingEvents) -> str:
        """Why the matrix is too large, if it is."""
        size = min(training.num_users, training.num_items)
        needed = 4 * size**2 / GIBIBYTE
        if needed <= self._most_memory:
            return ""
        return (
            f"EASE inverts a matrix of {size:,} x {size:,} float32, {needed:.1f} GiB, and may take"
            f" {self._most_memory:g}. On a machine that has the memory raise --most_memory."
        )

    def fit(self, training: TrainingEvents) -> None:
        """Solves the regression.

        Raises:
          InputError: l2 is too small for float32.
        """
        self._matrix_TV = user_item_matrix(training.sequences.rows(), training.num_items)
        if self._has_fewer_users:
            self._inverse_NN = _inverse_of_gram(self._matrix_TV, self._l2)
            self._diagonal_V = 1 - self._explained()
        else:
            self._inverse_NN = _inverse_of_gram(self._matrix_TV.T.tocsr(), self._l2)
            self._diagonal_V = self._l2 * np.diagonal(self._inverse_NN)

    def scores(self, users: EvaluationUsers) -> np.ndarray:
        """`h B`, float32 [B, V]."""
        histories_BV = user_item_matrix(users.seen, self._matrix_TV.shape[1])
        scores_BV = self._projected(histories_BV)
        scores_BV /= -self._diagonal_V
        scores_BV[histories_BV.nonzero()] += 1
        return scores_BV

    @property
    def _has_fewer_users(self) -> bool:
        return self._matrix_TV.shape[0] < self._matrix_TV.shape[1]

    def _projected(self, histories_BV: scipy.sparse.csr_matrix) -> np.ndarray:
        """`h P`, times l2, float32 [B, V]."""
        if not self._has_fewer_users:
            return self._l2 * (histories_BV @ self._inverse_NN)
        of_users_BT = (histories_BV @ self._matrix_TV.T).toarray() @ self._inverse_NN
        projected_BV = -(self._matrix_TV.T @ of_users_BT.T).T
        projected_BV[histories_BV.nonzero()] += 1
        return projected_BV

    def _explained(self) -> np.ndarray:
        """`x_j^T K^-1 x_j` of each item's column, float32 [V]: what P_jj l2 lacks of 1."""
        columns_VT = self._matrix_TV.T.tocsr()
        return np.concatenate(
            [
                columns_VT[block].multiply(columns_VT[block] @ self._inverse_NN).sum(axis=1).A1
                for block in _blocks(columns_VT.shape[0])
            ]
        )


def _inverse_of_gram(matrix_NM: scipy.sparse.csr_matrix, l2: float) -> np.ndarray:
    """`(A A^T + l2 I)^-1` of a sparse A, float32 [N, N], in the memory of one such matrix."""
    size = matrix_NM.shape[0]
    # In LAPACK's order of the axes; the matrix is symmetric.
    gram_NN = np.empty([size, size], np.float32, order="F")
    for block in _blocks(size):
        gram_NN[:, block] = (matrix_NM @ matrix_NM[block].T).toarray()
    gram_NN[np.diag_indices(size)] += l2
    factorise, invert = scipy.linalg.get_lapack_funcs(("potrf", "potri"), [gram_NN])
    factor_NN, failed = factorise(gram_NN, lower=True, clean=False, overwrite_a=True)
    if failed:
        raise InputError(f"EASE with l2={l2:g} cannot be solved in float32: give a larger l2.")
    inverse_NN, failed = invert(factor_NN, lower=True, overwrite_c=True)
    assert not failed
    for block in _blocks(size):  # it has the lower triangle
        above, below = inverse_NN[block, block], inverse_NN[block.stop :, block]
        inverse_NN[block, block] = np.tril(above) + np.tril(above, -1).T
        inverse_NN[block, block.stop :] = below.T
    return inverse_NN.T  # which is itself, rows one after another


def _blocks(size: int) -> list[slice]:
    """Rows that are handled at once."""
    starts = range(0, size, _ROWS_AT_ONCE)
    return [slice(start, min(start + _ROWS_AT_ONCE, size)) for start in starts]

"""ItemKNN (Deshpande and Karypis, TOIS 2004), with every item as a neighbour.

Shapes: T training users, V items, B users that are scored.
"""

import numpy as np
import scipy.sparse

from causerec_tf.baselines.baseline import Baseline
from causerec_tf.baselines.user_item_matrix import user_item_matrix
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.training_events import TrainingEvents


class ItemNeighbours(Baseline):
    """An item's score is the sum of its cosines with the items of a history.

    The cosine is that of the items' columns in the matrix of training users and items. With a half-life the
    history counts by recency: an event that so many later ones follow counts half.

    The V x V cosines are never made: memory is that of the training events, twice, and of the products of a
    block, B x T and B x V.
    """

    _units_TV: scipy.sparse.csr_matrix
    _units_VT: scipy.sparse.csr_matrix

    def __init__(self, half_life: float | None = None):
        """Counts by recency with a half-life, in events, above 0; None: each item of a history once."""
        self._half_life = half_life

    def fit(self, training: TrainingEvents) -> None:
        """Makes the columns as long as one."""
        matrix_TV = user_item_matrix(training.sequences.rows(), training.num_items)
        lengths_V = np.sqrt(matrix_TV.sum(axis=0).A1)
        self._units_TV = matrix_TV @ scipy.sparse.diags(1 / np.maximum(lengths_V, 1), dtype=np.float32)
        self._units_VT = self._units_TV.T.tocsr()

    def scores(self, users: EvaluationUsers) -> np.ndarray:
        """The sums of cosines, float32 [B, V]."""
        weights = None
        if self._half_life is not None:
            rows, positions = users.seen.rows_and_positions()
            later = np.diff(users.seen.row_splits)[rows] - 1 - positions
            weights = np.exp2(-later / self._half_life).astype(np.float32)
        histories_BV = user_item_matrix(users.seen, self._units_TV.shape[1], weights)
        return (histories_BV @ self._units_VT @ self._units_TV).toarray()

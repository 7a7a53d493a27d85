"""V-SKNN (Ludewig and Jannach, UMUAI 2018): what training users with a similar history took.

Shapes: T training users, V items, B users that are scored, K neighbours of each.
"""

import numpy as np
import scipy.sparse

from causerec_tf.baselines.baseline import Baseline
from causerec_tf.baselines.user_item_matrix import user_item_matrix
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.training_events import TrainingEvents


class SessionNeighbours(Baseline):
    """The K training users that share most of a history, recent items counting more, vote for their items.

        w(i) = p / n                           of the item at position p of n, its last one
        sim(u, t) = sum of w(i) over the items that both have
        score(j) = sum over the K nearest t that have j of sim(u, t) * max of w(i) over the items of both

    All training users are candidates, not a sample of recent ones.
    """

    _matrix_TV: scipy.sparse.csr_matrix

    def __init__(self, num_neighbours: int = 500):
        """Sets K, 1 or more."""
        self._num_neighbours = num_neighbours

    def fit(self, training: TrainingEvents) -> None:
        """Lays the training users out."""
        self._matrix_TV = user_item_matrix(training.sequences.rows(), training.num_items)

    def scores(self, users: EvaluationUsers) -> np.ndarray:
        """The neighbours' votes, float32 [B, V]."""
        weights_BV = self._weights(users)
        similar_BT = (weights_BV @ self._matrix_TV.T).toarray()
        scores_BV = np.zeros(weights_BV.shape, np.float32)
        count = min(self._num_neighbours, similar_BT.shape[1])
        for row, similar_T in enumerate(similar_BT):
            # Of equals the first users, so that the choice does not depend on the machine.
            nearest_K = np.argsort(-similar_T, kind="stable")[:count]
            nearest_K = nearest_K[similar_T[nearest_K] > 0]
            if not len(nearest_K):
                continue
            theirs_KV = self._matrix_TV[nearest_K]
            latest_K = theirs_KV.multiply(weights_BV[row]).max(axis=1).toarray()[:, 0]
            scores_BV[row] = (similar_T[nearest_K] * latest_K) @ theirs_KV
        return scores_BV

    def _weights(self, users: EvaluationUsers) -> scipy.sparse.csr_matrix:
        """The weight w of each item of the histories, float32 [B, V]."""
        rows, positions = users.seen.rows_and_positions()
        lengths = np.diff(users.seen.row_splits)
        pairs = rows * self._matrix_TV.shape[1] + users.seen.items - 1
        # The last time that an item stands in a history is the one that counts.
        reversed_pairs, first = np.unique(pairs[::-1], return_index=True)
        last = len(pairs) - 1 - first
        weights = ((positions[last] + 1) / lengths[rows[last]]).astype(np.float32)
        columns = reversed_pairs % self._matrix_TV.shape[1]
        shape = (len(users), self._matrix_TV.shape[1])
        return scipy.sparse.csr_matrix((weights, (rows[last], columns)), shape=shape)

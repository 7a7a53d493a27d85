"""iALS (Hu, Koren and Volinsky, ICDM 2008) by the package `implicit`: matrix factorisation of who took what.

Shapes: T training users, V items, B users that are scored.
"""

import importlib.util

import numpy as np

from causerec_tf.baselines.baseline import Baseline
from causerec_tf.baselines.user_item_matrix import user_item_matrix
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.training_events import TrainingEvents


class AlternatingLeastSquares(Baseline):
    """Factors of items by alternating least squares; a user is folded in: the factors that fit the history.

    An item that a user took has the preference 1 with the confidence alpha, every other item 0 with 1.
    """

    def __init__(
        self,
        num_factors: int = 64,
        *,
        regularization: float = 0.01,
        alpha: float = 10.0,
        num_iterations: int = 15,
        seed: int = 0,
    ):
        """Fits later.

        Args:
          num_factors: the size of the vectors.
          regularization: weight of the squares.
          alpha: how many times as much a taken item counts as one that was not.
          num_iterations: over users and items.
          seed: of the initial factors.
        """
        self._settings = {
            "factors": num_factors,
            "regularization": regularization,
            "alpha": alpha,
            "iterations": num_iterations,
            "random_state": seed,
            "num_threads": 1,  # the sums of several come in any order
        }

    def refusal(self, training: TrainingEvents) -> str:
        """Why it cannot be fitted: the package is not installed."""
        if importlib.util.find_spec("implicit") is None:
            return "the package implicit is not installed: `pip install implicit`."
        return ""

    def fit(self, training: TrainingEvents) -> None:
        """Factorises the matrix of training users and items."""
        import implicit

        self._model = implicit.als.AlternatingLeastSquares(**self._settings)
        self._model.fit(user_item_matrix(training.sequences.rows(), training.num_items), show_progress=False)

    def scores(self, users: EvaluationUsers) -> np.ndarray:
        """The inner products of folded-in users with all items, float32 [B, V]."""
        histories_BV = user_item_matrix(users.seen, len(self._model.item_factors))
        of_users = self._model.recalculate_user(np.arange(len(users)), histories_BV)
        return (of_users @ self._model.item_factors.T).astype(np.float32)

"""Vectors for items that a trained table does not know, from the histories in which they came next."""

import numpy as np

from causerec_tf.data.sequences import Dataset
from causerec_tf.data.windows import training_batches

_WINDOWS_AT_ONCE = 8192


def mean_lengths(table: np.ndarray, rows: np.ndarray) -> float:
    """The mean length of some rows, bool [V + 1], of a table, float32 [V + 1, d]."""
    return float(np.linalg.norm(table[rows], axis=1).mean())


def from_histories(
    table: np.ndarray, is_known: np.ndarray, dataset: Dataset, max_history: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places unknown items among the known ones that training users had before them.

    For each event of an unknown item the known vectors of the history before it are averaged, these means
    over the item's events, and the result is made as long as a known vector is on average: a mean of many
    vectors is shorter than each, and would lose every inner product for that alone.

    Args:
      table: float32 [V + 1, d], in the dataset's order; what stands in unknown rows does not matter.
      is_known: bool [V + 1], which rows are vectors; row 0 is padding, and is not.
      dataset: whose training users are read once, batch after batch.
      max_history: how many items before the new one count.

    Returns:
      A copy of the table with the rows that were found, and bool [V + 1], which these are: not those of
      items that no training user had after a known one.
    """
    known = np.where(is_known[:, np.newaxis], table, 0)
    sums, counts = np.zeros(table.shape), np.zeros(len(table), np.int64)
    if is_known[1:].all():
        return table.copy(), counts > 0
    for batch in training_batches(
        dataset, batch_size=_WINDOWS_AT_ONCE, max_history=max_history, seed=0, epoch=0
    ):
        history_BL, target_B = batch["history"].numpy(), batch["target"].numpy()
        num_known_B = is_known[history_BL].sum(axis=1)
        counted = ~is_known[target_B] & (num_known_B > 0)
        history_BL, target_B = history_BL[counted], target_B[counted]
        means_BD = known[history_BL].sum(axis=1) / num_known_B[counted, np.newaxis]
        np.add.at(sums, target_B, means_BD)
        np.add.at(counts, target_B, 1)
    lengths = np.linalg.norm(sums, axis=1)
    is_found = (counts > 0) & (lengths > 0)
    result = table.copy()
    result[is_found] = sums[is_found] / lengths[is_found, np.newaxis] * mean_lengths(table, is_known)
    return result, is_found

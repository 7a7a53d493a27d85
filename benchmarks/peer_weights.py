"""Weights of PyTorch models in our towers. There is no PyTorch here: a state dict is name -> array.

`gru4rec` and `sasrec` give the values for `tower.variables`, in their order; `our_vectors` uses them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from causerec_tf.towers.gru import GRU4RecTower
from causerec_tf.towers.self_attention import SASRecTower

State = Mapping[str, np.ndarray]


def gru4rec(state: State, *, gru: str, dense: str) -> list[np.ndarray]:
    """A GRU layer and a linear layer.

    PyTorch stacks the gates as reset, update, candidate; Keras as update, reset, candidate.

    Args:
      state: of the model.
      gru: name of the `torch.nn.GRU` in it, which may be without biases.
      dense: name of the `torch.nn.Linear`.

    Returns:
      Kernel, recurrent kernel, the two biases in one array, and the linear layer's kernel and bias.
    """
    kernel, recurrent = (_gates(state[f"{gru}.weight_{part}_l0"]).T for part in ("ih", "hh"))
    zeros = np.zeros(kernel.shape[1], np.float32)
    biases = [_gates(state.get(f"{gru}.bias_{part}_l0", zeros)) for part in ("ih", "hh")]
    return [kernel, recurrent, np.stack(biases), *_linear(state, dense)]


def sasrec(
    state: State, positions_PD: np.ndarray, blocks: list[dict[str, str]], *, last_norm: str, num_heads: int
) -> list[np.ndarray]:
    """Blocks that normalise before each part.

    `torch.nn.MultiheadAttention` has a product behind the heads, which SASRec has not. Attention weights
    sum to one, so that it can be multiplied into the values, head by head, where it does not mix them:

        (A (x V + b)) W + c = A (x V W + b W + c).

    Args:
      state: of the model.
      positions_PD: float [P, d], the row of the newest item last.
      blocks: for each block the names of its parts: `attention_norm`, `attention`, `feed_forward_norm`,
        `hidden`, `output`.
      last_norm: name of the last normalisation.
      num_heads: of each block.

    Returns:
      The positions, then each block's values, then those of the last normalisation.

    Raises:
      ValueError: a product behind the heads mixes them.
    """
    values = [positions_PD]
    for names in blocks:
        values += _norm(state, names["attention_norm"])
        values += _attention(state, names["attention"], num_heads)
        values += _norm(state, names["feed_forward_norm"])
        values += [*_linear(state, names["hidden"]), *_linear(state, names["output"])]
    return [*values, *_norm(state, last_norm)]


def our_vectors(
    tower: str,
    weights: Sequence[np.ndarray],
    items: np.ndarray,
    history_BL: np.ndarray,
    *,
    num_heads: int = 1,
) -> np.ndarray:
    """User vectors of our tower under given weights.

    Args:
      tower: `gru4rec` or `sasrec`.
      weights: of the tower's variables, in their order.
      items: float32 [V + 1, d], the item vectors; row 0 is padding.
      history_BL: int [B, L], oldest first, padded with 0 on the right.
      num_heads: of SASRec's blocks.

    Returns:
      float32 [B, d].
    """
    width = items.shape[1]
    layer = (
        GRU4RecTower(width)
        if tower == "gru4rec"
        else SASRecTower(width, max_history=len(weights[0]), num_heads=num_heads)
    )
    layer.build(None)
    for variable, value in zip(layer.variables, weights, strict=True):
        variable.assign(value)
    return layer(tf.constant(items[history_BL]), tf.constant(history_BL != 0)).numpy()


def _attention(state: State, name: str, num_heads: int) -> list[np.ndarray]:
    """Kernels and biases of query, key and value."""
    query, key, value = (part.T for part in np.split(state[f"{name}.in_proj_weight"], 3))
    query_bias, key_bias, value_bias = np.split(state[f"{name}.in_proj_bias"], 3)
    behind = state[f"{name}.out_proj.weight"].T
    size = len(behind) // num_heads
    heads = np.arange(len(behind)) // size
    if np.any(behind[heads[:, np.newaxis] != heads]):
        raise ValueError(f"{name}.out_proj mixes the {num_heads} heads: wanted a block for each of them.")
    value_bias = value_bias @ behind + state[f"{name}.out_proj.bias"]
    return [query, query_bias, key, key_bias, value @ behind, value_bias]


def _linear(state: State, name: str) -> list[np.ndarray]:
    """Kernel and bias of a linear layer, or of a convolution of width one, which is the same."""
    weight = state[f"{name}.weight"]
    return [weight.reshape(weight.shape[:2]).T, state[f"{name}.bias"]]


def _norm(state: State, name: str) -> list[np.ndarray]:
    return [state[f"{name}.weight"], state[f"{name}.bias"]]


def _gates(stacked: np.ndarray) -> np.ndarray:
    reset, update, candidate = np.split(stacked, 3)
    return np.concatenate([update, reset, candidate])

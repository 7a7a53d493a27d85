"""Other implementations of GRU4Rec and SASRec, in PyTorch, with weights of any size and what they answer.

Shapes: B examples, L history positions, P = max_history positions that have a vector, d vector size.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import peer_weights, recbole_models

EPSILON = 1e-8  # of SASRec's normalisation, in the published code
NUM_BLOCKS = 2


class Answer(NamedTuple):
    """What a peer answers.

    Attributes:
      tower: `gru4rec` or `sasrec`.
      num_heads: of SASRec's blocks.
      weights: for the variables of our tower, in their order.
      user_BD: float32 [B, d], the peer's user vectors.
    """

    tower: str
    num_heads: int
    weights: list[np.ndarray]
    user_BD: np.ndarray


class Inputs(NamedTuple):
    """What all implementations are given.

    Attributes:
      items: float32 [V + 1, d], the item vectors; row 0 is padding.
      history_BL: int32 [B, L], oldest first, padded with 0 on the right, none empty.
      positions_PD: float32 [P, d], SASRec's positions, that of the newest item last.
    """

    items: np.ndarray
    history_BL: np.ndarray
    positions_PD: np.ndarray


def recbole_gru4rec(inputs: Inputs, random: np.random.Generator) -> Answer:
    """RecBole's GRU4Rec, whose GRU has no biases."""
    model = recbole_models.gru4rec(len(inputs.items) - 1, inputs.items.shape[1])
    state = _draw(model, random)
    model.item_embedding.weight.data = torch.tensor(inputs.items)
    with torch.no_grad():
        user_BD = recbole_models.encode(model.eval(), inputs.history_BL).numpy()
    return Answer("gru4rec", 1, peer_weights.gru4rec(state, gru="gru_layers", dense="dense"), user_BD)


def torch_gru(inputs: Inputs, random: np.random.Generator) -> Answer:
    """PyTorch's GRU with both its biases, on packed sequences, and a linear layer."""
    width = inputs.items.shape[1]
    layers = {"gru": torch.nn.GRU(width, width, batch_first=True), "dense": torch.nn.Linear(width, width)}
    model = torch.nn.ModuleDict(layers)
    state = _draw(model, random)
    lengths = torch.tensor((inputs.history_BL != 0).sum(axis=1))
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(inputs.items[inputs.history_BL]), lengths, batch_first=True, enforce_sorted=False
    )
    with torch.no_grad():
        user_BD = model["dense"](model["gru"](packed)[1][0]).numpy()
    return Answer("gru4rec", 1, peer_weights.gru4rec(state, gru="gru", dense="dense"), user_BD)


def torch_encoder(inputs: Inputs, random: np.random.Generator, *, num_heads: int) -> Answer:
    """PyTorch's own Transformer encoder that normalises first, under a causal and a padding mask."""
    width, (batch, length) = inputs.items.shape[1], inputs.history_BL.shape
    block = torch.nn.TransformerEncoderLayer(
        width, num_heads, width, 0.0, "relu", EPSILON, batch_first=True, norm_first=True
    )
    model = torch.nn.TransformerEncoder(
        block, NUM_BLOCKS, torch.nn.LayerNorm(width, EPSILON), enable_nested_tensor=False
    )
    state = _draw(model, random, num_heads)
    is_padding = inputs.history_BL == 0
    lengths = length - is_padding.sum(axis=1)
    rows = np.arange(length) + len(inputs.positions_PD) - lengths[:, np.newaxis]
    sequence = (
        width**0.5 * inputs.items[inputs.history_BL] + inputs.positions_PD[np.where(is_padding, 0, rows)]
    )
    future = torch.ones([length, length], dtype=torch.bool).triu(1)
    with torch.no_grad():
        encoded = model.eval()(
            torch.tensor(sequence, dtype=torch.float32), future, torch.tensor(is_padding)
        ).numpy()
    blocks = [
        {
            "attention_norm": f"layers.{number}.norm1",
            "attention": f"layers.{number}.self_attn",
            "feed_forward_norm": f"layers.{number}.norm2",
            "hidden": f"layers.{number}.linear1",
            "output": f"layers.{number}.linear2",
        }
        for number in range(NUM_BLOCKS)
    ]
    weights = peer_weights.sasrec(state, inputs.positions_PD, blocks, last_norm="norm", num_heads=num_heads)
    return Answer("sasrec", num_heads, weights, encoded[np.arange(batch), lengths - 1])


def port(inputs: Inputs, random: np.random.Generator, source: Path, *, num_heads: int) -> Answer:
    """SASRec of pmixer/SASRec.pytorch, with its `norm_first`.

    It counts positions from the start of its input and lets items attend to padding. So it is given the
    histories without padding, those of one length at a time, with the positions moved so that the newest
    item has the last.

    Args:
      inputs: what is encoded.
      random: draws the weights.
      source: its file python/model.py.
      num_heads: of each block.
    """
    (num_rows, width), max_history = inputs.items.shape, len(inputs.positions_PD)
    arguments = SimpleNamespace(
        device="cpu",
        norm_first=True,
        hidden_units=width,
        maxlen=max_history,
        dropout_rate=0.0,
        num_blocks=NUM_BLOCKS,
        num_heads=num_heads,
    )
    model = _module(source).SASRec(1, num_rows - 1, arguments).eval()
    state = _draw(model, random, num_heads)
    model.item_emb.weight.data = torch.tensor(inputs.items)
    lengths = (inputs.history_BL != 0).sum(axis=1)
    user_BD = np.empty([len(lengths), width], np.float32)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        # Its row 0 is for padding.
        model.pos_emb.weight.data[1 : length + 1] = torch.tensor(inputs.positions_PD[max_history - length :])
        with torch.no_grad():
            encoded = model.log2feats(inputs.history_BL[rows, :length].astype(np.int64))
        user_BD[rows] = encoded[:, -1].numpy()
    blocks = [
        {
            "attention_norm": f"attention_layernorms.{number}",
            "attention": f"attention_layers.{number}",
            "feed_forward_norm": f"forward_layernorms.{number}",
            "hidden": f"forward_layers.{number}.conv1",
            "output": f"forward_layers.{number}.conv2",
        }
        for number in range(NUM_BLOCKS)
    ]
    weights = peer_weights.sasrec(
        state, inputs.positions_PD, blocks, last_norm="last_layernorm", num_heads=num_heads
    )
    return Answer("sasrec", num_heads, weights, user_BD)


def _draw(model: torch.nn.Module, random: np.random.Generator, num_heads: int = 1) -> dict[str, np.ndarray]:
    """Draws every weight anew, biases and normalisation too; answers with the state dict as arrays.

    What stands behind the heads does not mix them.
    """
    state = {}
    for name, value in model.state_dict().items():
        array = random.normal(scale=value.shape[-1] ** -0.5, size=value.shape).astype(np.float32)
        if value.ndim == 1:
            array = random.normal(scale=0.3, size=value.shape).astype(np.float32)
            array += "norm" in name and name.endswith("weight")
        if name.endswith("out_proj.weight"):
            array *= np.kron(np.eye(num_heads), np.ones([len(array) // num_heads] * 2)).astype(np.float32)
        if name.endswith(("conv1.weight", "conv2.weight")):
            array *= np.float32(value.shape[1] ** -0.5)
        state[name] = array
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    return state


def _module(source: Path):
    """The module of a file that is in no package."""
    specification = importlib.util.spec_from_file_location("sasrec_port", source)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module

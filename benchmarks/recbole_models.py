"""RecBole's GRU4Rec and SASRec, made without RecBole's configuration files and data sets.

Needs `pip install torch` and what docs/parity.md lists; nothing else here imports them.
"""

from typing import Any, NamedTuple

import torch
from recbole.model.sequential_recommender.gru4rec import GRU4Rec
from recbole.model.sequential_recommender.sasrec import SASRec

# Names of columns, which a model asks for when it is made and `forward` never uses.
_COLUMNS = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "LIST_SUFFIX": "_list",
    "NEG_PREFIX": "negative_",
}


class _Catalogue(NamedTuple):
    """What a model asks a RecBole data set for."""

    num_items: int

    def num(self, _column: str) -> int:
        """The number of items with padding, which is item 0 here as there."""
        return self.num_items + 1


def gru4rec(num_items: int, width: int, *, dropout: float = 0.0) -> GRU4Rec:
    """RecBole's GRU4Rec: one GRU layer without biases, then a linear layer.

    Args:
      num_items: V, without padding.
      width: d, of items, state and user vectors.
      dropout: of the items' vectors; RecBole's default is .3.
    """
    config = {"embedding_size": width, "hidden_size": width, "num_layers": 1, "dropout_prob": dropout}
    return GRU4Rec(_config(config), _Catalogue(num_items))


def sasrec(
    num_items: int,
    width: int,
    *,
    max_history: int,
    num_heads: int = 1,
    inner_width: int | None = None,
    dropout: float = 0.0,
) -> SASRec:
    """RecBole's SASRec, which is BERT's encoder with a causal mask.

    It normalises after each part and the input, has GELU in the feed-forward part, a product behind the
    heads, positions counted from the oldest item and no factor sqrt(d).

    Args:
      num_items: V, without padding.
      width: d.
      max_history: how many positions have a vector.
      num_heads: of each of the two blocks; RecBole's default is 2.
      inner_width: of the feed-forward part; None for d. RecBole's default is 256.
      dropout: everywhere; RecBole's default is .5.
    """
    config = {
        "n_layers": 2,
        "n_heads": num_heads,
        "hidden_size": width,
        "inner_size": inner_width or width,
        "hidden_dropout_prob": dropout,
        "attn_dropout_prob": dropout,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "MAX_ITEM_LIST_LENGTH": max_history,
    }
    return SASRec(_config(config), _Catalogue(num_items))


def encode(model: GRU4Rec | SASRec, history_BL) -> torch.Tensor:
    """User vectors, by the model's own `forward`.

    Args:
      model: one of the two.
      history_BL: int [B, L] array, oldest first, padded with 0 on the right, none empty: RecBole's
        convention as well as ours.

    Returns:
      float [B, d].
    """
    history_BL = torch.tensor(history_BL, dtype=torch.long)
    return model(history_BL, (history_BL != 0).sum(dim=1))


def _config(settings: dict[str, Any]) -> dict[str, Any]:
    return {"loss_type": "CE", "device": "cpu", "MAX_ITEM_LIST_LENGTH": None} | _COLUMNS | settings

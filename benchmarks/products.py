"""The matrix products of a training step, by formula.

A product of [m, k] and [k, n] costs 2 m k n floating-point operations. Counted is what a step computes by
matrix products, forwards and backwards, with B examples, S negatives, width d, L history positions and
E = 1 + M + N encoded histories an example (E = 1 for the base model and the peers):

    softmax    forward [B, d] [d, S]; backward [B, S] [S, d] and [d, B] [B, S]            6 B S d
    MLP        of each layer i -> o, over E B rows: forward, and the gradients of its
               input and of its weights                                     6 E B sum(i o)
    pooling    (ours) weights [E, L] by concepts [L, d], and the concepts' gradient       4 E B L d

Not counted, because no multiplier would be busy: exponentials, gathering and scattering of rows, sorting,
and the optimiser. A peer with in-batch softmax has S = B.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

MLP_HIDDEN_UNITS = (256, 256)  # of the mean-pooling tower


@dataclass(frozen=True)
class Product:
    """Matrix products of one shape within a step.

    Attributes:
      what: it computes.
      m: rows of the left matrix, once transposed as it has to be.
      k: columns of the left, rows of the right.
      n: columns of the right.
      transpose_a: the left matrix lies in memory as [k, m].
      transpose_b: the right matrix lies in memory as [n, k].
    """

    what: str
    m: int
    k: int
    n: int
    transpose_a: bool = False
    transpose_b: bool = False

    @property
    def operations(self) -> int:
        """Floating-point operations."""
        return 2 * self.m * self.k * self.n


def softmax(batch_size: int, num_candidates: int, width: int) -> list[Product]:
    """The products of a softmax over candidates that the batch shares."""
    b, s, d = batch_size, num_candidates, width
    return [
        Product("softmax: logits", b, d, s, transpose_b=True),
        Product("softmax: gradient of users", b, s, d),
        Product("softmax: gradient of candidates", d, b, s, transpose_a=True),
    ]


def mlp(rows: int, widths: Sequence[int]) -> list[Product]:
    """The products of dense layers.

    Args:
      rows: vectors that pass.
      widths: of the input, of each layer.
    """
    products = []
    for number, (i, o) in enumerate(itertools.pairwise(widths)):
        products += [
            Product(f"MLP {number}: forward", rows, i, o),
            Product(f"MLP {number}: gradient of the input", rows, o, i, transpose_b=True),
            Product(f"MLP {number}: gradient of the weights", i, rows, o, transpose_a=True),
        ]
    return products


def mean_tower_step(*, batch_size: int, num_candidates: int, width: int, encoded: int = 1) -> list[Product]:
    """The products of a step of the mean-pooling tower, those of pooling left out.

    Args:
      batch_size: B.
      num_candidates: S, or B for an in-batch softmax.
      width: d.
      encoded: E, histories encoded an example.
    """
    return [
        *softmax(batch_size, num_candidates, width),
        *mlp(encoded * batch_size, [width, *MLP_HIDDEN_UNITS, width]),
    ]


def pooling_operations(*, batch_size: int, max_history: int, width: int, encoded: int = 1) -> int:
    """Operations of pooling: many small products, so that they have no shape worth timing alone."""
    return 4 * encoded * batch_size * max_history * width

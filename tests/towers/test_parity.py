"""Our towers beside other implementations' answers, kept in files because those need what is not here.

benchmarks/parity.py and benchmarks/parity_comirec.py make them by --fixture; docs/parity.md has the commands
and says what the others are.
"""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import comirec_weights, peer_weights

FIXTURE = Path(__file__).with_name("parity.npz")
COMIREC_FIXTURE = Path(__file__).with_name("parity_comirec.npz")
CASES = (
    *("gru4rec_recbole", "gru4rec_torch"),
    *("sasrec_torch", "sasrec_torch_two_heads", "sasrec_port", "sasrec_port_two_heads"),
)


@pytest.fixture(scope="module")
def stored():
    with np.load(FIXTURE, allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("case", CASES)
def test_same_weights_give_the_vectors_that_others_give(stored, case):
    weights = [stored[name] for name in sorted(stored) if name.startswith(f"{case}/weight_")]
    wanted = stored[f"{case}/vectors"]
    history = stored["history"]
    assert set((history != 0).sum(axis=1)) == set(range(1, history.shape[1] + 1))
    # Longer padding than the towers have positions for, too.
    for padding in (0, 4):
        vectors = peer_weights.our_vectors(
            case.partition("_")[0],
            weights,
            stored["items"],
            np.pad(history, [(0, 0), (0, padding)]),
            num_heads=int(stored[f"{case}/num_heads"]),
        )
        np.testing.assert_allclose(vectors, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("case", ["comirec_sa", "comirec_dr", "mind"])
def test_same_weights_give_the_interests_readouts_and_gradients_of_the_authors_code(case, padding):
    """Also where the padding is longer than the positions that the towers have."""
    with np.load(COMIREC_FIXTURE, allow_pickle=False) as file:
        stored = dict(file)

    def numbered(kind):
        return [stored[name] for name in sorted(stored) if name.startswith(f"{case}/{kind}_")]

    history = np.pad(stored["history"], [(0, 0), (0, padding)])
    assert set((history != 0).sum(axis=1)) == set(range(1, history.shape[1] - padding + 1))
    answer = comirec_weights.our_answer(
        case,
        numbered("weight"),
        stored["items"],
        history,
        stored["targets"],
        num_interests=stored[f"{case}/interests"].shape[1],
    )
    np.testing.assert_allclose(answer.interests_BKD, stored[f"{case}/interests"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(answer.readout_BD, stored[f"{case}/readout"], rtol=0, atol=1e-5)
    # No gradient passes the choice of the interest, nor the logits of the routing.
    for got, wanted in zip(answer.gradients, numbered("gradient"), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


def test_every_case_of_the_file_is_compared(stored):
    assert {name.partition("/")[0] for name in stored if name.endswith("/vectors")} == set(CASES)


def test_a_product_that_mixes_heads_is_refused():
    norms = [f"{name}.{kind}" for name in ("norm", "last") for kind in ("weight", "bias")]
    state = {
        "attention.in_proj_weight": np.ones([12, 4], np.float32),
        "attention.in_proj_bias": np.ones(12, np.float32),
        "attention.out_proj.weight": np.ones([4, 4], np.float32),
        "attention.out_proj.bias": np.ones(4, np.float32),
        **{name: np.ones(4, np.float32) for name in norms},
    }
    block = {"attention_norm": "norm", "attention": "attention"}
    with pytest.raises(ValueError, match="mixes the 2 heads"):
        peer_weights.sasrec(state, np.ones([3, 4]), [block], last_norm="last", num_heads=2)

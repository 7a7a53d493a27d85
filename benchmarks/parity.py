"""Our GRU4Rec and SASRec beside other implementations under the same weights: the largest differences.

python benchmarks/parity.py
python benchmarks/parity.py --port=../SASRec.pytorch/python/model.py --fixture=tests/towers/parity.npz

docs/parity.md says how the peers are installed, and what is compared. --fixture also writes a small case of
each, against which tests/towers/test_parity.py holds our towers where there is no PyTorch.
"""

import datetime
import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks import peer_packages  # noqa: E402
from causerec_tf.errors import InputError  # noqa: E402
from causerec_tf.files import write_arrays  # noqa: E402
from pipelines.command_line import command  # noqa: E402

FLAGS = flags.FLAGS

TOLERANCE = 1e-5
FULL = {"num_items": 1000, "width": 64, "max_history": 20, "each_length": 50}
SMALL = {"num_items": 30, "width": 8, "max_history": 7, "each_length": 3}

flags.DEFINE_string("port", None, "python/model.py of pmixer/SASRec.pytorch. None: leave that peer out.")
flags.DEFINE_string("fixture", None, "Where to write the small cases, an .npz. None: nowhere.")
flags.DEFINE_integer("seed", 0, "Of weights, items and histories.", lower_bound=0)
flags.DEFINE_string("output", None, "Directory of the result. None: benchmarks/results.")


def main() -> None:
    """Compares, prints, stores; fails where a difference is beyond the tolerance."""
    if FLAGS.port and not Path(FLAGS.port).is_file():
        raise InputError(f"--port={FLAGS.port}: there is no such file; wanted pmixer's python/model.py.")
    peer_versions = peer_packages.versions()
    # TensorFlow and PyTorch take seconds to import: a wrong flag should not wait for them.
    import tensorflow as tf

    cases = {name: _compare(peer, FULL) for name, peer in _peers().items()}
    directory = Path(FLAGS.output) if FLAGS.output else ROOT / "benchmarks" / "results"
    directory.mkdir(parents=True, exist_ok=True)
    result = {
        "benchmark": "parity",
        "ratios": {f"{name}_over_tolerance": case["largest"] / TOLERANCE for name, case in cases.items()},
        "tolerance": TOLERANCE,
        "cases": cases,
        "sizes": FULL | {"histories": FULL["max_history"] * FULL["each_length"]},
        "seed": FLAGS.seed,
        "versions": peer_versions | {"tensorflow": tf.__version__},
        "command": shlex.join(["python", "benchmarks/parity.py", *sys.argv[1:]]),
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    path = directory / "parity.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for name, case in cases.items():
        print(f"{name:36} largest difference {case['largest']:.2e}, of vectors up to {case['magnitude']:.3g}")
    print(f"stored {path}")
    if FLAGS.fixture:
        _write_fixture(Path(FLAGS.fixture))
    apart = [name for name, case in cases.items() if not case["largest"] <= TOLERANCE]
    if apart:
        raise RuntimeError(f"more than {TOLERANCE} apart: {', '.join(apart)}.")


def _peers() -> dict[str, Any]:
    """Name -> function of the inputs and a generator of random numbers."""
    from benchmarks import parity_peers

    peers: dict[str, Any] = {
        "gru4rec_recbole": parity_peers.recbole_gru4rec,
        "gru4rec_torch": parity_peers.torch_gru,
        "sasrec_torch": partial(parity_peers.torch_encoder, num_heads=1),
        "sasrec_torch_two_heads": partial(parity_peers.torch_encoder, num_heads=2),
    }
    if FLAGS.port:
        port = partial(parity_peers.port, source=Path(FLAGS.port))
        peers["sasrec_port"] = partial(port, num_heads=1)
        peers["sasrec_port_two_heads"] = partial(port, num_heads=2)
    return peers


def _inputs(sizes: dict[str, int]):
    """Random item vectors and positions, and random histories of every length, shuffled."""
    from benchmarks.parity_peers import Inputs

    random = np.random.default_rng([FLAGS.seed, 0])
    width, length = sizes["width"], sizes["max_history"]
    items = random.normal(scale=width**-0.5, size=[sizes["num_items"] + 1, width]).astype(np.float32)
    items[0] = 0.0
    lengths = random.permutation(np.repeat(np.arange(1, length + 1), sizes["each_length"]))
    history_BL = random.integers(1, sizes["num_items"] + 1, [len(lengths), length], dtype=np.int32)
    history_BL *= np.arange(length) < lengths[:, np.newaxis]
    positions = random.normal(scale=0.3, size=[length, width]).astype(np.float32)
    return Inputs(items, history_BL, positions)


def _compare(peer, sizes: dict[str, int]) -> dict[str, float]:
    from benchmarks import peer_weights

    inputs = _inputs(sizes)
    answer = peer(inputs, np.random.default_rng([FLAGS.seed, 1]))
    ours_BD = peer_weights.our_vectors(
        answer.tower, answer.weights, inputs.items, inputs.history_BL, num_heads=answer.num_heads
    )
    return {
        "largest": float(np.max(np.abs(ours_BD - answer.user_BD))),
        "magnitude": float(np.max(np.abs(answer.user_BD))),
    }


def _write_fixture(path: Path) -> None:
    """Writes inputs, weights and the peers' answers at the small sizes."""
    inputs = _inputs(SMALL)
    arrays = {"items": inputs.items, "history": inputs.history_BL}
    for name, peer in _peers().items():
        answer = peer(inputs, np.random.default_rng([FLAGS.seed, 1]))
        arrays[f"{name}/vectors"] = answer.user_BD
        arrays[f"{name}/num_heads"] = np.array(answer.num_heads)
        arrays |= {f"{name}/weight_{number:02}": value for number, value in enumerate(answer.weights)}
    write_arrays(path, arrays)
    print(f"wrote {path}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

"""Our ComiRec-SA, ComiRec-DR and MIND beside their authors' code under the same weights.

git clone https://github.com/THUDM/ComiRec ../ComiRec
python benchmarks/parity_comirec.py --source=../ComiRec/src/model.py --fixture=tests/towers/parity_comirec.npz

That code is for TensorFlow 1. It runs in a graph of the installed TensorFlow, as it is: what it imports and
does not use is put in its way. docs/parity.md says what is compared and lists what differs. --fixture also
writes a small case of each, against which tests/towers/test_parity.py holds our towers.
"""

import datetime
import importlib.util
import json
import shlex
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from causerec_tf.errors import InputError  # noqa: E402
from causerec_tf.files import write_arrays  # noqa: E402
from pipelines.command_line import command  # noqa: E402

FLAGS = flags.FLAGS

TOLERANCE = 1e-5
# Names of our towers and of the authors' classes.
MODELS = {"comirec_sa": "Model_ComiRec_SA", "comirec_dr": "Model_ComiRec_DR", "mind": "Model_MIND"}
FULL = {"num_items": 1000, "width": 64, "max_history": 20, "num_interests": 4, "each_length": 50}
SMALL = {"num_items": 30, "width": 8, "max_history": 7, "num_interests": 3, "each_length": 3}

flags.DEFINE_string("source", None, "src/model.py of THUDM/ComiRec.", required=True)
flags.DEFINE_string("fixture", None, "Where to write the small cases, an .npz. None: nowhere.")
flags.DEFINE_integer("seed", 0, "Of weights, items and histories.", lower_bound=0)
flags.DEFINE_string("output", None, "Directory of the result. None: benchmarks/results.")


def main() -> None:
    """Compares, prints, stores; fails where a difference is beyond the tolerance."""
    if not Path(FLAGS.source).is_file():
        raise InputError(f"--source={FLAGS.source}: there is no such file; wanted ComiRec's src/model.py.")
    import tensorflow as tf

    cases = {name: _compare(name) for name in MODELS}
    directory = Path(FLAGS.output) if FLAGS.output else ROOT / "benchmarks" / "results"
    directory.mkdir(parents=True, exist_ok=True)
    result = {
        "benchmark": "parity_comirec",
        "ratios": {
            f"{name}_over_tolerance": max(case["largest"].values()) / TOLERANCE
            for name, case in cases.items()
        },
        "tolerance": TOLERANCE,
        "cases": cases,
        "sizes": FULL | {"histories": FULL["max_history"] * FULL["each_length"]},
        "seed": FLAGS.seed,
        "versions": {"tensorflow": tf.__version__},
        "command": shlex.join(["python", "benchmarks/parity_comirec.py", *sys.argv[1:]]),
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    path = directory / "parity_comirec.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for name, case in cases.items():
        for part, largest in case["largest"].items():
            print(f"{name:12} {part:10} largest difference {largest:.2e}, of {case['magnitude'][part]:.3g}")
    print(f"stored {path}")
    if FLAGS.fixture:
        _write_fixture(Path(FLAGS.fixture))
    apart = [name for name, case in cases.items() if not max(case["largest"].values()) <= TOLERANCE]
    if apart:
        raise RuntimeError(f"more than {TOLERANCE} apart: {', '.join(apart)}.")


def _compare(name: str) -> dict[str, dict[str, float]]:
    """The largest difference of interests, readouts and gradients; of these relative to the largest one."""
    from benchmarks import comirec_weights

    given = _inputs(FULL)
    weights, theirs = _their_answer(name, *given, num_interests=FULL["num_interests"])
    ours = comirec_weights.our_answer(name, weights, *given, num_interests=FULL["num_interests"])
    largest, magnitude = {}, {}
    for part in ("interests_BKD", "readout_BD"):
        label = part.partition("_")[0]
        largest[label] = float(np.max(np.abs(getattr(ours, part) - getattr(theirs, part))))
        magnitude[label] = float(np.max(np.abs(getattr(theirs, part))))
    sizes = [float(np.max(np.abs(one))) for one in theirs.gradients]
    largest["gradients"] = max(
        float(np.max(np.abs(our - their))) / size
        for our, their, size in zip(ours.gradients, theirs.gradients, sizes, strict=True)
        if size > 0
    )
    magnitude["gradients"] = 1.0
    return {"largest": largest, "magnitude": magnitude}


def _inputs(sizes: dict[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random item vectors, random histories of every length, shuffled, and random targets."""
    random = np.random.default_rng([FLAGS.seed, 0])
    width, length = sizes["width"], sizes["max_history"]
    items = random.normal(scale=width**-0.5, size=[sizes["num_items"] + 1, width]).astype(np.float32)
    items[0] = 0.0
    lengths = random.permutation(np.repeat(np.arange(1, length + 1), sizes["each_length"]))
    history_BL = random.integers(1, sizes["num_items"] + 1, [len(lengths), length], dtype=np.int32)
    history_BL *= np.arange(length) < lengths[:, np.newaxis]
    return items, history_BL, random.integers(1, sizes["num_items"] + 1, len(lengths), dtype=np.int32)


def _their_answer(name: str, items, history_BL, target_B, *, num_interests: int):
    """Random weights in the layout of our tower, and what the authors' model answers under them."""
    import tensorflow as tf

    from benchmarks.comirec_weights import Answer, in_our_layout

    random = np.random.default_rng([FLAGS.seed, 1])
    (batch, length), width = history_BL.shape, items.shape[1]
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        model_class = getattr(_their_code(), MODELS[name])
        model = model_class(len(items), width, width, batch, num_interests, seq_len=length)
        table, *variables = v1.trainable_variables()
        values = [
            random.normal(scale=2 * width**-0.5, size=one.shape).astype(np.float32) for one in variables
        ]
        session.run(v1.global_variables_initializer())
        for variable, value in zip([table, *variables], [items, *values], strict=True):
            variable.load(value, session)
        fed = {
            model.mid_his_batch_ph: history_BL,
            model.mask: (history_BL != 0).astype(np.float32),
            model.mid_batch_ph: target_B,
        }
        weights = in_our_layout(values)
        if name == "mind":
            # Drawn anew in each run of the graph: it is given ours, the same for every history.
            (drawn,) = (one for one in graph.get_operations() if one.type == "TruncatedNormal")
            logits_LK = random.normal(size=[length, num_interests]).astype(np.float32)
            fed[drawn.outputs[0]] = np.repeat(logits_LK.T[np.newaxis], batch, axis=0)
            weights.append(logits_LK)
        total = tf.reduce_sum(tf.sin(model.readout_BD))
        gradients = [tf.convert_to_tensor(one) for one in tf.gradients(total, [table, *variables])]
        asked = [model.user_eb, model.readout_BD, *gradients]
        interests_BKD, readout_BD, of_items, *of_weights = session.run(asked, fed)
    return weights, Answer(interests_BKD, readout_BD, [of_items, *in_our_layout(of_weights)])


def _their_code() -> types.ModuleType:
    """The authors' file under today's TensorFlow; its loss, which draws negatives, hands over its input."""
    import tensorflow as tf

    v1, contrib, cells = tf.compat.v1, types.ModuleType("contrib"), types.ModuleType("rnn_cell")
    contrib.slim = types.ModuleType("slim")
    cells.GRUCell = None  # of a model that is not made here
    in_the_way = {
        "tensorflow": v1,
        "tensorflow.contrib": contrib,
        "tensorflow.contrib.slim": contrib.slim,
        "tensorflow.nn": v1.nn,
        "tensorflow.nn.rnn_cell": cells,
    }
    spec = importlib.util.spec_from_file_location("comirec_model", FLAGS.source)
    code = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, in_the_way), mock.patch.object(v1, "contrib", contrib, create=True):
        spec.loader.exec_module(code)

    def keep_readout(model, item_emb, user_emb):
        model.readout_BD = user_emb

    code.Model.build_sampled_softmax_loss = keep_readout
    return code


def _write_fixture(path: Path) -> None:
    """Writes inputs, weights and the authors' answers at the small sizes."""
    given = _inputs(SMALL)
    arrays = dict(zip(("items", "history", "targets"), given, strict=True))
    for name in MODELS:
        weights, answer = _their_answer(name, *given, num_interests=SMALL["num_interests"])
        arrays[f"{name}/interests"], arrays[f"{name}/readout"] = answer.interests_BKD, answer.readout_BD
        for kind, values in (("weight", weights), ("gradient", answer.gradients)):
            arrays |= {f"{name}/{kind}_{number}": value for number, value in enumerate(values)}
    write_arrays(path, arrays)
    print(f"wrote {path}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

"""From a generated log to recommendations, by the commands of the README.

    python pipelines/quickstart.py

Every command is printed before it runs. It can be run again: the same log gives the same dataset, a finished
run is not trained again (an unfinished one resumes), and a published model stays as it is.
"""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from causerec_tf.errors import InputError
from causerec_tf.files import write_text
from pipelines.command_line import command

_ROOT = Path(__file__).resolve().parents[1]

# As the README has them: from the root of the checkout, with relative paths.
_DATASET = Path("datasets/quickstart")
_RUN = Path("runs/quickstart")
_BUNDLE = Path("bundles/quickstart")
_SERVED = _RUN / "test_without_seen.json"
_HISTORIES = _RUN / "test_histories.jsonl"
_RECOMMENDATIONS = _RUN / "recommendations.jsonl"

_PREPARE = f"pipelines/prepare.py --output={_DATASET} --overwrite"
_TRAIN = "pipelines/train.py --flagfile=configs/quickstart.flags"
_EVALUATE = f"pipelines/evaluate.py --run={_RUN} --exclude_seen --output={_SERVED} --overwrite"
_EXPORT = f"export/bundle.py --run={_RUN} --bundle={_BUNDLE}"
_RETRIEVE = (
    f"pipelines/retrieve.py --bundle={_BUNDLE} --input={_HISTORIES} --output={_RECOMMENDATIONS} --overwrite"
    " --k=20 --show=5 --explain"
)

_SHOWN_METRICS = ("recall@20", "recall@50", "ndcg@50", "hr@50")


def main() -> None:
    """Runs the commands one after another, then says what came of them."""
    started = time.monotonic()
    print(f"`python` below is {sys.executable}, the directory {_ROOT}", flush=True)
    _run("1. a log -> a dataset (without --input: a generated log)", _PREPARE)
    _run("2. the dataset -> a trained model", _TRAIN)
    _run("3. figures as in service: without the items that a user has already seen", _EVALUATE)
    _run("4. the model -> a bundle: user tower and item index, ready to serve", _EXPORT)
    _write_histories()
    _run("5. histories of test users -> recommendations, from the bundle alone", _RETRIEVE)
    _print_summary(time.monotonic() - started)


def _run(title: str, script_and_flags: str) -> None:
    """Prints a command and runs it; ends this process as the command did if it failed."""
    print(f"\n{title}\n$ python {script_and_flags}", flush=True)
    done = subprocess.run([sys.executable, *shlex.split(script_and_flags)], cwd=_ROOT, check=False)
    if done.returncode:
        print(
            f"error: the command above ended with exit code {done.returncode}. If an older quickstart is"
            f" in the way, remove {_DATASET}, {_RUN} and {_BUNDLE}, and start again.",
            file=sys.stderr,
        )
        sys.exit(done.returncode if done.returncode > 0 else 1)


def _write_histories() -> None:
    """Writes what each test user did before the part that was to be predicted."""
    from causerec_tf.data.holdout import evaluation_users
    from causerec_tf.data.sequences import open_dataset

    dataset = open_dataset(_ROOT / _DATASET)
    ids = dataset.item_ids()
    users = evaluation_users(dataset.read("test"), max_history=1)
    rows = (
        {"user_id": user_id, "history": [ids[item - 1] for item in seen]}
        for user_id, seen in zip(users.user_ids, users.seen, strict=True)
    )
    write_text(_ROOT / _HISTORIES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _print_summary(seconds: float) -> None:
    from export.index.item_index import ItemIndex
    from export.store.layout import index_directory, read_tower, resolve_number, tower_directory

    kept = json.loads((_ROOT / _RUN / "metrics.json").read_text(encoding="utf-8"))
    served = json.loads((_ROOT / _SERVED).read_text(encoding="utf-8"))
    bundle = _ROOT / _BUNDLE
    tower = tower_directory(bundle, resolve_number(bundle, None))
    index = ItemIndex.load(index_directory(bundle, read_tower(tower)["version"])).description

    print(f"\nDone in {seconds:.0f} s. {kept['protocol']['test_users']:,} test users, whole catalogue:\n")
    print(f"{'':34}" + "".join(f"{name:>11}" for name in _SHOWN_METRICS))
    for record, policy in ((kept, "seen items kept"), (served, "seen items left out")):
        for name, figures in ((record["system"], record["test"]), ("pop", record["pop"])):
            values = "".join(f"{figures[metric]:11.4f}" for metric in _SHOWN_METRICS)
            print(f"{name:14}{policy:20}{values}")
    print(f"\nbundle           {_BUNDLE}, serving {tower.relative_to(_ROOT)}")
    print(
        f"index            {index['method']} search of {index['items']:,} items,"
        f" recall@{index['k']} {index['recall']:.4f} against exact search"
    )
    print(f"recommendations  five users above, all of them in {_RECOMMENDATIONS}")


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

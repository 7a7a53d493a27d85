"""A damaged bundle gives the right answer or is refused: a file of it is damaged at random, over and over.

Answers may be others only where nothing could tell: where the checksums were made again after the damage.
"""

import collections
import contextlib
import resource
import traceback

import numpy as np
import pytest

from tests.export import damage, toy
from tests.pipelines.forked import CONTEXT

NUM_ITEMS, DIMENSION, MAX_HISTORY = 40, 6, 4
IDS = toy.item_ids(NUM_ITEMS)
HISTORIES = [[IDS[3], IDS[7]], ["unknown"], [IDS[0], "unknown", IDS[9], IDS[9], IDS[11]], ["new"]]
MOST_BYTES = 2 << 30
CASES_OF_A_WORKER = 250  # TensorFlow keeps something of each graph that it loaded


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """An exact index, a tree of rounded vectors, and an index that was updated."""
    from export.index.index_options import IndexOptions
    from export.publishing.publication import Model
    from export.publishing.publish import publish
    from export.publishing.updates import Update, update_index

    table = toy.embeddings(NUM_ITEMS, DIMENSION)
    queries = np.random.default_rng(0).normal(size=(20, DIMENSION)).astype(np.float32)
    names = [f"Name of {item}" for item in IDS]
    model = Model(table, toy.MeanTower(DIMENSION), table[1:], IDS, MAX_HISTORY, names)
    place = tmp_path_factory.mktemp("bundles")
    kinds = {
        "exact": IndexOptions(method="exact"),
        "tree": IndexOptions(method="tree", memory="int8", target_recall=0.1, k=5),
        "updated": IndexOptions(method="exact"),
    }
    for name, options in kinds.items():
        publish(place / name, model, queries=queries, warm_up_histories=[[1, 2]], options=options)
    update = Update(upsert_ids=["new", IDS[5]], upsert_vectors=queries[:2], delete_ids=[IDS[4]])
    update_index(place / "updated", update, keep=1)
    return [place / name for name in kinds]


def answers(bundle):
    from export.retriever import Retriever

    retriever = Retriever.open(bundle)
    found = retriever.recommend(HISTORIES, 5)
    influences = retriever.explain(HISTORIES[2], 5)
    return found, influences, [retriever.name_of(item) for item in found[0].items]


def outcome(bundle, right):
    from export.store.bundle_errors import BundleError

    try:
        found = answers(bundle)
    except BundleError as error:
        causes = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        if any(isinstance(cause, MemoryError) for cause in causes):
            return f"no memory: {error}"
        return "refused"
    except BaseException:
        return traceback.format_exc()
    return "right" if found == right else "other"


def work(connection, bundles, place):
    """Answers seeds with what became of the bundle that they damage, until there are no more."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (2 * MOST_BYTES, hard))  # it shall fail, not the machine
    right = [answers(bundle) for bundle in bundles]
    with contextlib.suppress(EOFError):
        while True:
            seed = connection.recv()
            number = seed % len(bundles)
            kind, what = damage.damaged_copy(bundles[number], place / "b", seed)
            result = outcome(place / "b", right[number])
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if peak > MOST_BYTES:
                result = f"{result}, with {peak / 2**30:.1f} GB"
            connection.send((kind, what, result))


def outcomes(seeds, bundles, place):
    """Yields kind of bundle, what was done, and outcome; when a case ends the worker, another goes on."""
    seeds = list(seeds)
    while seeds:
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=work, args=(theirs, bundles, place), daemon=True)
        process.start()
        theirs.close()
        for seed in seeds[:CASES_OF_A_WORKER]:
            seeds.remove(seed)
            ours.send(seed)
            try:
                if not ours.poll(120):
                    process.kill()
                yield ours.recv()
            except EOFError:
                process.join()
                yield "any", f"seed {seed}", f"the process ended with {process.exitcode}"
                break
        ours.close()
        process.join()


def check(seeds, bundles, place):
    place.mkdir(exist_ok=True)
    counts, failures = collections.Counter(), []
    for kind, what, result in outcomes(seeds, bundles, place):
        counts[kind, result if len(result) < 10 else "failed"] += 1
        allowed = ("right", "refused") if kind == "signed" else ("right", "refused", "other")
        if result not in allowed:
            failures.append(f"{kind}, {what}: {result}")
    print(dict(sorted(counts.items())))
    assert not failures, "\n".join(failures[:20])
    return counts


def test_a_sample_of_damaged_bundles_answers_right_or_is_refused(bundles, tmp_path):
    counts = check(range(60), bundles, tmp_path / "w")
    assert counts["signed", "refused"] >= 15


@pytest.mark.long
def test_damaged_bundles_answer_right_or_are_refused(bundles, tmp_path):
    counts = check(range(1_000, 4_000), bundles, tmp_path / "w")
    assert sum(counts.values()) == 3_000

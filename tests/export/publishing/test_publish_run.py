"""`export.publish`: a trained run, or its directory, becomes a version that answers as the run does."""

import json

import numpy as np
import pytest

import export
from causerec_tf import runs
from causerec_tf.errors import InputError
from export.store.bundle_errors import BundleError
from export.store.published_card import read_model_card
from tests import trainings


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    dataset = trainings.prepare(place / "world", num_users=300, num_items=60)
    trainings.train(place / "run", dataset, epochs=1, similarity="cosine", max_history=5)
    return place / "run"


def test_the_bundle_answers_as_the_run_does(run, tmp_path):
    trained = runs.load_trained(run)
    made = export.publish(trained, tmp_path / "b", index_memory="bfloat16", target_recall=0.5)
    assert (made.action, made.number) == ("published", 1)
    assert (made.index["similarity"], made.index["memory"], made.index["target_recall"]) == (
        "cosine",
        "bfloat16",
        0.5,
    )
    # The directory stands for the run, and with other options it is another version.
    again = export.publish(str(run), str(tmp_path / "b"), keep=1, warm_up_requests=0)
    assert (again.action, again.number, again.removed_towers) == ("published", 2, [1])
    ids = trained.dataset.item_ids()
    history = np.array([[9, 3, 30, 7, 12]])
    scores = trained.model.item_vectors() @ trained.model.encode(history).numpy()[0]
    seen = set(history[0] - 1)
    wanted = [ids[row] for row in np.argsort(-scores) if row not in seen][:8]
    got = export.Retriever.open(tmp_path / "b").recommend([[ids[i - 1] for i in history[0]]], k=8)[0]
    assert got.items == wanted


def test_the_bundle_carries_the_card_of_the_run(run, tmp_path):
    record = {"seed": 0, "dataset": {"fingerprint": runs.load_trained(run).dataset.fingerprint}}
    record |= {"protocol": {"exclude_seen": True, "test_users": 3}, "test": {"recall@50": 0.25}}
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    export.publish(run, tmp_path / "b", evaluations=[tmp_path / "evaluation.json"])
    tower = tmp_path / "b" / "user_tower" / "1"
    card = read_model_card(tower)
    trained = runs.load_trained(run)
    assert card["dataset"]["fingerprint"] == trained.dataset.fingerprint
    assert card["settings"]["similarity"] == "cosine"
    assert card["figures"][-1]["model"] == {"recall@50": 0.25}
    # The histories of the validation users, as the tower reads them.
    sequences = trained.dataset.read("validation")
    lengths = np.diff(sequences.row_splits)
    cuts = np.maximum(1, 8 * lengths // 10)
    read = [
        sequences.items[start : start + cut][-5:].tolist()
        for start, cut, length in zip(sequences.row_splits, cuts, lengths, strict=False)
        if cut < length
    ]
    assert card["histories"]["histories"] == len(read)
    places = [0 if n == 0 else 1 + int(np.log2(n)) for n in map(len, read)]
    assert card["histories"]["lengths"] == pytest.approx(
        (np.bincount(places, minlength=10) / len(read)).tolist()
    )
    ranks = [item - 1 for one in read for item in one]
    num_items = trained.dataset.num_items
    head = sum(rank < np.ceil(0.1 * num_items) for rank in ranks) / len(ranks)
    assert sum(card["histories"]["popularity"][:5]) == pytest.approx(head)
    with pytest.raises(BundleError, match=r"none\.json cannot be read .*; wanted a record that"):
        export.publish(run, tmp_path / "b", evaluations=[tmp_path / "none.json"])


def test_a_dry_run_writes_nothing(run, tmp_path):
    made = export.publish(run, tmp_path / "b", dry_run=True)
    assert (made.action, made.number) == ("published", 1)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="file is a file; a bundle is a directory"):
        export.publish("nowhere", tmp_path / "file")
    with pytest.raises(BundleError, match="warm_up_requests is 334; wanted 0 to 333"):
        export.publish("nowhere", tmp_path / "b", warm_up_requests=334)
    with pytest.raises(InputError, match="nowhere"):
        export.publish("nowhere", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

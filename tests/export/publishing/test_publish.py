import dataclasses
import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from export.index.index_options import IndexOptions
from export.publishing import publish as publishing
from export.publishing.publication import Model
from export.publishing.publish import publish, roll_back
from export.publishing.updates import Update, update_index
from export.retriever import Retriever
from export.store.bundle_errors import BundleError
from export.store.housekeeping import locked
from export.store.published_card import read_model_card
from tests.export import toy

NUM_ITEMS, DIMENSION, MAX_HISTORY = 30, 6, 4
QUERIES = np.random.default_rng(0).normal(size=(20, DIMENSION)).astype(np.float32)


def model(seed=0):
    table = toy.embeddings(NUM_ITEMS, DIMENSION, seed)
    return Model(
        item_embeddings=table,
        user_tower=toy.MeanTower(DIMENSION, seed=seed),
        item_vectors=table[1:],
        item_ids=toy.item_ids(NUM_ITEMS),
        max_history=MAX_HISTORY,
    )


def put(bundle, seed=0, **arguments):
    return publish(bundle, model(seed), queries=QUERIES, warm_up_histories=[[1, 2]], **arguments)


@pytest.fixture(scope="module")
def published_twice(tmp_path_factory):
    """A bundle with the versions 1 and 2, to be copied; with its fingerprints."""
    bundle = tmp_path_factory.mktemp("published") / "b"
    return bundle, [put(bundle, seed).fingerprint for seed in (0, 1)]


@pytest.fixture
def two_versions(tmp_path, published_twice):
    """A bundle of one's own with the versions 1 and 2, and its fingerprints."""
    bundle, fingerprints = published_twice
    shutil.copytree(bundle, tmp_path / "b")
    return tmp_path / "b", fingerprints


def towers(bundle):
    return sorted(int(path.name) for path in (bundle / "user_tower").iterdir())


def indexes(bundle):
    return sorted(path.name for path in (bundle / "item_index").iterdir())


def test_published_twice_the_second_is_latest_and_the_first_still_loads(two_versions):
    bundle, (first, second) = two_versions
    assert towers(bundle) == [1, 2]
    assert indexes(bundle) == sorted({first, second})
    assert Retriever.open(bundle).version == second
    assert Retriever.open(bundle, version=1).version == first
    with pytest.raises(BundleError, match=r"has no version 3; it has \[1, 2\]"):
        Retriever.open(bundle, version=3)


def test_a_padded_number_is_no_version_and_nobody_waits_for_it(two_versions):
    bundle, (first, _) = two_versions
    (bundle / "user_tower" / "2").rename(bundle / "user_tower" / "0002")
    assert Retriever.open(bundle).version == first
    (bundle / "user_tower" / "1").rename(bundle / "user_tower" / "01")
    with pytest.raises(BundleError, match="holds no version"):
        Retriever.open(bundle)


def test_the_same_model_again_changes_nothing(two_versions):
    bundle, (_, second) = two_versions
    before = toy.files_of(bundle)
    again = put(bundle, 1)
    assert (again.action, again.number, again.fingerprint) == ("unchanged", 2, second)
    assert toy.files_of(bundle) == before


def test_the_fingerprint_covers_all_that_decides_an_answer():
    def fingerprint(**change):
        return publishing.fingerprint_of(Model(**(vars(base) | change)), IndexOptions())

    base = model()
    moved = base.item_embeddings.copy()
    moved[3, 2] += 1e-6
    changes = [
        {},
        {"item_embeddings": moved},
        {"item_vectors": moved[1:]},
        {"item_ids": [*base.item_ids[:-2], base.item_ids[-1], base.item_ids[-2]]},
        {"max_history": 5},
        {"user_tower": toy.MeanTower(DIMENSION, seed=9)},
        {"similarity": "cosine"},
        {"item_names": ["a name"] * NUM_ITEMS},
        {"item_names": [*["a name"] * (NUM_ITEMS - 1), "another"]},
    ]
    assert len({fingerprint(**change) for change in changes}) == len(changes)
    # Part of every fingerprint: with another text, each published model would be a new one.
    options = "IndexOptions(target_recall=0.99, k=50, method='auto', memory='full')"
    assert str(IndexOptions()) == options


def test_names_that_are_added_or_corrected_later_are_published(two_versions):
    bundle, (_, unnamed) = two_versions
    wrong = [f"name of {item}" for item in toy.item_ids(NUM_ITEMS)]
    right = ["Lindgren, É.", *wrong[1:]]

    def put_named(names):
        named = dataclasses.replace(model(1), item_names=names)
        return publish(bundle, named, queries=QUERIES, warm_up_histories=[[1, 2]], keep=9)

    assert put_named(wrong).action == "published"
    assert Retriever.open(bundle).name_of("é") == "name of é"
    corrected = put_named(right)
    assert (corrected.action, corrected.number, corrected.index_reused) == ("published", 4, False)
    latest = Retriever.open(bundle)
    assert (latest.version, latest.name_of("é")) == (corrected.fingerprint, "Lindgren, É.")
    assert put_named(right).action == "unchanged"
    # The versions before keep the names that they had, also in their own index.
    assert Retriever.open(bundle, version=3).name_of("é") == "name of é"
    before = Retriever.open(bundle, version=2)
    assert (before.version, before.name_of("é")) == (unnamed, "é")
    answers = [one.recommend([["é", "0"]], 5)[0] for one in (before, latest)]
    assert answers[0].items == answers[1].items


def test_the_tower_answers_its_fingerprint(two_versions):
    bundle, (first, _) = two_versions
    loaded = tf.saved_model.load(str(bundle / "user_tower" / "1"))
    answer = loaded.signatures["serving_default"](item_ids=tf.zeros([2, MAX_HISTORY], tf.int64))
    assert answer["version"].numpy().tolist() == [first.encode()] * 2


def test_the_last_versions_are_kept_with_the_indexes_they_name(two_versions):
    bundle, (first, second) = two_versions
    third = put(bundle, 2, keep=2)
    assert towers(bundle) == [2, 3]
    assert indexes(bundle) == sorted([second, third.fingerprint])
    assert (third.removed_towers, third.removed_indexes) == ([1], [first])


def test_an_index_stays_while_any_kept_tower_names_it(two_versions):
    bundle, (first, _) = two_versions
    roll_back(bundle)
    third = put(bundle, 2, keep=2)
    assert towers(bundle) == [3, 4]
    assert indexes(bundle) == sorted([first, third.fingerprint])


def test_a_roll_back_publishes_the_old_tower_under_a_higher_number(two_versions):
    bundle, (first, second) = two_versions
    put(bundle, 2)
    back = roll_back(bundle)
    assert (back.number, back.fingerprint) == (4, second)
    assert towers(bundle) == [1, 2, 3, 4]
    assert Retriever.open(bundle).version == second
    further = roll_back(bundle)
    assert (further.number, further.fingerprint) == (5, first)
    with pytest.raises(BundleError, match="keeps no version earlier than 1"):
        roll_back(bundle)
    forth = put(bundle, 2, keep=9)
    assert (forth.number, forth.index_reused) == (6, True)


def test_a_dry_run_tells_the_same_and_writes_nothing(two_versions, tmp_path):
    bundle, _ = two_versions
    assert put(tmp_path / "new", dry_run=True).number == 1
    assert not (tmp_path / "new").exists()
    before = toy.files_of(bundle)
    planned, back = put(bundle, 2, keep=2, dry_run=True), roll_back(bundle, dry_run=True)
    assert toy.files_of(bundle) == before
    assert (back.number, back.action) == (3, "rolled back")
    done = put(bundle, 2, keep=2)
    for name in ("number", "fingerprint", "action", "removed_towers", "removed_indexes"):
        assert getattr(planned, name) == getattr(done, name)


@pytest.mark.parametrize(
    "step",
    [
        *("_publish_tower", "commit"),
        *(pytest.param(one, marks=pytest.mark.long) for one in ("_publish_index", "export_user_tower")),
    ],
)
def test_a_failure_leaves_the_last_good_version_and_a_rerun_completes(two_versions, monkeypatch, step):
    bundle, (_, good) = two_versions
    before = toy.files_of(bundle / "user_tower")

    def fail(*_arguments, **_keywords):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publishing, step, fail)
        with pytest.raises(OSError, match="no space"):
            put(bundle, 2)
    assert toy.files_of(bundle / "user_tower") == before
    assert Retriever.open(bundle).version == good
    completed = put(bundle, 2)
    assert (completed.number, completed.index_reused) == (3, step in ("_publish_tower", "export_user_tower"))
    assert Retriever.open(bundle).version == completed.fingerprint


@pytest.mark.long
def test_killed_between_index_and_tower_the_rest_is_cleared_by_the_rerun(two_versions):
    bundle, (_, good) = two_versions
    script = f"""
        import os
        from pathlib import Path
        from export.publishing import publish
        from tests.export.publishing.test_publish import put

        def killed(made, place, commit=publish.commit):
            if place.parent.name == "user_tower":
                os._exit(9)
            commit(made, place)

        publish.commit = killed
        put(Path({str(bundle)!r}), 2)
    """
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=root, capture_output=True)
    assert done.returncode == 9
    assert len(indexes(bundle)) == 3
    assert Retriever.open(bundle).version == good
    assert (bundle / "user_tower" / ".exporting-3").is_dir()
    completed = put(bundle, 2)
    assert (completed.number, completed.index_reused) == (3, True)
    assert towers(bundle) == [1, 2, 3]


def test_what_others_put_into_a_bundle_stays_and_is_in_nobodys_way(two_versions):
    bundle, (first, _) = two_versions
    (bundle / "elsewhere").mkdir()
    strange = [bundle / part / ".DS_Store" for part in ("user_tower", "item_index")]
    strange += [bundle / "item_index" / "Thumbs.db", bundle / "user_tower" / ".snapshot" / "hourly"]
    ours = [bundle / "user_tower" / ".exporting-3", bundle / "item_index" / ".building-0123"]
    linked = bundle / "item_index" / ".damaged-0123"
    for path in [*strange, ours[0]]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    ours[1].mkdir()
    (ours[1] / "part").write_text("")
    linked.symlink_to(bundle / "elsewhere")
    third = put(bundle, 2, keep=2)
    assert (third.number, third.removed_indexes) == (3, [first])
    assert roll_back(bundle).number == 4
    assert all(path.is_file() for path in strange)
    assert not any(path.exists() for path in ours) and not linked.is_symlink()
    assert (bundle / "elsewhere").is_dir()


def test_only_one_process_publishes_at_a_time(tmp_path):
    with locked(tmp_path / "b"), pytest.raises(BundleError, match="Another process"):
        put(tmp_path / "b")


def test_a_damaged_index_is_built_again(two_versions):
    bundle, (_, second) = two_versions
    (bundle / "item_index" / second / "dataset.npy").unlink()
    with pytest.raises(BundleError, match="publish again"):
        Retriever.open(bundle)
    assert put(bundle, 1).action == "unchanged"
    assert Retriever.open(bundle).version == second


def test_a_tower_without_its_description_is_published_again(two_versions):
    bundle, (_, second) = two_versions
    (bundle / "user_tower" / "2" / "assets.extra" / "tower.json").unlink()
    with pytest.raises(BundleError, match="publish again"):
        Retriever.open(bundle)
    again = put(bundle, 1)
    assert (again.action, again.number, again.index_reused) == ("published", 3, True)
    assert Retriever.open(bundle).version == second


def test_an_index_with_a_flipped_bit_is_built_again(two_versions):
    bundle, (_, second) = two_versions
    path = bundle / "item_index" / second / "dataset.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="publish again"):
        Retriever.open(bundle)
    assert not put(bundle, 1).index_reused
    assert Retriever.open(bundle).version == second


def lost_variables(tower):
    for path in (tower / "variables").iterdir():
        path.unlink()


def flipped_bit(tower):
    path = tower / "variables" / "variables.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lost_graph(tower):
    (tower / "saved_model.pb").unlink()


def shortened_description(tower):
    path = tower / "assets.extra" / "tower.json"
    path.write_text(json.dumps({"version": json.loads(path.read_text())["version"]}))


@pytest.mark.parametrize(
    "spoil",
    [
        *(flipped_bit, shortened_description),
        *(pytest.param(one, marks=pytest.mark.long) for one in (lost_variables, lost_graph)),
    ],
)
def test_a_tower_that_cannot_be_loaded_is_published_again(two_versions, spoil):
    bundle, (_, second) = two_versions
    spoil(bundle / "user_tower" / "2")
    with pytest.raises(BundleError, match="publish"):
        Retriever.open(bundle)
    planned, again = put(bundle, 1, dry_run=True), put(bundle, 1)
    assert (planned.action, planned.number) == ("published", 3)
    assert (again.action, again.number, again.index_reused) == ("published", 3, True)
    assert Retriever.open(bundle).version == second
    assert put(bundle, 1).action == "unchanged"


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_indexes_that_were_removed_are_built_again(two_versions, seed):
    bundle, _ = two_versions
    shutil.rmtree(bundle / "item_index")
    again = put(bundle, seed)
    assert not again.index_reused
    assert Retriever.open(bundle).version == again.fingerprint


def test_the_index_of_another_version_in_its_place_is_built_again(two_versions):
    bundle, (first, second) = two_versions
    mismatched_index(bundle, first, second)
    assert (put(bundle, 1).action, Retriever.open(bundle).version) == ("unchanged", second)


def test_a_dry_run_over_a_damaged_index_tells_that_it_would_be_built(two_versions):
    bundle, (_, second) = two_versions
    (bundle / "item_index" / second / "index.json").unlink()
    planned = put(bundle, 1, dry_run=True)
    assert (planned.action, planned.index, planned.index_reused) == ("unchanged", None, False)


def test_a_roll_back_passes_over_damaged_versions(two_versions):
    bundle, (first, second) = two_versions
    put(bundle, 2, keep=9)
    path = bundle / "user_tower" / "1" / "assets.extra" / "tower.json"
    whole = path.read_text()
    path.write_text("")
    assert roll_back(bundle, dry_run=True).fingerprint == second
    (bundle / "user_tower" / "2" / "assets.extra" / "tower.json").unlink()
    with pytest.raises(BundleError, match="keeps no version earlier than 3"):
        roll_back(bundle)
    path.write_text(whole)
    back = roll_back(bundle)
    assert (back.number, back.fingerprint) == (4, first)
    (bundle / "user_tower" / "4" / "assets.extra" / "tower.json").unlink()
    with pytest.raises(BundleError, match=r"4/assets\.extra/tower\.json cannot be read"):
        roll_back(bundle)


def test_a_moved_bundle_loads(two_versions, tmp_path):
    bundle, (_, second) = two_versions
    (tmp_path / "other").mkdir()
    moved = bundle.rename(tmp_path / "other" / "place")
    assert Retriever.open(moved).recommend([["é"]], 3)[0].version == second


def mismatched_index(bundle, first, second):
    shutil.rmtree(bundle / "item_index" / second)
    shutil.copytree(bundle / "item_index" / first, bundle / "item_index" / second)


def relabelled_tower(bundle, first, second):
    """The description names an index that exists, but the tower itself answers another version."""
    toy.describe_again(bundle / "user_tower" / "2" / "assets.extra" / "tower.json", version=first)
    toy.sign_again(bundle / "user_tower" / "2")


def missing_index(bundle, first, second):
    shutil.rmtree(bundle / "item_index" / second)


def broken_tower(bundle, first, second):
    (bundle / "user_tower" / "2" / "saved_model.pb").write_bytes(b"not a model")
    toy.sign_again(bundle / "user_tower" / "2")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (mismatched_index, "do not belong together"),
        (relabelled_tower, "do not belong together"),
        (missing_index, "which is not in"),
        (broken_tower, "cannot be loaded"),
    ],
)
def test_a_tower_and_an_index_that_do_not_match_are_refused(two_versions, spoil, message):
    bundle, (first, second) = two_versions
    spoil(bundle, first, second)
    with pytest.raises(BundleError, match=message):
        Retriever.open(bundle)
    assert Retriever.open(bundle, version=1).version == first


def test_what_is_not_a_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        Retriever.open(tmp_path)
    with pytest.raises(BundleError, match="is not a bundle"):
        roll_back(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_published_into_a_directory_that_is_something_else(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".DS_Store").write_text("")
    (tmp_path / "b" / "notes").mkdir()
    for dry_run in (True, False):
        with pytest.raises(BundleError, match="is not a bundle: it has no user_tower and holds 'notes'"):
            put(tmp_path / "b", dry_run=dry_run)
        with pytest.raises(BundleError, match="DS_Store is a file"):
            put(tmp_path / "b" / ".DS_Store" / "c", dry_run=dry_run)
    assert toy.files_of(tmp_path / "b") == {".DS_Store", "notes"}
    (tmp_path / "b" / "notes").rmdir()
    assert put(tmp_path / "b", dry_run=True).number == 1  # what starts with a dot counts for nothing


def test_keep_below_one_is_refused(tmp_path):
    with pytest.raises(BundleError, match="keep is 0"):
        put(tmp_path / "b", keep=0)


@pytest.mark.usefixtures("trusted_copies")
def test_a_model_card_goes_where_its_tower_goes_and_another_one_is_another_version(tmp_path):
    bundle = tmp_path / "b"
    card = {"system": "base", "figures": [{"model": {"recall@50": 0.1}}], "settings": {"lr": 1e-3}}
    first = put(bundle, card=card)
    assert read_model_card(bundle / "user_tower" / "1") == {"format": 1} | card
    assert put(bundle, card=card).action == "unchanged"
    assert put(bundle).action == "unchanged"  # without a card the one that is there will do
    with_more = card | {"figures": []}
    again = put(bundle, card=with_more)
    assert (again.action, again.number, again.fingerprint) == ("published", 2, first.fingerprint)
    assert again.index_reused
    update_index(bundle, Update(delete_ids=[toy.item_ids(NUM_ITEMS)[3]]))
    assert read_model_card(bundle / "user_tower" / "3") == {"format": 1} | with_more
    put(bundle, 1)
    assert read_model_card(bundle / "user_tower" / "4") is None
    assert roll_back(bundle).number == 5
    assert read_model_card(bundle / "user_tower" / "5") == {"format": 1} | with_more
    Retriever.open(bundle)  # every file is accounted for


def test_a_damaged_model_card_is_refused_and_one_that_is_too_large_is_not_written(tmp_path):
    bundle = tmp_path / "b"
    put(bundle, card={"system": "base", "figures": []})
    path = bundle / "user_tower" / "1" / "assets.extra" / "model_card.json"
    whole = path.read_text()
    path.write_text(whole.replace("base", "best"))
    with pytest.raises(BundleError, match=r"model_card\.json has changed"):
        read_model_card(path.parents[1])
    wrong = {"histories": {"histories": 1, "popularity": [2], "lengths": []}}
    path.write_text(json.dumps(json.loads(whole) | wrong))
    toy.sign_again(path.parents[1])
    with pytest.raises(BundleError, match=r"popularity is .*; wanted a list of numbers from 0 to 1"):
        read_model_card(path.parents[1])
    with pytest.raises(BundleError, match=r"model card has .* letters; wanted at most 1,048,576 bytes"):
        put(bundle, 1, card={"system": "x" * 2**20, "figures": []})
    assert towers(bundle) == [1]

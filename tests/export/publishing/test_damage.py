"""What lies in a bundle is checked before it is used, and mended by publishing again."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export.index.description import read_index
from export.index.item_index import ItemIndex
from export.publishing.publish import roll_back
from export.publishing.updates import Update, update_index
from export.retriever import Retriever
from export.service.options import Options
from export.service.service import Service
from export.store.bundle_errors import BundleError
from export.store.layout import read_tower
from export.store.runtime import tf
from export.towers.requests import read_warm_up
from tests.export import toy
from tests.export.publishing.test_publish import put

LOADS_TOWER = "export.towers.local.tf.saved_model.load"
LOADS_INDEX = "export.index.scann_runtime.scann.scann_pybind.ScannNumpy"
TOWER, INDEX = "user_tower/1/assets.extra/tower.json", "item_index/{}/index.json"
ABSENT = object()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    bundle = tmp_path_factory.mktemp("published") / "b"
    return bundle, put(bundle).fingerprint


@pytest.fixture
def bundle(tmp_path, published):
    shutil.copytree(published[0], tmp_path / "b")
    return tmp_path / "b"


def index_of(bundle):
    [index] = (bundle / "item_index").iterdir()
    return index


def changed(path):
    """Flips a bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def files(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_sha256sum_reads_the_checksums(bundle):
    for directory in (bundle / "user_tower" / "1", index_of(bundle)):
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=directory, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(done.stdout.splitlines()) == len(files(directory)) - 1


def test_a_changed_byte_of_any_file_is_noticed_and_mended(bundle, published):
    _, fingerprint = published
    unchanged = put(bundle, dry_run=True)
    assert (unchanged.action, unchanged.index_reused) == ("unchanged", True)
    for path in files(bundle / "user_tower") + files(bundle / "item_index"):
        whole = path.read_bytes()
        changed(path)
        with pytest.raises(BundleError, match="publish"):
            Retriever.open(bundle)
        planned = put(bundle, dry_run=True)
        if "user_tower" in path.parts:
            assert (planned.action, planned.number) == ("published", 2), path
        else:
            assert (planned.action, planned.index_reused) == ("unchanged", False), path
        path.write_bytes(whole)
    changed(bundle / TOWER)
    changed(index_of(bundle) / "index.json")
    mended = put(bundle)
    assert (mended.action, mended.number, mended.index_reused) == ("published", 2, False)
    assert Retriever.open(bundle).version == fingerprint


def test_what_was_not_published_or_is_gone_is_noticed(bundle):
    for directory in (bundle / "user_tower" / "1", index_of(bundle)):
        (directory / ".DS_Store").write_text("others'")
        Retriever.open(bundle)
        (directory / "saved_model.cpb").write_text("read before the other by TensorFlow")
        with pytest.raises(BundleError, match=r"saved_model\.cpb was not published"):
            Retriever.open(bundle)
        (directory / "saved_model.cpb").unlink()
    (bundle / "user_tower" / "1" / "fingerprint.pb").unlink()
    with pytest.raises(BundleError, match=r"fingerprint\.pb cannot be read"):
        Retriever.open(bundle)


def test_a_bundle_without_checksums_is_refused_until_it_is_published_again(bundle):
    expected = Retriever.open(bundle).recommend([["é"]], 5)
    for sums in bundle.glob("*/*/SHA256SUMS"):
        sums.unlink()
    with pytest.raises(
        BundleError, match=r"has no SHA256SUMS: .* publish the run again with export/bundle\.py"
    ):
        Retriever.open(bundle)
    again = put(bundle)
    assert (again.action, again.number, again.index_reused) == ("published", 2, False)
    assert Retriever.open(bundle).recommend([["é"]], 5) == expected
    assert put(bundle).action == "unchanged"


def test_an_update_is_not_unchanged_when_its_version_is_damaged(bundle):
    update = Update(upsert_ids=["new"], upsert_vectors=np.ones((1, 6), np.float32))
    update_index(bundle, update)
    assert update_index(bundle, update).action == "unchanged"
    changed(bundle / "user_tower" / "2" / "saved_model.pb")
    with pytest.raises(BundleError, match=r"saved_model\.pb has changed"):
        update_index(bundle, update)
    with pytest.raises(BundleError, match=r"saved_model\.pb has changed"):
        update_index(bundle, Update(delete_ids=["new"]))


def test_no_roll_back_to_a_damaged_version(bundle):
    put(bundle, 1)
    changed(bundle / "user_tower" / "1" / "variables" / "variables.index")
    with pytest.raises(BundleError, match=r"variables\.index has changed"):
        roll_back(bundle)
    assert not (bundle / "user_tower" / "3").exists()


@pytest.mark.parametrize("is_signed", [False, True])
def test_two_swapped_ids_of_the_tower_are_noticed(bundle, is_signed):
    """They change no answer of `serving_default`, which is what retrieval asks."""
    path = bundle / "user_tower" / "1" / "assets" / "item_ids.txt"
    first, second, *rest = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([second, first, *rest]))
    if is_signed:
        toy.sign_again(bundle / "user_tower" / "1")
    message = "vocabulary of .* is not that of its index" if is_signed else r"item_ids\.txt has changed"
    with pytest.raises(BundleError, match=message):
        Retriever.open(bundle)
    assert put(bundle, dry_run=True).number == 2


NESTED = json.loads('{"a":' * 400 + "1" + "}" * 400)


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        (INDEX, "method", "exacu", "method is 'exacu'; wanted 'exact' or 'tree'"),
        (INDEX, "method", "tree", "settings 'num_leaves' is missing"),
        (INDEX, "memory", "int8", "lists .*'DATASET'.*; wanted .*'INT8_NORMS'"),
        (INDEX, "items", 0, "items is 0; wanted a whole number from 1"),
        (INDEX, "items", 1000, "tells 1000 items, its other files 30"),
        (INDEX, "items", 30.0, "items is 30.0; wanted a whole number"),
        (INDEX, "items", True, "items is True; wanted a whole number"),
        (INDEX, "dimension", ABSENT, "'dimension' is missing"),
        (INDEX, "dimension", 7, r"dataset\.npy holds float32 \[30, 6\]"),
        (INDEX, "dimension", "6", "dimension is '6'"),
        (INDEX, "k", 10**9 * 10**9, "k is 1000000000000000000; wanted a whole number"),
        (INDEX, "settings", [NESTED], "settings is .*; wanted an object"),
        (INDEX, "target_recall", float("nan"), "target_recall is nan; wanted a number from 0 to 1"),
        (INDEX, "fingerprint", "../../x", "fingerprint is '../../x'; wanted letters and digits"),
        (INDEX, "format", 5, "format is 5; wanted 1 or 2 or 3 or 4"),
        (INDEX, "format", 3, "format and .parts. do not belong together"),
        (INDEX, "parts", 2, "format and .parts. do not belong together"),
        (INDEX, "format", 2, "'vocabulary_size' is missing"),
        (TOWER, "max_history", "a", "max_history is 'a'; wanted a whole number from 1 to 1,000,000"),
        (TOWER, "max_history", 10**9, "max_history is 1000000000; wanted"),
        (TOWER, "max_history", 100_000, "cannot be loaded"),
        (TOWER, "max_history", ABSENT, "'max_history' is missing"),
        (TOWER, "vectors_per_user", 2, "not as its description and its index tell"),
        (TOWER, "version", ["a"], "version is .*; wanted letters and digits"),
        (TOWER, "items", NESTED, "items is"),
    ],
)
def test_a_description_that_cannot_be_is_refused_even_with_checksums_of_its_own(
    bundle, published, file, key, value, message
):
    path = bundle / file.format(published[1])
    description = json.loads(path.read_text())
    if value is ABSENT:
        del description[key]
    else:
        description[key] = value
    path.write_text(json.dumps(description))
    with pytest.raises(BundleError, match="has changed since it was published"):
        Retriever.open(bundle)
    toy.sign_again(bundle / Path(file.format(published[1])).parents[1 if file == TOWER else 0])
    with pytest.raises(BundleError, match=message):
        Retriever.open(bundle)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "9" * 5_000, "[]", "1e999", "\x00", " " * (2 << 20), "{}", "null"],
)
def test_json_that_is_no_description_is_refused(bundle, published, text):
    for name, read, parent in ((TOWER, read_tower, 1), (INDEX.format(published[1]), read_index, 0)):
        path = bundle / name
        directory = path.parents[parent]
        read(directory)
        path.write_text(text)
        toy.sign_again(directory)
        with pytest.raises(BundleError, match=path.name):
            read(directory)


@pytest.mark.parametrize("name", ["../x.npy", "{outside}", "a/../../x.npy", "", "no\\\\such", "link.npy"])
def test_a_file_that_scann_is_led_to_outside_is_never_opened(bundle, tmp_path, monkeypatch, name):
    index = index_of(bundle)
    for outside in (tmp_path / "x.npy", index.parent / "x.npy"):
        shutil.copy(index / "dataset.npy", outside)
    if name == "link.npy":
        (index / name).symlink_to(tmp_path / "x.npy")
    assets = index / "scann_assets.pbtxt"
    text = assets.read_text().replace("dataset.npy", name.format(outside=tmp_path / "x.npy"))
    assets.write_text(text)
    toy.sign_again(index)
    monkeypatch.setattr(LOADS_INDEX, lambda *_: pytest.fail("opened"))
    with pytest.raises(BundleError, match=r"wanted one in it|is a link out"):
        ItemIndex.load(index)


def test_files_that_end_the_process_in_scann_do_not_get_there(bundle):
    assets = index_of(bundle) / "scann_assets.pbtxt"
    whole = assets.read_text()
    for text in (2 * whole, "", whole.replace("DATASET_NPY", "PARTITIONER")):
        assets.write_text(text)
        toy.sign_again(assets.parent)
        with pytest.raises(BundleError, match=r"scann_assets\.pbtxt lists .*; wanted \['DATASET'\]"):
            Retriever.open(bundle)


@pytest.mark.parametrize("name", ["variables", "saved_model.pb", "assets/item_ids.txt", "SHA256SUMS"])
def test_links_may_lead_elsewhere_in_the_bundle_but_not_out_of_it(bundle, tmp_path, name):
    expected = Retriever.open(bundle).recommend([["é"]], 5)
    path = bundle / "user_tower" / "1" / name
    outside = path.rename(tmp_path / "outside")
    path.symlink_to(outside)
    with pytest.raises(BundleError, match="is a link out of the bundle"):
        Retriever.open(bundle)
    if outside.is_file():
        path.unlink()
        path.symlink_to(outside.rename(bundle / "elsewhere"))
        assert Retriever.open(bundle).recommend([["é"]], 5) == expected


def test_an_asset_of_the_graph_does_not_lead_out(bundle):
    from tensorflow.core.protobuf import saved_model_pb2

    path = bundle / "user_tower" / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].asset_file_def[0].filename = "../../../../secret"
    path.write_bytes(saved.SerializeToString())
    toy.sign_again(bundle / "user_tower" / "1")
    with pytest.raises(BundleError, match="wanted one in it"):
        Retriever.open(bundle)


@pytest.mark.parametrize("error", [AttributeError("x"), TypeError("x"), KeyError("x"), MemoryError()])
def test_whatever_a_foreign_loader_raises_is_damage_and_mended(bundle, monkeypatch, error):
    def raising(*_):
        raise error

    for place in (LOADS_TOWER, LOADS_INDEX):
        with monkeypatch.context() as patch:
            patch.setattr(place, raising)
            with pytest.raises(BundleError, match=rf"cannot be loaded \({type(error).__name__}"):
                Retriever.open(bundle)
            planned = put(bundle, dry_run=True)
            assert (planned.number, planned.index_reused) in [(2, True), (1, False)]


def test_a_damaged_warm_up_file_is_an_error_of_the_bundle(bundle):
    path = bundle / "user_tower" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    assert read_warm_up(path) == [["é", " x "]]
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff")
    with pytest.raises(BundleError, match="cannot be loaded"):
        read_warm_up(path)
    changed(path)
    with pytest.raises(BundleError, match="cannot be loaded"):
        read_warm_up(path)


def test_a_service_vouches_only_for_what_it_has_asked(bundle, monkeypatch):
    service = Service(Options(bundle=bundle))
    try:
        asyncio.run(service.check(20))
        searched = []

        def broken(_self, queries, _k):
            searched.append(queries)
            raise BundleError("broken")

        with monkeypatch.context() as patch:
            patch.setattr(ItemIndex, "search", broken)
            with pytest.raises(BundleError, match="broken"):
                asyncio.run(service.check(20))
        # By the vector of a known item, which no row of zeros is.
        assert np.abs(searched[0]).max() > 0
        asyncio.run(service.check(20))
    finally:
        service.close()
    toy.describe_again(index_of(bundle) / "index.json", method="exacu")
    with pytest.raises(BundleError, match=r"index\.json has changed"):
        Service(Options(bundle=bundle))

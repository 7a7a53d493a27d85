"""Real data from end to end: prepared, trained for an epoch, published, retrieved as exactly ranked."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from causerec_tf import evaluation
from causerec_tf.data.holdout import evaluation_users
from causerec_tf.runs import load_trained
from tests.pipelines import scripts

DATA = Path(os.environ.get("CAUSEREC_DATA", scripts.ROOT.parent / "shared" / "data"))
LOG = DATA / "yelp2018" / "interactions.tsv.gz"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not LOG.is_file(), reason=f"no {LOG}; CAUSEREC_DATA names the folder of data"),
]


@pytest.fixture(name="place", scope="module")
def fixture_place(tmp_path_factory):
    """A dataset, a run of one epoch, and the log of users' histories, made by the scripts."""
    place = tmp_path_factory.mktemp("yelp2018")
    made = scripts.run(
        "pipelines/prepare.py", f"--input={LOG}", "--columns=user,item,time", f"--output={place / 'dataset'}"
    )
    assert made.returncode == 0, made.stderr
    training = [f"--dataset={place / 'dataset'}", f"--run={place / 'run'}", "--epochs=1"]
    assert scripts.run("pipelines/train.py", *training, timeout=1800).returncode == 0
    return place


@pytest.mark.parametrize("method", ["auto", "tree"])
def test_the_bundle_answers_as_the_exact_ranking_of_the_model(place, method):
    trained = load_trained(place / "run")
    users = evaluation_users(trained.dataset.read("test"), trained.settings.max_history)
    exact = evaluation.rank_users(trained.model, users, 50, exclude_seen=True)

    ids = trained.dataset.item_ids()
    histories = place / "histories.parquet"
    rows = {"user_id": users.user_ids.tolist(), "history": [[ids[i - 1] for i in row] for row in users.seen]}
    pl.DataFrame(rows).write_parquet(histories)

    bundle, output = place / f"bundle_{method}", place / f"{method}.parquet"
    published = scripts.run(
        "export/bundle.py", f"--run={place / 'run'}", f"--bundle={bundle}", f"--index_method={method}"
    )
    assert published.returncode == 0, published.stderr
    retrieved = scripts.run(
        "pipelines/retrieve.py", f"--bundle={bundle}", f"--input={histories}", f"--output={output}", "--k=50"
    )
    assert retrieved.returncode == 0, retrieved.stderr

    answers = pl.read_parquet(output)
    assert answers["user_id"].to_list() == users.user_ids.tolist()
    overlaps = [
        len(set(items) & {ids[i - 1] for i in row}) / 50
        for items, row in zip(answers["items"].to_list(), exact.tolist(), strict=True)
    ]
    assert np.mean(overlaps) >= 0.99

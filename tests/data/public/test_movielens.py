"""MovieLens from TensorFlow Datasets, on a dataset of its features written here: nothing is fetched."""

import numpy as np
import pytest

from causerec_tf.data.public import movielens
from causerec_tf.errors import InputError

# (user, movie, time, title), in two files.
RATINGS = [
    [("196", "242", 881250949, b"Kolya (1996)"), ("186", "302", 891717742, b"L.A. Confidential (1997)")],
    [("196", "51", 881250949, "Amélie (2001)".encode()), ("22", "242", 878887116, b"Kolya (1996)")],
]


@pytest.fixture(name="prepared", scope="module")
def fixture_prepared(tmp_path_factory):
    """A data directory with movielens/100k-ratings in it, as TensorFlow Datasets lays it out."""
    tf = pytest.importorskip("tensorflow")
    import tensorflow_datasets as tfds

    data_dir = tmp_path_factory.mktemp("tfds")
    builder = tfds.builder("movielens/100k-ratings", data_dir=data_dir)
    directory = data_dir / "movielens" / "100k-ratings" / str(builder.version)
    directory.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        dataset_name="movielens", data_dir=directory, filetype_suffix="tfrecord", split="train"
    )
    for shard, rows in enumerate(RATINGS):
        path = template.sharded_filepath(shard_index=shard, num_shards=len(RATINGS))
        with tf.io.TFRecordWriter(str(path)) as writer:
            for user, movie, moment, title in rows:
                writer.write(_record(tf, builder.info.features, user, movie, moment, title))
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        filename_template=template,
        features=builder.info.features,
        split_infos=[
            tfds.core.SplitInfo(
                name="train",
                shard_lengths=[len(rows) for rows in RATINGS],
                num_bytes=1,
                filename_template=template,
            )
        ],
        version=str(builder.version),
        check_data=False,
    )
    return data_dir


def _record(tf, features, user, movie, moment, title):
    filled = {
        "user_id": user,
        "movie_id": movie,
        "timestamp": moment,
        "movie_title": title,
        "movie_genres": [3, 4],
    }
    rest = {
        name: b"" if feature.tf_dtype == tf.string else np.zeros((), feature.np_dtype)
        for name, feature in features.items()
        if name not in filled
    }
    return features.serialize_example(features.encode_example({**rest, **filled}))


@pytest.mark.parametrize("per_batch", [1, 65_536])
def test_ratings_and_titles_in_the_order_of_the_files(prepared, monkeypatch, per_batch):
    monkeypatch.setattr(movielens, "_RATINGS_PER_BATCH", per_batch)
    log, titles = movielens.read_movielens("movielens/100k-ratings", prepared)
    wanted = [row[:3] for rows in RATINGS for row in rows]
    assert log.events.rows() == wanted
    assert (log.rows_read, log.files) == (4, ("movielens/100k-ratings",))
    assert titles == {"242": "Kolya (1996)", "302": "L.A. Confidential (1997)", "51": "Amélie (2001)"}


def test_what_is_not_there(prepared, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="has no feature 'user_id'; wanted ratings"):
        movielens.read_movielens("movielens/100k-movies", prepared)
    with pytest.raises(InputError, match="has no 'nonsense'; wanted one such as movielens/1m-ratings"):
        movielens.read_movielens("nonsense", prepared)
    import tensorflow_datasets as tfds

    def no_network(self, **_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
    message = (
        r"movielens/1m-ratings is not in .* could not be fetched \(ConnectionError: no route.*--tfds_dir"
    )
    with pytest.raises(InputError, match=message):
        movielens.read_movielens("movielens/1m-ratings", tmp_path)

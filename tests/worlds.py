"""Generated worlds and logs as datasets on disk."""

from causerec_tf.data.generated import synthetic
from causerec_tf.data.splits import split_sequences
from causerec_tf.data.writing import sequence_writer


def write_events(events, directory, *, num_shards=2, split_seed=0):
    """A dataset of a log with the columns user, item and time."""
    sequences = split_sequences.build_sequences(events, split_seed=split_seed, num_shards=num_shards)
    about = {"time_unit": "as given", "split_seed": split_seed}
    return sequence_writer.write_dataset(sequences, directory, num_shards=num_shards, about=about)


def write_world(directory, *, num_shards=2, split_seed=0, **world):
    """A dataset of the world that `synthetic.generate` makes of these settings."""
    events = synthetic.generate(**world).events()
    return write_events(events, directory, num_shards=num_shards, split_seed=split_seed)

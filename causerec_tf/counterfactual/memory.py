"""The concept memory: a first-in-first-out queue of item ids or of interest vectors (section 3.3.3)."""

import tensorflow as tf


class ConceptMemory(tf.Module):
    """A ring buffer of the concepts that were seen last.

    On the item level it remembers ids, not vectors: the vectors of substitutes are looked up fresh, so that
    gradients reach them. On the interest level it remembers vectors, which are constants from then on. Its
    three variables are part of the checkpoint.

    Of synchronous replicas each has a copy, and all enqueue the concepts of all: what can be drawn is what a
    single device with the whole batch would have, however many replicas there are. Asynchronous workers share
    one memory. Two of them that enqueue at the same moment may overwrite each other's concepts; what can be
    drawn was always put there by some step.
    """

    def __init__(
        self,
        capacity: int,
        concept_shape: tuple[int, ...] = (),
        dtype: tf.DType = tf.int32,
        name: str = "concept_memory",
    ):
        """Makes an empty memory of so many concepts, each of a shape: () for an id, (d,) for a vector."""
        super().__init__(name=name)
        self.capacity = capacity
        # A copy a replica, which it writes by itself. They are alike: a checkpoint takes the first.
        own_copy = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        self._concepts = tf.Variable(tf.zeros([capacity, *concept_shape], dtype), name="concepts", **own_copy)
        self._next = tf.Variable(0, dtype=tf.int32, name="next", **own_copy)
        self._filled = tf.Variable(0, dtype=tf.int32, name="filled", **own_copy)

    @property
    def filled(self) -> tf.Tensor:
        """How many concepts it holds, int32 []."""
        return self._filled.read_value()

    def draw(self, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws [*shape, *concept_shape] uniformly and with replacement; all 0 while the memory is empty."""
        slots = tf.random.stateless_uniform(
            shape, seed, minval=0, maxval=tf.maximum(self._filled, 1), dtype=tf.int32
        )
        return tf.gather(self._concepts, slots)

    def enqueue(self, concepts: tf.Tensor) -> None:
        """Appends concepts, [n, *concept_shape], oldest first; of more than the capacity the last stay."""
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            concepts = replica.all_gather(concepts, axis=0)
        concepts = concepts[-self.capacity :]
        count = tf.shape(concepts)[0]
        first = self._next.read_value()
        slots = (first + tf.range(count)) % self.capacity
        # By its handle: copies have no method for it.
        written = tf.raw_ops.ResourceScatterNdUpdate(
            ref=self._concepts.handle, indices=slots[:, tf.newaxis], updates=concepts
        )
        # Only what is written may count as filled, on a parameter server too.
        with tf.control_dependencies([written]):
            self._next.assign((first + count) % self.capacity)
            # Until it is full, the next slot is the number of those filled.
            self._filled.assign(tf.maximum(self._filled, tf.minimum(first + count, self.capacity)))

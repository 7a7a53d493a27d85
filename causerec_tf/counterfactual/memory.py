"""The concept memory: a first-in-first-out queue of item ids or of interest vectors (section 3.3.3)."""

import tensorflow as tf


class ConceptMemory(tf.Module):
    """A ring buffer of the concepts that were seen last.

    On the item level it remembers ids, not vectors: the vectors of substitutes are looked up fresh, so that
    gradients reach them. On the interest level it remembers vectors, which are constants from then on. Its
    three variables are part of the checkpoint.
    """

    def __init__(
        self,
        capacity: int,
        concept_shape: tuple[int, ...] = (),
        dtype: tf.DType = tf.int32,
        name: str = "concept_memory",
    ):
        """Makes an empty memory.

        Args:
          capacity: how many concepts it holds; the oldest make room.
          concept_shape: of one concept: () for an id, (d,) for a vector.
          dtype: of the concepts.
          name: of the module.
        """
        super().__init__(name=name)
        self.capacity = capacity
        self._concepts = tf.Variable(
            tf.zeros([capacity, *concept_shape], dtype), trainable=False, name="concepts"
        )
        self._next = tf.Variable(0, trainable=False, dtype=tf.int32, name="next")
        self._filled = tf.Variable(0, trainable=False, dtype=tf.int32, name="filled")

    @property
    def filled(self) -> tf.Tensor:
        """How many concepts it holds, int32 []."""
        return self._filled.read_value()

    def draw(self, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws concepts uniformly and with replacement from the filled part.

        Args:
          shape: int [r], how many to draw along each axis.
          seed: int [2]; the same seed draws the same slots.

        Returns:
          [*shape, *concept_shape]; all 0 while the memory is empty.
        """
        slots = tf.random.stateless_uniform(
            shape, seed, minval=0, maxval=tf.maximum(self._filled, 1), dtype=tf.int32
        )
        return tf.gather(self._concepts, slots)

    def enqueue(self, concepts: tf.Tensor) -> None:
        """Appends concepts; of more than the capacity only the last ones stay.

        Args:
          concepts: [n, *concept_shape], oldest first.
        """
        concepts = concepts[-self.capacity :]
        count = tf.shape(concepts)[0]
        slots = (self._next + tf.range(count)) % self.capacity
        self._concepts.scatter_nd_update(slots[:, tf.newaxis], concepts)
        self._next.assign((self._next + count) % self.capacity)
        self._filled.assign(tf.minimum(self._filled + count, self.capacity))

"""The concept memory of the item level: a first-in-first-out queue of item ids (section 3.3.3)."""

import tensorflow as tf


class ItemMemory(tf.Module):
    """A ring buffer of the item ids that were seen last.

    It remembers ids, not vectors: the vectors of substitutes are looked up fresh, so that gradients
    reach them. Its three variables are part of the checkpoint.
    """

    def __init__(self, capacity: int, name: str = "item_memory"):
        """Makes an empty memory.

        Args:
          capacity: how many ids it holds; the oldest make room.
          name: of the module.
        """
        super().__init__(name=name)
        self.capacity = capacity
        self._ids = tf.Variable(tf.zeros([capacity], tf.int32), trainable=False, name="ids")
        self._next = tf.Variable(0, trainable=False, dtype=tf.int32, name="next")
        self._filled = tf.Variable(0, trainable=False, dtype=tf.int32, name="filled")

    @property
    def filled(self) -> tf.Tensor:
        """How many ids it holds, int32 []."""
        return self._filled.read_value()

    def draw(self, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws ids uniformly and with replacement from the filled part.

        Args:
          shape: int [r], the shape of the answer.
          seed: int [2]; the same seed draws the same slots.

        Returns:
          int32 of that shape; all 0 while the memory is empty.
        """
        slots = tf.random.stateless_uniform(
            shape, seed, minval=0, maxval=tf.maximum(self._filled, 1), dtype=tf.int32
        )
        return tf.gather(self._ids, slots)

    def enqueue(self, ids: tf.Tensor) -> None:
        """Appends ids; of more than the capacity only the last ones stay.

        Args:
          ids: int32 [n], oldest first.
        """
        ids = ids[-self.capacity :]
        count = tf.size(ids)
        slots = (self._next + tf.range(count)) % self.capacity
        self._ids.scatter_nd_update(slots[:, tf.newaxis], ids)
        self._next.assign((self._next + count) % self.capacity)
        self._filled.assign(tf.minimum(self._filled + count, self.capacity))

"""Text as hashed words, in operations of TensorFlow: a graph that serves gives what a dataset stores."""

import tensorflow as tf

_NO_WORD = r"[^\p{L}\p{N}]+"


def hashed_words(texts: tf.Tensor, size: int) -> tf.RaggedTensor:
    """The words of texts: runs of letters and digits in small letters, hashed.

    Args:
      texts: text [B].
      size: so many buckets.

    Returns:
      int64 [B, words], 1 to `size`, in the text's order, repeats and all.
    """
    small = tf.strings.lower(texts, encoding="utf-8")
    words = tf.strings.split(tf.strings.strip(tf.strings.regex_replace(small, _NO_WORD, " ")))
    return words.with_values(tf.strings.to_hash_bucket_fast(words.values, size) + 1)

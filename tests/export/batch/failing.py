"""What processes of tests do; they import this module, which is why it does without TensorFlow."""

import time

from export.store.bundle_errors import BundleError


def fails_or_waits(shard):
    if shard.source.stem == "two":
        raise BundleError("wanted another")
    time.sleep(3_600)

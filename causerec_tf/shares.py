"""What a replica has of the means of the losses, where several take a step together."""

import tensorflow as tf


def means_and_shares(parts: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """The means of the loss parts over the examples of all replicas, and this replica's share of each.

    The shares of all replicas sum to the mean, and so do their gradients; no gradient passes the means of
    several replicas. A replica may have no example of an epoch's last batch: its share is 0.
    """
    sums = {name: tf.reduce_sum(part) for name, part in parts.items()}
    counts = {name: tf.cast(tf.size(part), tf.float32) for name, part in parts.items()}
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        means = {name: tf.reduce_mean(part) for name, part in parts.items()}
        return means, means
    own = tf.stop_gradient(tf.stack([*sums.values(), *counts.values()]))
    totals = tf.unstack(replica.all_reduce(tf.distribute.ReduceOp.SUM, own))
    counts = dict(zip(parts, totals[len(parts) :], strict=True))
    means = {name: total / counts[name] for name, total in zip(parts, totals[: len(parts)], strict=True)}
    return means, {name: one / counts[name] for name, one in sums.items()}

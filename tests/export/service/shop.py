"""A small shop in two versions, and what each must answer."""

import numpy as np
import tensorflow as tf

from export.publishing.publication import Model
from export.publishing.publish import publish
from tests.export import toy

NUM_ITEMS, DIMENSION, MAX_HISTORY = 50, 6, 4
IDS = toy.item_ids(NUM_ITEMS)
NAMES = [f"Name of {item}" for item in IDS]


class Version:
    """The model of one version; the second has the ids in another order, as a later training has."""

    def __init__(self, number):
        self.ids = IDS if number == 1 else IDS[::-1]
        self.table = toy.embeddings(NUM_ITEMS, DIMENSION, seed=number)
        self.tower = toy.MeanTower(DIMENSION, seed=number)

    def publish(self, bundle, **settings):
        names = [f"Name of {item}" for item in self.ids]
        model = Model(self.table, self.tower, self.table[1:], self.ids, MAX_HISTORY, names)
        queries = np.random.default_rng(0).normal(size=(9, DIMENSION)).astype(np.float32)
        return publish(
            bundle, model, queries=queries, warm_up_histories=[[1, 2], [7]], **settings
        ).fingerprint

    def vector(self, history):
        known = [self.ids.index(item) + 1 for item in history if item in self.ids][-MAX_HISTORY:]
        return np.asarray(self.tower(tf.constant(self.table[[known]]), tf.ones([1, len(known)], tf.bool)))[0]

    def items(self, history, k, exclude_seen=True):
        if not any(item in self.ids for item in history):
            return self.ids[:k]
        order = [self.ids[row] for row in np.argsort(-(self.table[1:] @ self.vector(history)))]
        return [item for item in order if not (exclude_seen and item in history)][:k]

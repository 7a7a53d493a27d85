"""The names of a dataset's files. No TensorFlow."""

# The second is of datasets whose records say how much is history, the third of those with a schema, which
# earlier releases must not read.
FORMAT_VERSIONS = (1, 2, 3)
INFO_FILE = "dataset.json"
ITEMS_FILE = "items.txt"
ITEM_NAMES_FILE = "item_names.txt"
# What a record has beside its events where the protocol is not `users`; see `protocols.SplitRecords`.
CUTS = ("num_history", "num_before_test")

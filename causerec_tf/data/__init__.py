"""From a raw log to training batches.

Each folder may know those above it in this list; `tests/test_package.py` holds it.

    logs/          files and frames -> checked events and their times
    splits/        what is kept, trained on and measured on -> sequences split by a protocol
    columns/       columns of a schema: read, fitted, as a dataset stores them
    generated/     a generated world, with or without features
    public/        published formats -> logs
    (beside them)  the opened dataset: its sequences, what training and evaluation read of it
    writing/       sequences -> a dataset on disk
    distributed/   all of the preparation on Apache Beam; `preparation` is the same in one process
"""

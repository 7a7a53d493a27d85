"""The preparation on Apache Beam: the rules of `split_sequences`, by as many workers as there are.

`prepare` is the entrance; `ranges` reads a log in parts, `blocks` holds the steps between two shuffles,
`storage` the files, `steps` what Beam runs. Only `steps`, `storage` and `prepare` need Beam.
"""

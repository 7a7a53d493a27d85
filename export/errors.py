"""What the export raises when the fault lies in what it was given."""


class BundleError(ValueError):
    """A bundle, an index, a tower or a request that cannot be used.

    The message says what was got, what was wanted and what to do. Scripts print it without a
    traceback and end with exit code 2.
    """

"""What the export raises, sorted by whose fault it is."""


class BundleError(ValueError):
    """A bundle, an index, a tower or a request that cannot be used.

    The message says what was got, what was wanted and what to do. Scripts print it without a
    traceback and end with exit code 2.
    """


class QueryError(BundleError):
    """A query that cannot be answered: whoever sent it must change it."""


class FilterError(QueryError):
    """A filter that asks for what cannot be asked."""


class MissingVersionError(BundleError):
    """A tower answers a version whose index the bundle does not have."""


class TowerError(RuntimeError):
    """A tower on another machine does not answer as it should."""


class TowerBusyError(TowerError):
    """It has too much to do."""


class TowerTimeoutError(TowerError):
    """It has not answered in time."""

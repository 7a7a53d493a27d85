"""What the library raises when the fault lies in what it was given."""


class InputError(ValueError):
    """Bad input: a log, a dataset, a setting or a run that cannot be used.

    The message says what was got, what was wanted and what to do. Scripts print it without a traceback
    and end with exit code 2.
    """

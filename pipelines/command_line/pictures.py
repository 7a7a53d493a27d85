"""Whether a script can draw its picture; its table is written in any case."""


def can_draw() -> bool:
    """Whether matplotlib, the extra `plots`, is installed; says what is missing where it is not."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("no picture: it needs matplotlib, `pip install 'causerec_tf[plots]'`")
        return False
    return True

import pytest


@pytest.fixture
def trusted_copies(monkeypatch):
    """An update does not ask its copy of the tower, which costs as much as the rest of a small test.

    That a copy is asked, signature by signature, is the matter of tests/export/towers/test_features.py; what
    is published, served and damaged elsewhere has the question asked.
    """
    from export.towers import identity

    monkeypatch.setattr(identity, "_check_equal", lambda *_: None)

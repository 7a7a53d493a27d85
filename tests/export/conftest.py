import pytest

from tests.made_once import made_once


@pytest.fixture(scope="session")
def featured_bundle(tmp_path_factory):
    """A bundle whose tower reads features. Look at it; to change something, copy it."""
    return made_once(tmp_path_factory, "featured_bundle", _publish_featured)


def _publish_featured(place):
    from tests.export import featured

    featured.publish(place / "b", place / "vocabularies")
    return place / "b"


@pytest.fixture
def trusted_copies(monkeypatch):
    """An update does not ask its copy of the tower, which costs as much as the rest of a small test.

    That a copy is asked, signature by signature, is the matter of tests/export/towers/test_features.py; what
    is published, served and damaged elsewhere has the question asked.
    """
    from export.towers import identity

    monkeypatch.setattr(identity, "_check_equal", lambda *_: None)

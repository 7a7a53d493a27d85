import shutil

import pytest

from tests.export.service.shop import Version


@pytest.fixture(scope="session")
def versions():
    return [Version(1), Version(2)]


@pytest.fixture(scope="session")
def published(tmp_path_factory, versions):
    """A bundle with version 1, one with the versions 1 and 2, and both fingerprints. To be copied."""
    place = tmp_path_factory.mktemp("shop")
    first = versions[0].publish(place / "one")
    shutil.copytree(place / "one", place / "two")
    return place / "one", place / "two", (first, versions[1].publish(place / "two"))


@pytest.fixture
def bundle(published, tmp_path):
    """A bundle of one's own with version 1."""
    shutil.copytree(published[0], tmp_path / "bundle")
    return tmp_path / "bundle"

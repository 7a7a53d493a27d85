"""The comparisons with other implementations refuse what cannot be compared; they need PyTorch to run."""

from importlib import metadata

import pytest

from benchmarks import peer_packages
from causerec_tf.errors import InputError
from tests.pipelines import scripts


@pytest.mark.parametrize(
    ("script", "arguments", "got"),
    [
        ("benchmarks/parity.py", ["--port=nowhere.py"], "nowhere.py"),
        ("benchmarks/parity_comirec.py", ["--source=nowhere.py"], "nowhere.py"),
        ("benchmarks/peer_quality.py", ["--dataset=nowhere", "--towers=caser"], "caser"),
        ("benchmarks/peer_quality.py", ["--dataset=nowhere", "--seeds=-1"], "-1"),
    ],
)
def test_wrong_flags_are_refused(script, arguments, got):
    scripts.assert_refused(scripts.run(script, *arguments), "error:", got, "wanted")


def test_a_missing_peer_is_named(monkeypatch):
    def version(name):
        if name == "recbole":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(InputError, match=r"recbole is not installed here: docs/parity\.md"):
        peer_packages.versions()

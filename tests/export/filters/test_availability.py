"""The file of items that are out: what several writers and readers make of it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from export.filters import availability
from export.filters.availability import Availability, read_id_list
from export.store.bundle_errors import BundleError


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch):
    monkeypatch.setattr(availability, "_LOOK_SECONDS", 0.0)


def test_no_change_of_several_writers_is_lost(tmp_path):
    path = tmp_path / "out.txt"
    writers = [Availability(path) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(writers[n % 3].change, [f"é {n}"], [f"é {n - 30}"]) for n in range(60)]
        assert all(one.result() > 0 for one in done)
    left = set(read_id_list(path))
    # Whether n - 30 went before or after it came depends on the order; what nobody took back is there.
    assert {f"é {n}" for n in range(30, 60)} <= left
    for one in [*writers, Availability(path)]:
        assert one.now().ids == left
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.txt.lock", "out.txt"]


def test_what_was_said_last_stays_when_the_file_cannot_be_read(tmp_path):
    path, told = tmp_path / "out.txt", []
    follower = Availability(path, told.append)
    assert follower.now().ids == frozenset()
    path.write_text("a\r\n\nb b\n")
    assert follower.now().ids == {"a", "b b"}
    path.write_bytes(b"\xff\n")
    assert follower.now().ids == {"a", "b b"} and len(told) == 1
    assert "not UTF-8" in str(told[0])
    path.unlink()
    assert follower.now().ids == {"a", "b b"} and len(told) == 2
    path.write_text("c\n")
    assert follower.now().ids == {"c"}
    assert Availability(None).now().ids == frozenset()
    path.write_bytes(b"\xff\n")
    with pytest.raises(BundleError, match="not UTF-8"):
        Availability(path)


@pytest.mark.parametrize("item", ["", "a\nb", "\ud800", "x" * 70_000])
def test_an_id_that_is_no_line_is_refused_and_changes_nothing(tmp_path, item):
    follower = Availability(tmp_path / "out.txt")
    follower.change(["a"])
    for change in (([item], []), (["b"], [item])):
        with pytest.raises(BundleError, match="is no item's id"):
            follower.change(*change)
    assert read_id_list(tmp_path / "out.txt") == ["a"]

"""ScaNN's switch for AVX2: turned on where the processor has it, and nothing else changed."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from export.index import scann_processor

pytest.importorskip("scann")
_PROGRAM = textwrap.dedent(
    """
    import numpy as np
    from export.index import scann_processor
    really, scann_processor._has_avx2 = scann_processor._has_avx2, lambda: False
    from export.index.scann_runtime import scann
    assert not scann_processor.use_avx2(scann.scann_pybind.__file__)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(600, 16)).astype(np.float32)
    queries = vectors[:50]
    index = scann.builder(vectors, 10, "dot_product").tree(8, 3).score_ah(2).reorder(40).build()
    before = [index.search(query) for query in queries]
    scann_processor._has_avx2 = really
    assert scann_processor.use_avx2(scann.scann_pybind.__file__) == really()
    after = [index.search(query) for query in queries]
    np.testing.assert_array_equal([rows for rows, _ in before], [rows for rows, _ in after])
    np.testing.assert_allclose([one for _, one in before], [one for _, one in after], rtol=1e-6)
    """
)


def test_single_queries_have_the_same_answers_with_it_and_without():
    """In a process of its own: the switch is the process's."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("flags : fpu avx2 fma sse", True),
        ("flags : fpu avx2 sse", False),
        ("flags : avx2x fma", False),
        ("Features : asimd", False),
        ("", False),
    ],
)
def test_it_is_asked_of_the_kernel(tmp_path, monkeypatch, text, has):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{text}\n")
    monkeypatch.setattr(scann_processor, "_PROCESSOR", tmp_path / "cpuinfo")
    assert scann_processor._has_avx2() is has


def test_a_machine_that_says_nothing_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(scann_processor, "_PROCESSOR", tmp_path / "nowhere")
    assert not scann_processor._has_avx2()


@pytest.mark.parametrize("library", ["nowhere.so", "libc.so.6"])
def test_a_library_without_the_switch_stays_as_it_is(library):
    assert not scann_processor.use_avx2(library)

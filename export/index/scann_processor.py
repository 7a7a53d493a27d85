"""Lets ScaNN use what the processor has.

The function by which ScaNN 1.4.2's wheel asks for AVX2 and AVX-512 always says no (it is `return false`, in a
disassembly too), so that every machine searches with the instructions of 2006: twice the time of a query. The
switch that it sets is exported, and what it chooses between is in the wheel. Single queries have the same
answers; in batches a few equal hashes fall on the other side of a cut. AVX-512 was no faster than AVX2.
"""

import ctypes
from pathlib import Path

_SWITCH = "_ZN14research_scann14flags_internal15should_use_avx2E"
_PROCESSOR = Path("/proc/cpuinfo")


def use_avx2(library: str) -> bool:
    """Turns AVX2 on in ScaNN's library, which is loaded; whether it is on then.

    Where the processor lacks it, or a later library has no such switch, nothing is changed.

    Args:
      library: the path of `scann_pybind`.
    """
    try:
        switch = ctypes.c_bool.in_dll(ctypes.CDLL(library), _SWITCH)
    except (OSError, ValueError):
        return False
    if _has_avx2():
        switch.value = True
    return switch.value


def _has_avx2() -> bool:
    """Whether the processor and the kernel both have it."""
    try:
        text = _PROCESSOR.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return {"avx2", "fma"} <= set(flags)

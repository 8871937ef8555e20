"""Blocks that come and go are not taken from the system each time."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from srbatch.upscaling import allocator

if sys.argv[1] == "kept" and not allocator.keep_freed(64 * 2**20):
    sys.exit("refused")
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(48 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def page_faults(kind: str) -> int:
    """Of a second block of 48 MB, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _FAULTS, kind], capture_output=True, text=True, timeout=60)
    if "refused" in done.stderr:
        pytest.skip("only a newer glibc can be asked to keep memory")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted as Linux does")
def test_a_freed_block_is_used_again() -> None:
    assert page_faults("kept") < page_faults("given back") / 10

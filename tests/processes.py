"""Other processes, to be killed at a chosen moment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import srbatch


@contextmanager
def running(script: str, *arguments: str | os.PathLike[str]) -> Iterator[subprocess.Popen[str]]:
    """Run Python code up to the point where it prints ``ready``; what still runs at the end is killed.

    The code goes on when its standard input is closed.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(os.fspath, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.fspath(Path(srbatch.__file__).parents[1])},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()

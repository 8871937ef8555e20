"""Other processes, to be killed at a chosen moment, and what they do, to be waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


def wait_until(is_so: Callable[[], object], *, within_s: float = 60) -> None:
    """Look again and again until it is so, and fail if it never is."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)

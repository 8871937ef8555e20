"""The two doors into the program: called in this process, and as the installed command."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from srbatch import cli

COMMAND = Path(sys.executable).with_name("srbatch")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """The JSON lines, by the name of the source file."""
        return {Path(r["source"]).name: r for r in map(json.loads, self.out.splitlines())}


Srbatch = Callable[..., Result]


_BOUND = "-dac_override,-dac_read_search"
_WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set", _BOUND, "--inh-caps", _BOUND)


def as_command(*arguments: object, before: Sequence[str] = ()) -> Result:
    """Run the installed command, by the command ``before`` if there is one."""
    done = subprocess.run(
        [*before, COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=170,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def bound() -> Srbatch:
    """Run the installed command so that permissions bind it, also where the tests are root's."""
    if os.geteuid() != 0:
        return as_command
    if not shutil.which("setpriv") or subprocess.run([*_WITHOUT_PRIVILEGES, "true"], check=False).returncode:
        pytest.skip("root cannot give its privileges up here")
    return partial(as_command, before=_WITHOUT_PRIVILEGES)


@pytest.fixture
def srbatch(capfd: pytest.CaptureFixture[str]) -> Srbatch:
    """Run the command in this process, which is faster."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        logging.basicConfig(force=True, handlers=[])
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture(params=["in process", "command"])
def both(request: pytest.FixtureRequest) -> Srbatch:
    """Run a test through both doors."""
    run: Srbatch = as_command if request.param == "command" else request.getfixturevalue("srbatch")
    return run

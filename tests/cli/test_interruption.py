"""Ctrl-C, SIGTERM, a closed terminal and kill -9: in the middle of a photo, and before there is one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from srbatch.entry import Stop
from srbatch.errors import ExitCode, Interrupted
from tests.cli.conftest import COMMAND, as_command
from tests.conftest import Originals, crop

NAMES = [f"{index}.png" for index in range(1, 8)]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


@pytest.fixture
def photos(originals: Originals) -> Path:
    """A small one and then so many that, once it is done, there is more to do for a while."""
    for name in NAMES:
        crop(*((40, 50) if name == NAMES[0] else (200, 260)), top=0, left=0).save(originals.folder / name)
    originals.remember()
    return originals.folder


def started(photos: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, "upscale", photos, "--scale", "4", "--out", out], stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_stopped_in_the_middle_and_run_again(photos: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "hi"
    process = started(photos, out)
    wait_for(out / "1.png", process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert not psutil.wait_procs(children, timeout=20)[1], "a worker outlived its parent"
    names = sorted(p.name for p in out.iterdir() if p.name != ".srbatch")
    made = [name for name in names if name in NAMES]
    assert 1 <= len(made) < len(NAMES), "it was stopped too late to tell anything"
    if number != signal.SIGKILL:
        assert names == made
        assert "run the same command again" in said
        assert f"{len(made)} done" in said
    first = (out / "1.png").stat()

    again = as_command("upscale", photos, "--scale", 4, "--out", out)
    assert again.code == 0, again.err
    assert f"{len(NAMES) - len(made)} done, {len(made)} skipped" in again.err
    assert sorted(p.name for p in out.iterdir()) == [".srbatch", *NAMES]
    assert {path.name for path in (out / ".srbatch").iterdir()} == {"ledger.sqlite", "lock"}
    assert ((out / "1.png").stat().st_ino, (out / "1.png").stat().st_mtime_ns) == (
        first.st_ino,
        first.st_mtime_ns,
    )
    for name in NAMES[1:]:
        with Image.open(out / name) as image:
            assert image.size == (1040, 800)
            image.load()
    assert as_command("verify", out).code == 0


def test_a_closed_terminal_is_told_twice_and_not_at_all_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)  # by the system
            signal.raise_signal(signal.SIGHUP)  # by the shell
            with pytest.raises(Interrupted) as interrupted:
                stop.check()
        assert interrupted.value.exit_code is ExitCode.SIGHUP
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            stop.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_while_modules_are_read_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    code = (
        f"import signal, sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from srbatch.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (ExitCode.SIGINT, "")

"""Ctrl-C, SIGTERM and kill -9 on the installed command, in the middle of a photo."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.cli.conftest import COMMAND, as_command
from tests.conftest import Originals, crop

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


@pytest.fixture
def three(originals: Originals) -> Path:
    """A small photo, a large one, a small one."""
    for name, (height, width) in {"1.png": (40, 50), "2.png": (400, 600), "3.png": (50, 40)}.items():
        crop(height, width, top=0, left=0).save(originals.folder / name)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_the_middle_and_run_again(three: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "hi"
    process = started(three, out)
    wait_for(out / "1.png", process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert not psutil.wait_procs(children, timeout=20)[1], "a worker outlived its parent"
    names = sorted(p.name for p in out.iterdir() if p.name != ".srbatch")
    made = [name for name in names if name in ("1.png", "2.png", "3.png")]
    assert 1 <= len(made) < 3, "it was stopped too late to tell anything"
    if number != signal.SIGKILL:
        assert names == made
        assert "run the same command again" in said
        assert f"{len(made)} done" in said
    first = (out / "1.png").stat()

    again = as_command("upscale", three, "--scale", 4, "--out", out)
    assert again.code == 0, again.err
    assert f"{3 - len(made)} done, {len(made)} skipped" in again.err
    assert sorted(p.name for p in out.iterdir()) == [".srbatch", "1.png", "2.png", "3.png"]
    assert not list((out / ".srbatch").glob("srbatch-*"))
    assert ((out / "1.png").stat().st_ino, (out / "1.png").stat().st_mtime_ns) == (
        first.st_ino,
        first.st_mtime_ns,
    )
    with Image.open(out / "2.png") as image:
        assert image.size == (2400, 1600)
        image.load()
    assert as_command("verify", out).code == 0

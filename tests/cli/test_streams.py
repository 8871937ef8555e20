"""Standard streams that are closed, full, or that nobody reads any more: no run of days may end of that."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import COMMAND, Result
from tests.conftest import Originals, crop

pytestmark = pytest.mark.skipif(os.name == "nt", reason="redirections of a POSIX shell")


@pytest.fixture
def three(originals: Originals) -> Path:
    for number in range(3):
        crop(24, 32, top=40 * number).save(originals.folder / f"{number}.png")
    originals.remember()
    return originals.folder


def in_shell(arguments: str, *paths: Path, redirections: str) -> Result:
    """Run the installed command with redirections; before a pipe, too, the exit code is its own."""
    words = " ".join([str(COMMAND), arguments, *(shlex.quote(str(path)) for path in paths)])
    script = f"set -o pipefail; {words} {redirections}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        stdin=subprocess.DEVNULL,
    )
    return Result(done.returncode, done.stdout, done.stderr)


UPSCALE = "upscale --scale 1 --workers 1"


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", ">&- 2>&- <&-", "2>&1 | true"])
def test_without_anybody_to_tell_a_run_is_done(three: Path, tmp_path: Path, redirections: str) -> None:
    out = tmp_path / "hi"
    assert in_shell(UPSCALE, three, Path("--out"), out, redirections=redirections).code == 0
    assert sorted(path.name for path in out.glob("*.png")) == ["0.png", "1.png", "2.png"]
    assert in_shell("verify", out, redirections="").code == 0, "no file of ours got the number of a stream"


def test_data_that_nobody_reads_any_more_interrupts_a_run(three: Path, tmp_path: Path) -> None:
    done = in_shell(UPSCALE + " --json", three, Path("--out"), tmp_path / "hi", redirections="| head -1")
    assert json.loads(done.out)["status"] == "done"
    assert done.code in (0, 143), "with the last line lost, or before the end"
    if done.code:
        assert "nobody reads standard output any more; run the same command again" in done.err
    assert "Traceback" not in done.err
    assert in_shell(UPSCALE, three, Path("--out"), tmp_path / "hi", redirections="").code == 0


@pytest.mark.parametrize("redirections", ["| true", "| head -c 10"])
def test_what_is_asked_and_not_read_is_no_bug(three: Path, redirections: str) -> None:
    done = in_shell("inspect --json", three, redirections=redirections)
    assert done.code in (0, 143)
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize("arguments", ["models", "models --json"])
def test_data_that_cannot_be_written_is_told(arguments: str) -> None:
    done = in_shell(arguments, redirections="> /dev/full")
    assert done.code == 6
    assert done.err == (
        "srbatch: standard output: No space left on device;"
        " make room and run the same command again: what is finished is kept\n"
    )


def test_ctrl_c_reaches_no_codec(three: Path, tmp_path: Path) -> None:
    """A terminal sends it to all processes; one that is just starting would say that it died of it."""
    code = (
        "import time\n"
        "from srbatch.codec_pool import CodecPool\n"
        "if __name__ == '__main__':\n"
        "    with CodecPool(timeout_s=60, memory_mb=1024, workers=1) as pool:\n"
        "        pool._processes.pool\n"
        "        print('started', flush=True)\n"
        "        time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        deadline = time.monotonic() + 60
        while not (workers := psutil.Process(parent.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for worker in workers:  # as soon as they are there
            worker.send_signal(signal.SIGINT)
        time.sleep(2)
        assert all(worker.is_running() for worker in workers)
    finally:
        parent.kill()
        _, told = parent.communicate()
    assert "KeyboardInterrupt" not in told

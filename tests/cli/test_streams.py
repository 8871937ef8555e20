"""Standard streams that are closed, full, or that nobody reads any more: no run of days may end of that."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import COMMAND, Result
from tests.conftest import Originals, crop
from tests.processes import wait_until

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


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_ctrl_c_and_a_closed_terminal_reach_no_codec(three: Path, tmp_path: Path, name: str) -> None:
    """A terminal sends them to all processes; one that is just starting would die, and might say so."""
    code = (
        "import os\n"
        "from srbatch.codecs.codec_pool import CodecPool\n"
        "from srbatch.errors import UnreadablePhoto\n"
        "if __name__ == '__main__':\n"
        "    with CodecPool(timeout_s=60, memory_mb=1024, workers=1) as pool:\n"
        "        pool._processes.pool\n"
        "        print('started', flush=True)\n"
        "        input()\n"
        "        print(pool._run(os.getpid, (), 60, UnreadablePhoto), flush=True)\n"
        "        input()\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        wait_until(lambda: _workers_of(parent.pid))
        (worker,) = _workers_of(parent.pid)
        for child in psutil.Process(parent.pid).children():  # as soon as it is there
            child.send_signal(getattr(signal, name))
        print(file=parent.stdin, flush=True)
        assert parent.stdout.readline() == f"{worker.pid}\n", "it is the one that does what is asked"
    finally:
        parent.kill()
        _, told = parent.communicate()
    assert "KeyboardInterrupt" not in told


def _workers_of(pid: int) -> list[psutil.Process]:
    """Without the process that tracks the resources of multiprocessing."""
    return [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]

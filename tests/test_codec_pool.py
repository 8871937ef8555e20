"""Workers that crash, hang or eat memory, and that do not outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from srbatch.codec_pool import CodecPool
from srbatch.errors import Interrupted, PhotoError, UnreadablePhoto
from tests.conftest import crop


@pytest.fixture(scope="module")
def pool() -> Iterator[CodecPool]:
    with CodecPool(timeout_s=5, memory_mb=1024) as made:
        yield made


def crash(pool: CodecPool, how: object, *arguments: object, limit_s: float = 30) -> None:
    pool._run(how, arguments, limit_s, UnreadablePhoto)  # type: ignore[arg-type]


def test_a_crash_is_a_photos_failure_and_the_next_photo_is_done(pool: CodecPool, tmp_path: Path) -> None:
    crop().save(tmp_path / "a.png")
    for _ in range(2):
        with pytest.raises(UnreadablePhoto, match=r"crashed \(exit code -11\)"):
            crash(pool, _segfault)
        assert pool.decode(tmp_path / "a.png", tmp_path / "raw", 1e9).header.width == 64


def _segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_hanging_codec_is_stopped(pool: CodecPool) -> None:
    start = time.monotonic()
    with pytest.raises(UnreadablePhoto, match="did not finish within 1 s"):
        crash(pool, time.sleep, 60, limit_s=1)
    assert time.monotonic() - start < 30


def _eat_memory(megabytes: int) -> int:
    return len(bytearray(megabytes << 20))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's data")
def test_memory_is_limited(pool: CodecPool) -> None:
    with pytest.raises(UnreadablePhoto, match="--codec-memory"):
        crash(pool, _eat_memory, 2048)
    crash(pool, _eat_memory, 64)


def test_an_interrupt_is_seen_while_a_codec_works() -> None:
    def check() -> None:
        raise Interrupted(signal.SIGINT)

    with CodecPool(timeout_s=5, memory_mb=1024, check=check) as pool, pytest.raises(Interrupted):
        crash(pool, time.sleep, 60)


def test_probing_many_finds_the_one_that_kills(pool: CodecPool, tmp_path: Path) -> None:
    for index in range(5):
        crop(8 + index, 8).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes(b"")
    found = pool.probe([tmp_path / f"{index}.png" for index in range(5)], 1e9)
    assert [isinstance(header, PhotoError) for header in found] == [False, False, True, False, False]


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "from srbatch.codec_pool import CodecPool\n"
        "if __name__ == '__main__':\n"
        "    with CodecPool(timeout_s=60, memory_mb=1024) as pool:\n"
        "        print(pool._run(os.getpid, (), 60, RuntimeError), flush=True)\n"
        "        time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs([worker], timeout=20)
    assert gone
    assert not alive

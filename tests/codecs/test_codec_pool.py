"""Workers that crash, hang or eat memory, and that do not outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from srbatch.codecs.codec_pool import CodecPool
from srbatch.errors import CodecFailed, DestinationError, Interrupted, PhotoError, UnreadablePhoto
from srbatch.watch.presence import is_disk_full
from tests.conftest import crop


@pytest.fixture(scope="module")
def pool() -> Iterator[CodecPool]:
    with CodecPool(timeout_s=5, memory_mb=1024) as made:
        yield made


def crash(pool: CodecPool, how: object, *arguments: object, limit_s: float = 30) -> None:
    pool._run(how, arguments, limit_s, CodecFailed)  # type: ignore[arg-type]


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


class Killed(CodecPool):
    """Whose workers end when they look at ``2.png``."""

    crashes = 0

    def _run(self, function: Any, arguments: tuple[Any, ...], *others: Any, **named: Any) -> Any:
        if any(path.name == "2.png" for path in arguments[0]):
            self.crashes += 1
            function, arguments = _segfault, ()
        return super()._run(function, arguments, *others, **named)


def test_probing_many_finds_the_one_that_kills(tmp_path: Path) -> None:
    for index in range(5):
        crop(8 + index, 8).save(tmp_path / f"{index}.png")
    with Killed(timeout_s=30, memory_mb=1024, workers=1) as pool:
        found = pool.probe([tmp_path / f"{index}.png" for index in range(5)], 1e9)
    assert [isinstance(header, PhotoError) for header in found] == [False, False, True, False, False]
    assert "crashed" in str(found[2])
    assert pool.crashes == 2  # each could have been a hang, which nothing goes on in


class InNoTime(CodecPool):
    """Whose workers find that one header took long enough."""

    calls = 0

    def _run(self, function: Any, arguments: tuple[Any, ...], *others: Any, **named: Any) -> Any:
        self.calls += 1
        paths, max_pixels, _ = arguments
        return super()._run(function, (paths, max_pixels, 0.0), *others, **named)


def test_many_slow_headers_are_no_hanging_one(tmp_path: Path) -> None:
    for index in range(4):
        crop(8 + index, 8).save(tmp_path / f"{index}.png")
    with InNoTime(timeout_s=30, memory_mb=1024, workers=1) as pool:
        found = pool.probe([tmp_path / f"{index}.png" for index in range(4)], 1e9)
    assert [header.height for header in found if not isinstance(header, PhotoError)] == [8, 9, 10, 11]
    assert pool.calls == 4


def test_a_photo_that_cannot_be_looked_at_costs_no_other(pool: CodecPool, tmp_path: Path) -> None:
    for index in range(3):
        crop(8 + index, 8).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"")
    found = pool.probe([tmp_path / f"{index}.png" for index in range(3)], 1e9)
    assert [isinstance(header, PhotoError) for header in found] == [False, True, False]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_of_scratch_space_is_not_the_photos_fault(pool: CodecPool, tmp_path: Path) -> None:
    crop().save(tmp_path / "a.png")
    (tmp_path / "raw").symlink_to("/dev/full")
    with pytest.raises(DestinationError, match=r"raw: No space left on device; make room") as caught:
        pool.decode(tmp_path / "a.png", tmp_path / "raw", 1e9)
    assert is_disk_full(caught.value), "so a watcher waits for room"
    with pytest.raises(DestinationError, match=r"nowhere/raw: No such file"):
        pool.decode(tmp_path / "a.png", tmp_path / "nowhere" / "raw", 1e9)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's data")
def test_a_limit_that_is_lower_already_stays(tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "from srbatch.codecs.codec_pool import CodecPool\n"
        "if __name__ == '__main__':\n"
        "    resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))\n"
        "    with CodecPool(timeout_s=60, memory_mb=4096, workers=1) as pool:\n"
        "        print(pool._run(resource.getrlimit, (resource.RLIMIT_DATA,), 60, RuntimeError))\n"
    )
    script = tmp_path / "limited.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"({1 << 30}, {1 << 30})", done.stderr


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "from srbatch.codecs.codec_pool import CodecPool\n"
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

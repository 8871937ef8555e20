"""Files are taken when they stand still, by a clock that the test moves."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import srbatch
from srbatch.discovery.found import Photo
from srbatch.errors import TargetExists
from srbatch.watch.settle import Settling, busy_test, file_system, open_for_writing
from tests.conftest import Clock, without_privileges
from tests.watch.conftest import photo


def test_a_photo_passes_after_it_stood_still(clock: Clock) -> None:
    settling = Settling(2, clock=clock)
    assert settling.look([photo()]) == []
    assert (settling.waiting, settling.due) == (1, 1002)
    clock.time += 1.9
    assert settling.look([photo()]) == []
    clock.time += 0.2
    assert settling.look([photo()]) == [photo()]
    assert (settling.waiting, settling.due) == (0, None)


@pytest.mark.parametrize(
    "changed",
    [photo(size=11), photo(mtime_ns=4), photo(mtime_ns=6), replace(photo(), problem=TargetExists("taken"))],
    ids=["grown", "older", "newer", "collides"],
)
def test_any_change_begins_anew(clock: Clock, changed: Photo) -> None:
    settling = Settling(2, clock=clock)
    settling.look([photo()])
    clock.time += 5
    assert settling.look([photo()])
    assert settling.look([changed]) == []
    clock.time += 1
    assert settling.look([changed]) == []
    clock.time += 1
    assert settling.look([changed]) == [changed]


def test_no_time_to_stand_still_is_possible(clock: Clock) -> None:
    assert Settling(0, clock=clock).look([photo()]) == [photo()]


def test_the_time_of_day_does_not_matter(clock: Clock) -> None:
    settling = Settling(2, clock=clock)
    future = photo(mtime_ns=2**62)
    settling.look([future])
    clock.time += 2
    assert settling.look([future]) == [future]


def test_what_is_gone_is_forgotten(clock: Clock) -> None:
    settling = Settling(2, clock=clock)
    settling.look([photo(), photo("b.jpg")])
    assert settling.waiting == 2
    settling.look([photo()])
    assert settling.waiting == 1
    clock.time += 5
    assert settling.look([photo("b.jpg")]) == []


def test_a_file_that_somebody_has_open_is_waited_for_but_not_for_ever(clock: Clock) -> None:
    asked = []

    def busy(path: Path) -> bool:
        asked.append(path)
        return True

    settling = Settling(2, clock=clock, busy=busy)
    settling.look([photo()])
    assert asked == []
    clock.time += 300
    assert settling.look([photo()]) == []
    assert settling.due == clock.time + 2
    clock.time += 1
    settling.look([photo()])
    assert len(asked) == 1, "it is not asked before it is due"
    clock.time += 302
    assert settling.look([photo()]) == [photo()]


def test_a_file_of_which_nobody_can_tell_is_given_a_minute_and_that_is_said_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    settling = Settling(2, clock=clock, busy=lambda path: None)
    both = [photo(), photo("b.jpg")]
    for _ in range(59):
        assert settling.look(both) == []
        clock.time += 1
    settling.look(both)
    clock.time += 2
    assert settling.look(both) == both
    (record,) = caplog.records
    assert "CAP_LEASE" in record.message
    patient = Settling(90, clock=clock, busy=lambda path: None)
    patient.look([photo()])
    clock.time += 80
    assert patient.look([photo()]) == []
    clock.time += 11
    assert patient.look([photo()]) == [photo()]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can be another user")
def test_of_a_file_of_another_user_it_is_not_known_whether_it_is_open(public: Path) -> None:
    path = public / "a.jpg"
    with path.open("wb"):
        if not open_for_writing(path):
            pytest.skip("this file system grants no leases")
        with without_privileges():
            assert open_for_writing(path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_whether_a_file_is_open_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    handles = psutil.Process().num_fds()
    with path.open("wb"):
        if not open_for_writing(path):
            pytest.skip("this file system grants no leases")
        assert busy_test(tmp_path)(path) or file_system(tmp_path) == "overlay"
    assert not open_for_writing(path)
    with path.open("rb"):
        assert not open_for_writing(path)
    assert not open_for_writing(tmp_path / "missing.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert not open_for_writing(tmp_path / "pipe.jpg")
    assert psutil.Process().num_fds() == handles


@pytest.mark.skipif(sys.platform != "linux", reason="mount points of Linux")
def test_the_file_system_of_a_folder() -> None:
    assert file_system(Path("/proc/self")) == "proc"


OVERTAKEN = """
import fcntl, subprocess, sys
from pathlib import Path
from srbatch.watch.settle import open_for_writing

WRITER = "import os, sys; os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)"
real = fcntl.fcntl

def overtaken(descriptor, command, *arguments):
    result = real(descriptor, command, *arguments)
    if command == fcntl.F_SETLEASE and arguments == (fcntl.F_RDLCK,):
        subprocess.run([sys.executable, "-c", WRITER, sys.argv[1]], stderr=subprocess.DEVNULL)
    return result

fcntl.fcntl = overtaken
open_for_writing(Path(sys.argv[1]))
print("still here")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")
def test_a_writer_that_comes_while_it_is_asked_does_not_end_the_watcher(tmp_path: Path) -> None:
    """The system tells the holder of a lease by a signal that ends a process unless another is chosen."""
    path = tmp_path / "a.jpg"
    with path.open("wb"):
        if not open_for_writing(path):
            pytest.skip("this file system grants no leases")
    done = subprocess.run(
        [sys.executable, "-c", OVERTAKEN, path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.fspath(Path(srbatch.__file__).parents[1])},
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")

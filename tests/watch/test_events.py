"""File events, and polling where they cannot be had."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from srbatch.watch import events as events_module
from srbatch.watch import settle
from srbatch.watch.events import Events


def test_events_wake_and_reading_does_not(drop: Path) -> None:
    woken = threading.Event()
    before = set(threading.enumerate())
    with Events(drop, woken.set, poll_s=None) as events:
        assert events.poll_s is None
        for change in (
            lambda: (drop / "1999" / "a.jpg").write_bytes(b"a"),
            lambda: (drop / "1999" / "a.jpg").rename(drop / "b.jpg"),
            lambda: (drop / "new").mkdir(),
            lambda: (drop / "b.jpg").unlink(),
        ):
            woken.clear()
            change()
            assert woken.wait(10), change
        (drop / "1999" / "a.jpg").write_bytes(b"a")
        time.sleep(0.3)
        woken.clear()
        (drop / "1999" / "a.jpg").read_bytes()
        list(drop.iterdir())
        assert not woken.wait(0.3)
        events.check()
        events.renew()
        (drop / "c.jpg").write_bytes(b"c")
        assert woken.wait(10)
    left = [t for t in set(threading.enumerate()) - before if not t.daemon]
    assert not left


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_at_the_limit_of_inotify_the_folder_is_polled(
    drop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    from watchdog.observers import api

    def refused(self: object) -> None:
        raise OSError(number, "inotify limit reached")

    monkeypatch.setattr(api.BaseObserver, "on_thread_start", refused)
    with Events(drop, lambda: None, poll_s=None) as events:
        assert events.poll_s == events_module.FALLBACK_POLL_S
    assert "inotify limit reached" in caplog.text
    assert "--poll" in caplog.text


def test_a_limit_that_is_reached_later_is_noticed(drop: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Events(drop, lambda: None, poll_s=None) as events:
        assert events._observer is not None
        for emitter in events._observer.emitters:
            emitter.stop()
            emitter.join(10)
        events.check()
        assert events.poll_s == events_module.FALLBACK_POLL_S
    assert "stopped coming" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_a_limit_that_hits_sub_folders_alone_is_noticed(drop: Path) -> None:
    for index in range(20):
        (drop / str(index)).mkdir()
    script = (
        "import sys, pathlib, srbatch.watch.events as e\n"
        "pathlib.Path('/proc/sys/user/max_inotify_watches').write_text('10')\n"
        "with e.Events(pathlib.Path(sys.argv[1]), print, poll_s=None) as events: print(events.poll_s)"
    )
    # In a user namespace of its own a process may lower the limit, for itself.
    alone = ["unshare", "--user", "--map-root-user"]
    lower = "echo 10 > /proc/sys/user/max_inotify_watches"
    try:
        subprocess.run([*alone, "sh", "-c", lower], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no user namespaces here: {error}")
    command = [*alone, sys.executable, "-c", script, os.fspath(drop)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == str(events_module.FALLBACK_POLL_S)
    assert "inotify" in done.stderr
    assert "limit" in done.stderr


def test_network_shares_are_polled(
    drop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events_module, "file_system", lambda folder: "nfs4")
    with Events(drop, lambda: None, poll_s=None) as events:
        assert events.poll_s == events_module.FALLBACK_POLL_S
    assert "nfs4" in caplog.text
    with Events(drop, lambda: None, poll_s=7) as events:
        assert events.poll_s == 7
    assert settle.NETWORK.isdisjoint({"ext4", "zfs", "apfs"})

"""The parts of the watcher, each by itself."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.commit import destination_error
from srbatch.discover import Photo
from srbatch.errors import DestinationError, UsageError
from srbatch.formats import Format
from srbatch.ledger import Ledger, LedgerError, Row
from srbatch.options import Options
from srbatch.report import Outcome
from srbatch.watch import events as events_module
from srbatch.watch import moving, presence, settle
from srbatch.watch.agenda import PAUSES_S, Agenda
from srbatch.watch.control import Control
from srbatch.watch.events import Events
from srbatch.watch.log import Log, configure
from srbatch.watch.moving import NotMoved, Shelf, move_by_links, move_new
from srbatch.watch.presence import Presence, Room, is_disk_full
from srbatch.watch.pulse import Pulse
from srbatch.watch.renamed import key_of, placed
from srbatch.watch.sd_notify import Notifier
from srbatch.watch.status import Snapshot, WatchStatus, read
from tests.conftest import Clock
from tests.test_settle import photo

# ---- agenda --------------------------------------------------------------------------------------


def test_new_and_changed_photos_are_judged_once(clock: Clock) -> None:
    agenda, changed = Agenda(clock=clock), photo(size=11)
    assert agenda.pick([photo()]) == ([photo()], [])
    agenda.ended(photo())
    assert agenda.pick([photo()]) == ([], [])
    assert agenda.pick([photo()], everything=True) == ([photo()], [])
    assert agenda.pick([changed]) == ([changed], [])


def test_a_failure_is_tried_again_with_growing_pauses_and_then_given_up(clock: Clock) -> None:
    agenda = Agenda(clock=clock)
    for pause_s in PAUSES_S:
        assert agenda.failed(photo(), final=False) == pause_s
        assert agenda.due == clock.time + pause_s
        assert agenda.pick([photo()], everything=True) == ([], [])
        clock.time += pause_s
        assert agenda.pick([photo()]) == ([], [photo()])
    assert agenda.failed(photo(), final=False) is None
    assert agenda.due is None
    assert agenda.pick([photo()], everything=True) == ([], [])
    assert agenda.failures == 1
    assert agenda.pick([photo(mtime_ns=6)]) == ([photo(mtime_ns=6)], [])
    assert agenda.failed(photo(mtime_ns=6), final=False) == PAUSES_S[0], "it begins anew"


def test_what_time_does_not_mend_is_given_up_at_once(clock: Clock) -> None:
    agenda = Agenda(clock=clock)
    assert agenda.failed(photo(), final=True) is None
    agenda.pick([])
    assert agenda.failures == 0, "it is gone"


# ---- names ---------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a.jpg", "a.JPG", "b.bmp", "a.5f2c9a31.jpg", "a.jpg.png"])
CONTENTS = st.integers(0, 5)


@given(st.lists(st.tuples(NAMES, CONTENTS, st.booleans())), st.sampled_from([None, Format.PNG]))
def test_every_photo_has_one_name_for_ever_and_shares_it_with_none(
    drops: list[tuple[str, int, bool]], to: Format | None
) -> None:
    """A model of drops into a folder that is emptied after each of them."""
    from srbatch.discover import target_name

    ledger: dict[str, Row] = {}
    names: dict[tuple[str, int], str] = {}
    for name, content, collides in drops:
        # Hashes that begin alike make the longer names necessary.
        sha256 = f"{'5f2c9a31' if collides else f'{content:08x}'}{content:056x}"
        key = (name, int(sha256, 16))
        natural = target_name(name, to)
        new = replace(photo(name), relative=Path(natural), target=Path("hi", natural))
        if natural in ledger:
            new = placed(new, sha256, to=to, row_of=ledger.get, is_taken=lambda relative: False)
        assert new.problem is None
        relative = new.relative.as_posix()
        assert new.target == Path("hi", relative)
        assert names.setdefault(key, relative) == relative, "it is stable"
        if relative in ledger:
            assert ledger[relative].sha256 == sha256, "no output is replaced"
        ledger[relative] = Row(
            target=relative, status="done", source="", size=1, mtime_ns=1, sha256=sha256, recipe=""
        )


def test_a_name_that_is_taken_by_something_else_is_made_longer() -> None:
    row = Row(target="a.jpg", status="done", source="x", size=1, mtime_ns=1, sha256="0" * 64, recipe="")
    taken = {"a.12345678.jpg"}

    def found(is_taken: Callable[[PurePath], bool]) -> Photo:
        rows = {"a.jpg": row}
        return placed(photo("a.jpg"), "1234567890abcdef" * 4, to=None, row_of=rows.get, is_taken=is_taken)

    assert found(lambda path: path.name in taken).relative.name == "a.1234567890abcdef.jpg"
    assert "rename the photo" in str(found(lambda path: True).problem)


def test_names_that_one_file_system_takes_for_one_have_one_key() -> None:
    assert key_of(PurePath("É/A.jpg")) == key_of(PurePath("é/a.JPG"))


# ---- moves ---------------------------------------------------------------------------------------


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "drop" / "1999").mkdir(parents=True)
    return tmp_path / "drop"


def lying(path: Path, data: bytes = b"photo") -> Photo:
    path.write_bytes(data)
    status = path.stat()
    return replace(photo(path.name), source=path, size=status.st_size, mtime_ns=status.st_mtime_ns)


def shelf(drop: Path) -> Shelf:
    return Shelf("--done", drop.parent / "done", watched=drop, out=drop.parent / "hi")


def quiet(path: Path) -> None:
    pass


@pytest.mark.parametrize("way", [move_new, move_by_links])
def test_a_move_never_replaces(tmp_path: Path, way: Callable[[Path, Path], None]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"a")
    b.write_bytes(b"b")
    with pytest.raises(FileExistsError):
        way(a, b)
    assert (a.read_bytes(), b.read_bytes()) == (b"a", b"b")
    way(a, tmp_path / "c")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "c"]
    assert (tmp_path / "c").read_bytes() == b"a"


def test_by_links_a_file_that_takes_the_name_meanwhile_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, link = tmp_path / "a", os.link
    a.write_bytes(b"a")

    def link_and_be_overtaken(source: Path, target: Path, **others: bool) -> None:
        link(source, target, **others)
        if Path(source) == a:
            (tmp_path / "new").write_bytes(b"another")
            (tmp_path / "new").replace(a)

    monkeypatch.setattr(os, "link", link_and_be_overtaken)
    move_by_links(a, tmp_path / "b")
    assert (a.read_bytes(), (tmp_path / "b").read_bytes()) == (b"another", b"a")
    assert len(list(tmp_path.iterdir())) == 2


def test_where_the_kernel_does_not_offer_it_links_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(moving, "_rename_exclusively", refused)
    (tmp_path / "a").write_bytes(b"a")
    move_new(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"a"


def test_originals_keep_their_folders_and_get_other_names_where_theirs_are_taken(drop: Path) -> None:
    told: list[Path] = []
    names = []
    for data in (b"1", b"2", b"2", b"3"):
        found = lying(drop / "1999" / "a.jpg", data)
        names.append(shelf(drop).move(found, tag=data.decode() * 8, before=told.append).name)
    assert names == ["a.jpg", "a.22222222.jpg", "a.22222222.2.jpg", "a.33333333.jpg"]
    assert [path.name for path in told] == names
    done = drop.parent / "done" / "1999"
    assert [(done / name).read_bytes() for name in names] == [b"1", b"2", b"2", b"3"]
    assert list((drop / "1999").iterdir()) == []


def test_sidecars_move_along_unless_another_photo_needs_them(drop: Path) -> None:
    for name in ("a.jpg.xmp", "a.xmp", "b.xmp", "b.dng"):
        (drop / name).write_bytes(b"")
    for name in ("a.jpg", "b.jpg"):
        shelf(drop).move(lying(drop / name), before=quiet)
    assert sorted(p.name for p in (drop.parent / "done").iterdir()) == [
        "a.jpg",
        "a.jpg.xmp",
        "a.xmp",
        "b.jpg",
    ]
    assert sorted(p.name for p in drop.iterdir()) == ["1999", "b.dng", "b.xmp"]


def test_a_text_tells_why_also_after_a_move_that_was_cut_off(drop: Path) -> None:
    failed = drop.parent / "done"
    failed.mkdir()
    (failed / "a.jpg.txt").write_text("because")  # the move had come so far
    (failed / "b.jpg.txt").write_text("somebody's")
    for name in ("a.jpg", "b.jpg"):
        shelf(drop).move(lying(drop / name), text="because", before=quiet)
    assert {p.name: p.read_bytes() for p in failed.iterdir()} == {
        "a.jpg": b"photo",
        "a.jpg.txt": b"because",
        "b.jpg.txt": b"somebody's",
        "b.2.jpg": b"photo",
        "b.2.jpg.txt": b"because",
    }


def test_links_are_not_moved_and_neither_is_what_they_lead_to(drop: Path) -> None:
    elsewhere = drop.parent / "elsewhere"
    elsewhere.mkdir()
    original = lying(elsewhere / "a.jpg")
    (drop / "a.jpg").symlink_to(elsewhere / "a.jpg")
    (drop / "linked").symlink_to(elsewhere)
    for path in (drop / "a.jpg", drop / "linked" / "a.jpg"):
        with pytest.raises(NotMoved, match="a link leads to it"):
            shelf(drop).move(replace(original, source=path), before=quiet)
        assert path.exists()


def test_a_photo_that_has_changed_stays(drop: Path) -> None:
    found = lying(drop / "a.jpg")
    (drop / "a.jpg").write_bytes(b"rewritten")
    with pytest.raises(NotMoved, match="has changed"):
        shelf(drop).move(found, before=quiet)

    found = lying(drop / "a.jpg")

    def overtaken(path: Path) -> None:
        (drop / "a.jpg").write_bytes(b"another one")

    with pytest.raises(NotMoved, match="another file has its name"):
        shelf(drop).move(found, before=overtaken)
    assert (drop / "a.jpg").read_bytes() == b"another one"
    assert list((drop.parent / "done").iterdir()) == []


def test_a_file_system_that_refuses_is_told_of(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(moving, "move_new", refused)
    with pytest.raises(NotMoved, match=os.strerror(errno.EXDEV)):
        shelf(drop).move(lying(drop / "a.jpg"), before=quiet)
    assert (drop / "a.jpg").exists()


@pytest.mark.parametrize("place", ["drop/done", "drop", "hi/done", "hi", ""])
def test_a_shelf_inside_or_around_other_folders_is_refused(drop: Path, place: str) -> None:
    (drop.parent / "hi").mkdir()
    with pytest.raises(UsageError, match="--done"):
        Shelf("--done", drop.parent / place, watched=drop, out=drop.parent / "hi")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="another disk is needed")
def test_a_shelf_on_another_disk_is_refused(drop: Path) -> None:
    if Path("/dev/shm").stat().st_dev == drop.stat().st_dev:
        pytest.skip("another disk is needed")
    with pytest.raises(UsageError, match="another disk"):
        Shelf("--done", Path("/dev/shm"), watched=drop, out=drop.parent / "hi")


# ---- the service manager -------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(os.fspath(tmp_path / "notify"))
        listener.settimeout(0.01)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(listener.recv(4096).decode())
        except TimeoutError:
            return said


def test_what_a_service_manager_is_told(tmp_path: Path, manager: socket.socket, clock: Clock) -> None:
    named = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
    notifier = Notifier(named, clock=clock)
    notifier.ready()
    notifier.status("idle")
    notifier.ping()
    notifier.ping()
    clock.time += 30
    notifier.ping()
    notifier.stopping()
    assert heard(manager) == ["READY=1", "STATUS=idle", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}],
)
def test_where_nobody_asked_nothing_is_sent(
    environ: dict[str, str], tmp_path: Path, manager: socket.socket
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ})
    notifier.ping()
    assert heard(manager) == []
    silent = Notifier(environ)
    silent.ready()
    Notifier({"NOTIFY_SOCKET": "@nobody-listens-here"}).ready()


def test_a_photo_that_is_stuck_silences_the_pulse(clock: Clock) -> None:
    class Counting(Notifier):
        pings = 0

        def ping(self) -> None:
            self.pings += 1

    notifier = Counting({})
    pulse = Pulse(notifier, Options(inputs=(Path("a"),), out=Path("b")), clock=clock)
    clock.time += 1e6
    pulse.beat()
    assert notifier.pings == 1, "nothing in hand, nothing stuck"
    pulse.started(photo(), 1_000_000)
    clock.time += 600 + 16 * 6 - 1
    pulse.progress(photo(), 1)
    clock.time += 600 + 16 * 6 - 1
    pulse.beat()
    assert notifier.pings == 2
    clock.time += 2
    pulse.beat()
    assert notifier.pings == 2
    pulse.finished(Outcome(photo(), "done"))
    pulse.beat()
    assert notifier.pings == 3


# ---- sleep and signals ---------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_sleep(number: int) -> None:
    before = signal.getsignal(number)
    with Control(stop_within_s=5) as control, control.signals():
        timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
        timer.start()
        assert control.sleep(20)
        timer.join()
        assert control.stopping == number
        assert not control.overdue
        control.now = lambda: time.monotonic() + 6  # type: ignore[method-assign]
        assert control.overdue
    assert signal.getsignal(number) is before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_sighup_asks_to_look_again() -> None:
    with Control(stop_within_s=5) as control, control.signals():
        assert not control.take_look_again()
        os.kill(os.getpid(), signal.SIGHUP)
        assert control.sleep(20)
        assert control.take_look_again()
        assert not control.take_look_again()
        assert control.stopping is None


def test_waking_up_from_a_thread_before_during_and_after() -> None:
    with Control(stop_within_s=5) as control:
        for _ in range(100_000):
            control.wake()
        assert control.sleep(20)
        assert not control.sleep(0)
        timer = threading.Timer(0.05, control.wake)
        timer.start()
        assert control.sleep(20)
        timer.join()
    control.wake()


# ---- file events ---------------------------------------------------------------------------------


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


# ---- presence and room ---------------------------------------------------------------------------


def test_an_unmounted_share_is_told_from_an_empty_folder(drop: Path) -> None:
    found = Presence(drop, by_inode=True)
    assert found.why_away() is None
    (drop / "1999").rmdir()
    assert found.why_away() is None, "an empty folder is one without photos"
    drop.rename(drop.with_name("elsewhere"))
    assert "cannot be listed" in (found.why_away() or "")
    drop.mkdir()
    assert "share unmounted" in (found.why_away() or "")
    assert found.is_new
    drop.rmdir()
    drop.with_name("elsewhere").rename(drop)
    assert found.why_away() is None
    drop.rename(drop.with_name("elsewhere"))
    drop.mkdir()
    (drop / "a.jpg").write_bytes(b"")
    assert found.why_away() is None, "another folder with something in it is taken"


def test_a_share_that_gives_out_new_inodes_is_the_same(drop: Path) -> None:
    found = Presence(drop, by_inode=False)
    drop.rename(drop.with_name("elsewhere"))
    assert not found.is_same()
    drop.mkdir()
    assert found.is_same()
    assert found.why_away() is None


def test_a_full_disk_is_known_by_its_cause() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for cause, expected in ((full, True), (OSError(errno.EDQUOT, ""), True), (OSError(errno.EIO, ""), False)):
        error = destination_error(cause, Path("x"))
        error.__cause__ = cause
        assert is_disk_full(error) is expected
    cause = sqlite3.OperationalError("database or disk is full")
    cause.sqlite_errorcode = sqlite3.SQLITE_FULL
    error = LedgerError("x")
    error.__cause__ = cause
    assert is_disk_full(error)
    assert not is_disk_full(DestinationError("x"))


def test_room_is_worth_a_try_when_it_has_grown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = 1000
    monkeypatch.setattr(presence, "_free", lambda folder: free)
    room = Room([tmp_path])
    assert not room.has_grown()
    free += presence._ROOM
    assert room.has_grown()


# ---- what is told --------------------------------------------------------------------------------


def test_the_status_file_is_whole_and_rarely_written(tmp_path: Path, clock: Clock) -> None:
    said: list[str] = []
    status = WatchStatus(tmp_path, Path("drop"), clock=clock, notify=said.append)
    assert read(tmp_path) is None
    status.tell("at work", queue=2, unsettled=1)
    status.started(photo(), 1000)
    status.write()
    found = read(tmp_path)
    assert found is not None
    assert (found.state, found.queue, found.unsettled, found.in_hand) == ("at work", 2, 1, [])
    clock.time += 2
    status.write()
    assert (read(tmp_path) or found).in_hand == ["a.jpg"]
    clock.time += 2
    status.finished(Outcome(photo(), "done", size_in=(1000, 1000)))
    status.finished(Outcome(photo("b.jpg"), "failed", "is damaged", "UnreadablePhoto"))
    status.write()
    found = read(tmp_path)
    assert found is not None
    assert (found.done, found.failed, found.queue, found.in_hand) == (1, 1, 0, [])
    assert found.rate == pytest.approx(1 / 4)
    assert found.errors[0][1:] == (os.fspath(Path("drop", "b.jpg")), "is damaged")
    assert found.alive
    assert "at work" in found.headline
    assert json.loads(json.dumps(found.as_record()))["errors"][0]["reason"] == "is damaged"
    before = (tmp_path / "watch.json").stat().st_mtime_ns
    clock.time += 100
    status.write()
    assert (tmp_path / "watch.json").stat().st_mtime_ns == before, "nothing has changed"
    status.tell("idle")
    assert said == ["at work", "idle"]
    assert [path.name for path in tmp_path.iterdir()] == ["watch.json"]


def test_what_a_watcher_that_has_ended_left_is_known(tmp_path: Path) -> None:
    mine = Snapshot(socket.gethostname(), os.getpid(), psutil.Process().create_time(), "drop", "idle")
    assert mine.alive is True
    assert replace(mine, begun=mine.begun - 100).alive is False, "its number was given to another process"
    assert replace(mine, pid=2**22 + 1).alive is False
    assert "has ended" in replace(mine, pid=2**22 + 1).headline
    assert replace(mine, host="elsewhere").alive is None
    assert "by its word of" in replace(mine, host="elsewhere").headline
    (tmp_path / "watch.json").write_text("{")
    assert read(tmp_path) is None


def test_a_status_that_cannot_be_written_ends_nothing(tmp_path: Path, clock: Clock) -> None:
    status = WatchStatus(tmp_path / "missing", Path("drop"), clock=clock, notify=lambda state: None)
    status.tell("idle")


def test_the_live_view(tmp_path: Path) -> None:
    from rich.console import Console

    from srbatch.watch import live_view

    class Enough(Exception):
        pass

    def enough() -> None:
        if now.time > 1030:
            raise Enough

    def pass_time(seconds: float) -> None:
        now.time += seconds
        if 1010 < now.time < 1010.3:
            status.tell("at work", queue=3)
            status.started(photo("in hand.jpg"), 100)
            status.finished(Outcome(photo("bad.jpg"), "failed", "is [bold]damaged", "UnreadablePhoto"))
            status.write(now=True)

    now, state = Clock(), tmp_path / ".srbatch"
    state.mkdir()
    Ledger.open(state).close()
    status = WatchStatus(state, Path("drop"), clock=now, notify=lambda state: None)
    console = Console(record=True, width=100, force_terminal=True, file=io.StringIO())
    with pytest.raises(Enough):
        live_view.show(tmp_path, None, check=enough, console=console, clock=now, sleep=pass_time)
    text = console.export_text()
    for said in ("no srbatch watch ever wrote", "at work", "2 waiting", "in hand.jpg", "is [bold]damaged"):
        assert said in text
    assert "0 done, 0 skipped, 0 failed in all" in text


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("srbatch")
    before = (root.handlers[:], ours.level)
    yield
    root.handlers[:] = before[0]
    ours.setLevel(before[1])
    logging.getLogger("watchdog").setLevel(logging.NOTSET)


@pytest.mark.usefixtures("logging_restored")
def test_the_log_in_both_its_forms(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Outcome(photo(), "failed", "is\ndamaged", "UnreadablePhoto")
    configure("info", as_json=True)
    Log().finished(failed)
    Log().finished(Outcome(photo(), "skipped", "done before"))
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["level"], record["status"], record["error"]) == ("warning", "failed", "UnreadablePhoto")
    assert record["time"].endswith("Z")
    configure("warning", as_json=False)
    Log().finished(Outcome(photo(), "done"))
    Log().finished(failed)
    assert capsys.readouterr().err.startswith(time.strftime("%Y-"))
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    configure("warning", as_json=False)
    Log().finished(failed)
    assert capsys.readouterr().err.startswith("WARNING failed")

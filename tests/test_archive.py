"""The output folder of a run: what a killed run left is put right, and nothing else is touched."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from srbatch.archive import Archive, looked_into, opened, state_folder
from srbatch.commit import temp_path
from srbatch.errors import DestinationError, LockedError, SrbatchError
from srbatch.ledger import STATE_FOLDER, Ledger, LedgerError, Row
from srbatch.options import Options
from tests.conftest import without_privileges
from tests.processes import running

BE_KILLED = """
import sys
from pathlib import Path
from srbatch.archive import opened
from srbatch.commit import temp_path
from srbatch.options import Options

out, scratch = Path(sys.argv[1]), sys.argv[2]
options = Options(inputs=(Path("photos"),), out=out, scratch=Path(scratch) if scratch else None)
with opened(options, "srbatch upscale") as archive, archive.scratch.for_photo() as pixels:
    pixels.array(10, 10, 3)[:] = 7
    temp = temp_path(out / "a.jpg")
    archive.ledger.begin("a.jpg", temp.name)
    temp.write_bytes(b"half")
    print(end="ready\\n", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"original")
    return folder


@pytest.fixture
def options(tmp_path: Path, photos: Path) -> Options:
    return Options(inputs=(photos,), out=tmp_path / "hi")


def with_(options: Options, **changes: object) -> Options:
    return Options(**{"inputs": options.inputs, "out": options.out, **changes})  # type: ignore[arg-type]


def row_of(content: bytes, **changes: object) -> Row:
    row = {
        "target": "a.jpg",
        "status": "done",
        "source": "../photos/a.jpg",
        "size": 8,
        "mtime_ns": 1,
        "sha256": "ab" * 32,
        "recipe": "{}",
        "target_size": len(content),
        "target_sha256": hashlib.sha256(content).hexdigest(),
    }
    return Row(**{**row, **changes})  # type: ignore[arg-type]


def killed_while_writing(options: Options, *, row: Row | None = None) -> Path:
    """The folder as a killed run leaves it: a write is pending, its temporary file is there."""
    state = state_folder(options.out, options.state)
    state.mkdir(parents=True)
    temp = temp_path(options.out / "a.jpg")
    temp.write_bytes(b"half of an output")
    ledger = Ledger.open(state)
    ledger.begin("a.jpg", temp.name)
    if row is not None:
        ledger.about_to_commit(row)
    ledger.close()
    return temp


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ---- what a killed run left ----------------------------------------------------------------------


@pytest.mark.parametrize("row", [None, row_of(b"whole")], ids=["half", "whole"])
def test_a_temporary_file_is_removed_and_the_photo_is_to_be_done(options: Options, row: Row | None) -> None:
    temp = killed_while_writing(options, row=row)
    with opened(options, "again") as archive:
        assert archive.ledger.pending() == []
        assert archive.ledger.row("a.jpg") is None
    assert not temp.exists()
    assert not (options.out / "a.jpg").exists()


def test_an_output_that_has_its_name_but_no_row_is_done(options: Options) -> None:
    temp = killed_while_writing(options, row=row_of(b"whole"))
    temp.unlink()
    (options.out / "a.jpg").write_bytes(b"whole")
    with opened(options, "again") as archive:
        assert archive.ledger.row("a.jpg") == row_of(b"whole")
        assert archive.ledger.pending() == []
    assert (options.out / "a.jpg").read_bytes() == b"whole"


def test_an_output_that_has_both_names_is_done_and_the_temporary_one_goes(options: Options) -> None:
    temp = killed_while_writing(options, row=row_of(b"whole"))
    temp.write_bytes(b"whole")
    (options.out / "a.jpg").hardlink_to(temp)
    with opened(options, "again") as archive:
        assert archive.ledger.row("a.jpg") == row_of(b"whole")
    assert not temp.exists()
    assert (options.out / "a.jpg").read_bytes() == b"whole"


def test_an_older_output_stays_and_so_does_its_row(options: Options) -> None:
    killed_while_writing(options, row=row_of(b"newer"))
    ledger = Ledger.open(state_folder(options.out, None))
    older = row_of(b"older", recipe='{"size": "x2"}')
    ledger.record(older)
    ledger.begin("a.jpg", ".srbatch-other.part")
    ledger.about_to_commit(row_of(b"newer"))
    ledger.close()
    (options.out / "a.jpg").write_bytes(b"older")
    with opened(options, "again") as archive:
        assert archive.ledger.row("a.jpg") == older
        assert archive.ledger.pending() == []
    assert (options.out / "a.jpg").read_bytes() == b"older"


def test_a_file_that_somebody_else_put_there_stays_without_a_row(options: Options) -> None:
    killed_while_writing(options, row=row_of(b"ours"))
    (options.out / "a.jpg").write_bytes(b"somebody else's")
    with opened(options, "again") as archive:
        assert archive.ledger.row("a.jpg") is None
        assert archive.ledger.pending() == []
    assert (options.out / "a.jpg").read_bytes() == b"somebody else's"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the output folder", "--scratch"])
def test_a_run_that_was_killed_leaves_nothing_after_the_next(
    options: Options, tmp_path: Path, elsewhere: bool
) -> None:
    fast = tmp_path / "fast"
    options = with_(options, scratch=fast) if elsewhere else options
    with running(BE_KILLED, options.out, fast if elsewhere else "") as process:
        process.kill()
        process.wait()
    assert {Path(name).suffix for name in names_below(tmp_path)} >= {".part", ".raw"}
    with opened(options, "again") as archive:
        assert names_below(archive.scratch.folder) == []
        assert archive.ledger.pending() == []
    assert {Path(name).suffix for name in names_below(tmp_path)}.isdisjoint({".part", ".raw"})
    assert not archive.scratch.folder.exists()


OWN = ".srbatch-0123456789ab.part"


@pytest.mark.parametrize("keeps_files", [False, True], ids=["a run", "a look"])
@pytest.mark.parametrize(
    ("target", "temp"),
    [
        ("a.jpg", "../photos/a.jpg"),
        ("a.jpg", "{}/photos/a.jpg"),
        ("a.jpg", "edited.jpg"),
        ("a.jpg", "1999/../../photos/a.jpg"),
        ("a.jpg", f"../photos/{OWN}"),
        ("a.jpg", f"{{}}/photos/{OWN}"),
        ("../photos/a.jpg", f"../photos/{OWN}"),
        ("{}/photos/a.jpg", f"{{}}/photos/{OWN}"),
        ("a\0.jpg", OWN),
        ("", OWN),
    ],
)
def test_a_ledger_of_others_has_no_file_deleted(
    options: Options,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    target: str,
    temp: str,
    keeps_files: bool,
) -> None:
    (options.inputs[0] / OWN).write_bytes(b"somebody's")
    killed_while_writing(options).unlink()
    (options.out / "1999").mkdir()
    (options.out / "edited.jpg").write_bytes(b"somebody's")
    named = [text.format(tmp_path) for text in (target, temp)]
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.drop("a.jpg")
    ledger.begin(named[0], named[1], row_of(b"original", target=named[0]))
    ledger.close()
    before = {name for name in names_below(tmp_path) if ".srbatch/" not in name}
    for _ in range(2):
        with (looked_into if keeps_files else partial(opened, command="again"))(options) as archive:
            assert archive.ledger.pending() == []
            assert list(archive.ledger.rows()) == []
    assert {name for name in names_below(tmp_path) if ".srbatch/" not in name} == before
    assert caplog.text.count("which no srbatch does") == (2 if keeps_files else 1)


@pytest.mark.parametrize("coming", [None, hashlib.sha256(b"evil").hexdigest()], ids=["goes", "is replaced"])
@pytest.mark.parametrize("before", [hashlib.sha256(b"captions").hexdigest(), ["odd"], 5])
def test_a_ledger_of_others_has_no_sidecar_changed_among_the_originals(
    options: Options, tmp_path: Path, coming: str | None, before: object
) -> None:
    (options.inputs[0] / "a.jpg.xmp").write_bytes(b"captions")
    killed_while_writing(options).unlink()
    (options.out / "1999").symlink_to(options.inputs[0])
    (options.inputs[0] / OWN.replace(".part", ".xmp.part")).write_bytes(b"evil")
    details = json.dumps({"sidecar_before": before, "sidecar_sha256": coming})
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.begin("1999/a.jpg", f"1999/{OWN}", row_of(b"original", target="1999/a.jpg", details=details))
    ledger.close()
    with opened(options, "again") as archive:
        assert archive.ledger.pending() == []
    assert (options.inputs[0] / "a.jpg.xmp").read_bytes() == b"captions"
    assert (options.inputs[0] / "a.jpg").read_bytes() == b"original"


@pytest.mark.parametrize("keeps_files", [False, True], ids=["a run", "a look"])
def test_a_sidecar_that_lies_ready_gets_its_name_and_a_look_moves_none(
    options: Options, keeps_files: bool
) -> None:
    temp = killed_while_writing(options)
    temp.unlink()
    (options.out / "a.jpg").write_bytes(b"whole")
    ready = temp.with_name(f"{temp.stem}.xmp.part")
    ready.write_bytes(b"captions")
    known = {"sidecar_sha256": hashlib.sha256(b"captions").hexdigest()}
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.about_to_commit(row_of(b"whole", details=json.dumps({**known, "sidecar_before": None})))
    ledger.close()
    with (looked_into if keeps_files else partial(opened, command="again"))(options) as archive:
        row = archive.ledger.row("a.jpg")
        assert row is not None
        assert keeps_files or json.loads(row.details) == known
    assert ready.exists() == keeps_files
    assert (options.out / "a.jpg.xmp").exists() != keeps_files


def test_a_note_of_one_target_with_the_row_of_another_is_forgotten(options: Options) -> None:
    killed_while_writing(options, row=None)
    (options.out / "a.jpg").write_bytes(b"whole")
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.begin("a.jpg", OWN, row_of(b"whole", target="../photos/a.jpg"))
    ledger.close()
    with opened(options, "again") as archive:
        assert list(archive.ledger.rows()) == []


@pytest.mark.parametrize(
    "changes",
    [{"mtime_ns": 2**63}, {"size": None}, {"details": []}, {"recipe": "\udcff"}],
    ids=["too large", "null", "no text", "surrogate"],
)
def test_a_finished_output_of_which_no_note_can_be_made_blocks_no_run(
    options: Options, caplog: pytest.LogCaptureFixture, changes: dict[str, object]
) -> None:
    temp = killed_while_writing(options, row=row_of(b"whole", **changes))
    (options.out / "a.jpg").write_bytes(b"whole")
    for _ in range(2):
        with opened(options, "again") as archive:
            assert archive.ledger.pending() == []
            assert list(archive.ledger.rows()) == []
    assert not temp.exists()
    assert (options.out / "a.jpg").read_bytes() == b"whole"
    assert caplog.text.count("no note of it can be made") == 1


def test_a_temporary_file_behind_a_link_to_another_disk_is_removed(options: Options, tmp_path: Path) -> None:
    killed_while_writing(options)
    (tmp_path / "disk").mkdir()
    (options.out / "1999").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / OWN).write_bytes(b"half")
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.begin("1999/a.jpg", f"1999/{OWN}")
    ledger.close()
    with opened(options, "again") as archive:
        assert archive.ledger.pending() == []
    assert names_below(tmp_path / "disk") == []


# ---- scratch -------------------------------------------------------------------------------------


def test_scratch_elsewhere_deletes_nothing_of_others(options: Options, tmp_path: Path) -> None:
    fast = tmp_path / "fast"
    for name in ("mine.txt", "srbatch-of-others/pixels.raw", "scratch/pixels.raw"):
        (fast / name).parent.mkdir(parents=True, exist_ok=True)
        (fast / name).write_bytes(b"kept")
    before = names_below(fast)
    with opened(with_(options, scratch=fast), "run") as archive:
        assert fast in archive.scratch.folder.parents
    assert names_below(fast) == before


def test_output_folders_do_not_share_scratch(options: Options, tmp_path: Path) -> None:
    fast = tmp_path / "fast"
    first, second = with_(options, scratch=fast), with_(options, out=tmp_path / "other", scratch=fast)
    with opened(first, "run") as one:
        (one.scratch.folder / "pixels.raw").write_bytes(b"in use")
        with opened(second, "run"):
            pass
        assert (one.scratch.folder / "pixels.raw").read_bytes() == b"in use"


def test_a_state_folder_with_something_in_it_loses_nothing(options: Options, tmp_path: Path) -> None:
    state = tmp_path / "work"
    precious = state / "scratch" / "only-copy.tif"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"precious")
    with opened(with_(options, state=state), "run"):
        pass
    assert precious.exists()


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_link_where_scratch_is_due_has_nothing_deleted_that_it_leads_to(
    options: Options, tmp_path: Path, when: str
) -> None:
    foreign = tmp_path / "foreign"
    for number in range(3):
        (foreign / str(number)).mkdir(parents=True)
        (foreign / str(number) / "only-copy.tif").write_bytes(b"precious")
    before = names_below(foreign)
    with opened(options, "run") as archive:
        place = archive.scratch.folder
    if when == "before":
        place.symlink_to(foreign)
    with opened(options, "again") as archive:
        if when == "during":
            place.rmdir()
            place.symlink_to(foreign)
        for _ in range(3):
            with archive.scratch.for_photo() as pixels:
                pixels.array(2, 3, 1)
        assert place.is_symlink() == (when == "during")
    assert names_below(foreign) == before


@pytest.mark.parametrize("elsewhere", [None, "fast"])
def test_scratch_of_a_killed_run_goes_also_once_its_output_folder_was_moved(
    options: Options, tmp_path: Path, elsewhere: str | None
) -> None:
    with running(BE_KILLED, options.out, "") as run:
        run.kill()
        run.wait()
    old = options.out / ".srbatch" / "srbatch-0123456789abcdef"  # as an earlier version named it
    (old / "0").mkdir(parents=True)
    (old / "0" / "0.raw").write_bytes(b"pixels")
    assert len([name for name in names_below(options.out) if name.endswith(".raw")]) == 2
    foreign = tmp_path / "foreign"
    (foreign / "0").mkdir(parents=True)
    (foreign / "0" / "only-copy.tif").write_bytes(b"precious")
    (options.out / ".srbatch" / "srbatch-0123456789abcdee").symlink_to(foreign)
    kept = ("srbatch-of-others", "srbatch-0123456789abcdef0")
    for name in kept:
        (options.out / ".srbatch" / name).mkdir()
    options.out.rename(tmp_path / "moved")
    changes = {"scratch": tmp_path / elsewhere} if elsewhere else {}
    with opened(with_(options, out=tmp_path / "moved", **changes), "run"):
        assert not [name for name in names_below(tmp_path / "moved") if name.endswith(".raw")]
    assert {name for name in names_below(tmp_path / "moved") if "srbatch-" in name} >= {
        f".srbatch/{name}" for name in kept
    }
    assert names_below(foreign) == ["0", "0/only-copy.tif"]


def test_a_full_scratch_disk_is_a_destination_error(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(options, "run") as archive, archive.scratch.for_photo() as pixels:
        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(DestinationError, match="make room"):
            pixels.array(10, 10, 3)


def test_a_scratch_disk_without_room_for_a_folder_is_a_destination_error(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(options, "run") as archive:
        monkeypatch.setattr(os, "mkdir", full)
        with pytest.raises(DestinationError), archive.scratch.for_photo():
            pass


def test_scratch_of_a_photo_is_gone_when_it_ends_however(options: Options) -> None:
    def fail(archive: Archive) -> None:
        with archive.scratch.for_photo() as pixels:
            pixels.array(4, 5, 3)
            pixels.path().write_bytes(b"raw")
            raise ZeroDivisionError

    with opened(options, "run") as archive:
        with pytest.raises(ZeroDivisionError):
            fail(archive)
        assert names_below(archive.scratch.folder) == []


# ---- whose folder it is --------------------------------------------------------------------------


def test_a_second_run_is_refused_and_disturbs_nothing(options: Options) -> None:
    with opened(options, "first") as archive:
        temp = temp_path(options.out / "a.jpg")
        temp.write_bytes(b"being written")
        archive.ledger.begin("a.jpg", temp.name)
        with pytest.raises(LockedError, match=f"process {os.getpid()} "), opened(options, "second"):
            pass
        assert temp.exists()
        assert len(archive.ledger.pending()) == 1
        assert archive.scratch.folder.is_dir()


def test_a_second_run_is_told_which_folder_is_taken_where_the_state_lies_elsewhere(
    options: Options, tmp_path: Path
) -> None:
    options = with_(options, state=tmp_path / "elsewhere" / "state")
    with opened(options, "first"), pytest.raises(LockedError) as raised, opened(options, "second"):
        pass
    assert any(str(path) in str(raised.value) for path in (options.out, options.state))


def test_the_state_can_lie_elsewhere(options: Options, tmp_path: Path) -> None:
    with opened(with_(options, state=tmp_path / "state"), "run"):
        assert names_below(options.out) == [".srbatch", ".srbatch/lock"]
    assert (tmp_path / "state").is_dir()


@pytest.mark.parametrize("other", ["other", None], ids=["another --state", "no --state"])
@pytest.mark.parametrize("turned", [False, True], ids=["", "the other way round"])
def test_runs_with_different_states_do_not_write_to_one_output_folder(
    options: Options, tmp_path: Path, other: str | None, turned: bool
) -> None:
    fast = tmp_path / "fast"
    first = with_(options, state=tmp_path / "state", scratch=fast)
    second = with_(options, state=other and tmp_path / other, scratch=fast)
    if turned:
        first, second = second, first
    with opened(first, "first") as archive:
        (archive.scratch.folder / "pixels.raw").write_bytes(b"in use")
        with pytest.raises(LockedError, match=str(options.out)), opened(second, "second"):
            pass
        with looked_into(second):
            pass
        assert (archive.scratch.folder / "pixels.raw").read_bytes() == b"in use"
    with opened(second, "now it is free"):
        pass


@pytest.mark.parametrize("name", ["hi/.srbatch", "link"])
def test_a_state_that_is_the_output_folders_own_is_locked_once(
    options: Options, tmp_path: Path, name: str
) -> None:
    (tmp_path / "link").symlink_to(options.out / ".srbatch")
    options.out.mkdir()
    (options.out / ".srbatch").mkdir()
    with opened(with_(options, state=tmp_path / name), "run"):
        pass


def test_a_process_that_has_ended_is_not_named_as_the_one_that_writes(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(options, "earlier"):
        pass
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: False)
    with (
        opened(with_(options, state=tmp_path / "state"), "run"),
        pytest.raises(LockedError, match="by another process"),
        opened(options, "second"),
    ):
        pass


def test_an_output_folder_on_a_disk_without_locks_is_told_of_where_the_state_lies_elsewhere(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = FileLock.acquire

    def without_locks(self: FileLock, **others: object) -> object:
        if Path(self.lock_file).is_relative_to(options.out):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        return real(self, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(FileLock, "acquire", without_locks)
    with opened(with_(options, state=tmp_path / "state"), "run"):
        pass
    assert "a disk without locks" in caplog.text
    with pytest.raises(DestinationError), opened(options, "run"):
        pass


@pytest.fixture
def shared(public: Path) -> Options:
    """Options of a user whom permissions bind, for an output folder of another where both may write."""
    for name in ("photos", "hi", "home"):
        (public / name).mkdir()
        (public / name).chmod(0o777)
    return Options(inputs=(public / "photos",), out=public / "hi", state=public / "home" / "state")


def test_the_lock_in_an_output_folder_is_open_to_those_who_may_write_there(
    shared: Options, tmp_path: Path
) -> None:
    shared.out.chmod(0o2775)
    if os.geteuid() == 0:
        os.chown(shared.out, -1, 65_534)
    with opened(with_(shared, state=tmp_path / "state"), "run"):
        pass
    above, folder, lock = (path.stat() for path in (shared.out, *sorted(shared.out.rglob("*"))))
    assert (folder.st_mode, folder.st_gid) == (above.st_mode, above.st_gid)
    assert (lock.st_mode & 0o7777, lock.st_gid) == (0o664, above.st_gid)


def closed_to_others(out: Path) -> None:
    (out / ".srbatch" / "lock").chmod(0o444)
    (out / ".srbatch").chmod(0o555)


@pytest.mark.parametrize("closed", [False, True])
def test_users_with_states_of_their_own_write_to_one_output_folder_by_turns(
    shared: Options, tmp_path: Path, closed: bool
) -> None:
    others = with_(shared, state=tmp_path / "state")
    with opened(others, "others"):
        if closed:
            closed_to_others(shared.out)
        with without_privileges(), pytest.raises(LockedError, match=str(shared.out)), opened(shared, "run"):
            pass
    with ExitStack() as stack:
        with without_privileges():
            stack.enter_context(opened(shared, "run"))
        with pytest.raises(LockedError, match=str(shared.out)), opened(others, "others"):
            pass
    with opened(others, "now it is free"):
        pass


@pytest.mark.parametrize("there", [True, False], ids=["may not be looked into", "cannot be made"])
def test_a_lock_that_cannot_be_taken_is_told_of_where_the_state_lies_elsewhere(
    shared: Options, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    if there:
        (shared.out / ".srbatch").mkdir(mode=0)
    else:
        shared.out.chmod(0o555)
    with without_privileges(), opened(shared, "run"):
        pass
    assert "cannot be taken (" in caplog.text


def test_a_state_folder_of_one_output_folder_does_not_forget_it_for_another(
    options: Options, tmp_path: Path
) -> None:
    first = with_(options, state=tmp_path / "state")
    second = with_(options, state=tmp_path / "state", out=tmp_path / "other")
    with opened(first, "first") as archive:
        archive.ledger.record(row_of(b"first"))
    with contextlib.suppress(SrbatchError), opened(second, "second") as archive:
        archive.ledger.record(row_of(b"second"))
    with opened(first, "first again") as archive:
        assert archive.ledger.row("a.jpg") == row_of(b"first")


def test_an_output_folder_that_cannot_be_made_is_named(options: Options) -> None:
    options.out.write_bytes(b"a file")
    with pytest.raises(DestinationError, match=str(options.out)), opened(options, "run"):
        pass
    assert options.out.read_bytes() == b"a file"


# ---- a single file as target ---------------------------------------------------------------------


def single(options: Options, **changes: object) -> Options:
    return with_(options, inputs=(options.inputs[0] / "a.jpg",), out=options.out / "b.jpg", **changes)


def test_a_single_file_as_target_gets_no_folder_of_ours_beside_it(options: Options) -> None:
    options.out.mkdir()
    with opened(single(options), "run") as archive:
        archive.ledger.record(row_of(b"whole", target="b.jpg"))
        with archive.scratch.for_photo() as pixels:
            assert pixels.array(2, 3, 1).shape == (2, 3, 1)
        assert names_below(options.out) == []
    assert not archive.scratch.folder.exists()


def test_scratch_of_a_single_file_is_made_where_it_was_asked_for(options: Options, tmp_path: Path) -> None:
    with opened(single(options, scratch=tmp_path / "new" / "fast"), "run") as archive:
        assert tmp_path / "new" / "fast" in archive.scratch.folder.parents


# ---- a look without a trace ----------------------------------------------------------------------


def test_a_look_at_a_new_output_folder_makes_nothing(options: Options, tmp_path: Path) -> None:
    before = names_below(tmp_path)
    with looked_into(options) as archive:
        archive.ledger.record(row_of(b"whole"))
    assert names_below(tmp_path) == before


def test_a_look_changes_nothing_and_takes_no_lock(options: Options) -> None:
    temp = killed_while_writing(options)
    before = {name: (options.out / name).stat().st_mtime_ns for name in names_below(options.out)}
    with looked_into(options) as archive:
        archive.ledger.record(row_of(b"whole"))
    assert {name: (options.out / name).stat().st_mtime_ns for name in names_below(options.out)} == before
    assert temp.exists()


def test_a_look_knows_what_is_on_record(options: Options) -> None:
    with opened(options, "run") as archive:
        archive.ledger.record(row_of(b"whole"))
    with looked_into(options) as looked:
        assert looked.ledger.row("a.jpg") == row_of(b"whole")


def test_a_look_knows_what_a_killed_run_had_finished(options: Options) -> None:
    killed_while_writing(options, row=row_of(b"whole"))
    (options.out / "a.jpg").write_bytes(b"whole")
    with looked_into(options) as archive:
        assert archive.ledger.row("a.jpg") == row_of(b"whole")


def test_a_look_at_a_ledger_that_one_may_not_see_does_not_take_it_for_none(
    options: Options, public: Path
) -> None:
    with without_privileges():
        (public / "closed").mkdir(mode=0)
        with (
            pytest.raises(LedgerError, match="Permission denied; see to its permissions"),
            looked_into(with_(options, state=public / "closed")),
        ):
            pass


def test_a_look_at_a_folder_whose_first_run_was_killed_at_once_finds_nothing_done(tmp_path: Path) -> None:
    options = Options(inputs=(tmp_path / "photos",), out=tmp_path / "hi")
    state_folder(options.out, None).mkdir(parents=True)
    (state_folder(options.out, None) / "ledger.sqlite").touch()
    with looked_into(options) as archive:
        assert list(archive.ledger.rows()) == []


def test_what_was_cut_off_in_a_folder_that_is_away_is_put_right_when_it_is_back(
    options: Options, tmp_path: Path
) -> None:
    disk, away = tmp_path / "disk", tmp_path / "away"
    disk.mkdir()
    options.out.mkdir(exist_ok=True)
    (options.out / "1999").symlink_to(disk)
    with opened(options, ""):
        pass
    (disk / "a.jpg").write_bytes(b"whole")
    (disk / OWN).write_bytes(b"part")
    with closing(Ledger.open(options.out / STATE_FOLDER)) as ledger:
        ledger.begin("1999/a.jpg", f"1999/{OWN}", row_of(b"whole", target="1999/a.jpg"))
    disk.rename(away)
    with opened(options, "") as archive:
        assert len(archive.ledger.pending()) == 1
    away.rename(disk)
    with opened(options, "") as archive:
        assert archive.ledger.pending() == []
        found = archive.ledger.row("1999/a.jpg")
    assert found is not None
    assert found.status == "done"
    assert [path.name for path in disk.iterdir()] == ["a.jpg"]

"""Scratch space: a folder for each output folder, gone with the photo that needed it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from srbatch.errors import DestinationError
from srbatch.options import Options
from srbatch.outputs.archive import Archive, opened
from srbatch.outputs.scratch import Scratch
from tests.outputs.archive.conftest import BE_KILLED, names_below, row_of, with_
from tests.processes import running

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
                pixels.spool()(2, 3, 1)
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
            pixels.spool()(10, 10, 3)


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
            pixels.spool()(4, 5, 3)
            pixels.path().write_bytes(b"raw")
            raise ZeroDivisionError

    with opened(options, "run") as archive:
        with pytest.raises(ZeroDivisionError):
            fail(archive)
        assert names_below(archive.scratch.folder) == []


# ---- a single file as target ---------------------------------------------------------------------


def single(options: Options, **changes: object) -> Options:
    return with_(options, inputs=(options.inputs[0] / "a.jpg",), out=options.out / "b.jpg", **changes)


def test_a_single_file_as_target_gets_no_folder_of_ours_beside_it(options: Options) -> None:
    options.out.mkdir()
    with opened(single(options), "run") as archive:
        archive.ledger.record(row_of(b"whole", target="b.jpg"))
        with archive.scratch.for_photo() as pixels:
            assert pixels.spool()(2, 3, 1).shape == (2, 3, 1)
        assert names_below(options.out) == []
    assert not archive.scratch.folder.exists()


def test_scratch_of_a_single_file_is_made_where_it_was_asked_for(options: Options, tmp_path: Path) -> None:
    with opened(single(options, scratch=tmp_path / "new" / "fast"), "run") as archive:
        assert tmp_path / "new" / "fast" in archive.scratch.folder.parents


def test_each_attempt_at_a_photo_is_given_the_same_arrays_again(tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch").for_photo() as files:
        for attempt in range(3):
            spool = files.spool()
            first, second = spool(2, 3, 1), spool(20, 30, 1)
            assert not np.shares_memory(first, second)
            first[...], second[...] = attempt, 7
            assert (first == attempt).all()
        lying = [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
        assert sorted(path.stat().st_size for path in lying) == [2 * 3 * 2, 20 * 30 * 2]

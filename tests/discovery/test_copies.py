"""Folders of copies that systems and programs make are no photos of the archive."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from srbatch.discovery.discover import _name_of, discover
from tests.discovery.conftest import make, targets


@pytest.mark.parametrize(
    "folder",
    [
        *("@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
        *("Photos Library.photoslibrary", "Catalog Previews.lrdata"),
    ],
)
def test_folders_of_copies_are_passed_over_and_counted(photos: Path, out: Path, folder: str) -> None:
    make(photos, "1999/a.jpg", f"1999/{folder}/a.jpg/thumb.jpg", f"{folder}/deep/b.jpg")
    found = discover((photos,), out)
    assert targets(found) == ["1999/a.jpg"]
    (reason, count), *others = found.ignored.items()
    assert (count, others) == (2, [])
    assert "thumbnails" in reason or "libraries" in reason


def test_one_that_is_named_is_done(photos: Path, out: Path) -> None:
    make(photos, "My.photoslibrary/originals/a.jpg")
    assert targets(discover((photos / "My.photoslibrary",), out)) == ["originals/a.jpg"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (PureWindowsPath("E:\\"), "E"),
        (PureWindowsPath("\\\\nas\\photos\\"), "nas photos"),
        (PureWindowsPath("E:\\1999"), "1999"),
        (PurePosixPath("/"), "root"),
    ],
)
def test_the_top_of_a_drive_or_share_gets_a_folder_of_its_own(folder: PureWindowsPath, name: str) -> None:
    assert _name_of(folder) == name

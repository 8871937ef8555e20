"""From folders to photos: nothing vanishes, nothing is flattened, nothing is taken for what it is not."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srbatch.discovery.discover import Selection, discover
from srbatch.errors import UnsupportedPhoto
from srbatch.formats import Format
from srbatch.outputs.commit import temp_path
from tests.conftest import WRITTEN
from tests.discovery.conftest import make, only, targets


def test_the_tree_is_mirrored(photos: Path, out: Path) -> None:
    make(photos, "a.jpg", "1999/a.jpg", "1999/summer/a.jpg", "2001/b.TIF")
    found = discover((photos,), out)
    assert targets(found) == ["a.jpg", "1999/a.jpg", "1999/summer/a.jpg", "2001/b.TIF"]
    assert [photo.target for photo in found.photos] == [out / photo.relative for photo in found.photos]
    assert [photo.source for photo in found.photos] == [photos / photo.relative for photo in found.photos]


def test_size_and_date_are_those_of_the_file(photos: Path, out: Path) -> None:
    make(photos, "a.jpg")
    os.utime(photos / "a.jpg", ns=(1, 123_456_789_012_345_678))
    photo = only(discover((photos,), out))
    assert (photo.size, photo.mtime_ns) == (5, 123_456_789_012_345_678)


def test_sub_folders_can_be_left_out_and_are_counted(photos: Path, out: Path) -> None:
    make(photos, "a.jpg", "1999/b.jpg", "2001/c.jpg")
    found = discover((photos,), out, selection=Selection(recursive=False))
    assert targets(found) == ["a.jpg"]
    assert found.ignored == {"sub-folders": 2}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), ["IMG_1.JPG", "img_2.png", "old/IMG_3.jpg", "old/scan.tif"]),
        (("*.jpg",), (), ["IMG_1.JPG", "old/IMG_3.jpg"]),
        (("*.JPG", "scan*"), (), ["IMG_1.JPG", "old/IMG_3.jpg", "old/scan.tif"]),
        (("Old/*",), (), ["old/IMG_3.jpg", "old/scan.tif"]),
        ((), ("old/*",), ["IMG_1.JPG", "img_2.png"]),
        ((), ("img_?.*",), ["old/scan.tif"]),
        (("*.jpg",), ("old/*",), ["IMG_1.JPG"]),
        (("nothing",), (), []),
    ],
)
def test_globs_choose_by_path_or_name_whatever_the_case(
    photos: Path, out: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    make(photos, "IMG_1.JPG", "img_2.png", "old/IMG_3.jpg", "old/scan.tif")
    found = discover((photos,), out, selection=Selection(include=include, exclude=exclude))
    assert targets(found) == expected
    assert found.ignored["not wanted by --include/--exclude"] == 4 - len(expected)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".hidden.jpg", "hidden files"),
        ("._a.jpg", "hidden files"),
        (".DS_Store", "hidden files"),
        (".trash/a.jpg", "hidden folders"),
        ("Thumbs.db", "sidecars and system files"),
        ("desktop.ini", "sidecars and system files"),
        ("a.xmp", "sidecars and system files"),
        ("a.jpg.JSON", "sidecars and system files"),
        ("IMG_1.AAE", "sidecars and system files"),
        ("notes.txt", "files that are not pictures by their names"),
        ("jpg", "files that are not pictures by their names"),
        ("film.mov", "files that are not pictures by their names"),
    ],
)
def test_what_is_no_photo_is_counted_by_its_reason(photos: Path, out: Path, name: str, reason: str) -> None:
    make(photos, name)
    found = discover((photos,), out)
    assert not found.photos
    assert found.ignored == {reason: 1}


def test_a_temporary_file_that_was_left_is_no_photo(photos: Path, out: Path) -> None:
    make(photos, "a.jpg", temp_path(photos / "a.jpg").name)
    found = discover((photos,), out)
    assert targets(found) == ["a.jpg"]
    assert found.ignored == {"hidden files": 1}


@pytest.mark.parametrize("name", ["b.CR2", "c.CRW", "e.jxl", "f.psd", "g.mrw", "h.DNG", "i.xcf"])
def test_a_picture_that_cannot_be_read_is_a_photo_that_fails_with_advice(
    photos: Path, out: Path, name: str
) -> None:
    make(photos, name)
    problem = only(discover((photos,), out)).problem
    assert isinstance(problem, UnsupportedPhoto)
    assert "convert it" in str(problem)
    assert f'--exclude "*{Path(name).suffix.lower()}"' in str(problem)


def test_a_file_without_an_extension_gets_no_advice_to_exclude_everything(photos: Path, out: Path) -> None:
    make(photos, "scan0001")
    problem = only(discover((photos / "scan0001",), out)).problem
    assert isinstance(problem, UnsupportedPhoto)
    assert '--exclude "*"' not in str(problem)


@settings(max_examples=40)
@given(
    st.sets(
        st.tuples(
            st.sampled_from(["", "x/", "x/y/", "z.jpg/"]),
            st.sampled_from(["a.jpg", "b.png", ".c.jpg", "d.txt", "e.jxl", "f.xmp", "Thumbs.db"]),
        ),
        max_size=20,
    ),
    st.sampled_from([None, *WRITTEN]),
)
def test_every_file_is_a_photo_or_is_counted(files: set[tuple[str, str]], to: Format | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = make(Path(folder) / "in", *(below + name for below, name in files))
        found = discover((top,), Path(folder) / "out", to=to)
    assert len(found.photos) + found.ignored.total() == len(files)
    assert len(set(targets(found))) == len(found.photos)


def test_the_order_does_not_depend_on_how_the_system_lists_a_folder(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, *(f"{below}{n}.jpg" for below in ("", "b/", "a/", "a/c/") for n in range(5)))
    scandir = os.scandir

    class Shuffled:
        def __init__(self, folder: Path) -> None:
            with scandir(folder) as listing:
                self._entries = list(listing)
            random.Random(7).shuffle(self._entries)

        def __enter__(self) -> Shuffled:
            return self

        def __exit__(self, *_: object) -> None: ...

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self._entries)

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert targets(discover((photos,), out)) == [
        f"{below}{n}.jpg" for below in ("", "a/", "a/c/", "b/") for n in range(5)
    ]


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_done(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, "a/1.jpg", "closed/2.jpg", "z/3.jpg")
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = discover((photos,), out)
    assert targets(found) == ["a/1.jpg", "z/3.jpg"]
    assert found.unreadable_folders == [(photos / "closed", "Permission denied")]


def test_a_folder_named_like_a_picture_is_walked_into(photos: Path, out: Path) -> None:
    make(photos, "x.jpg/a.jpg")
    assert targets(discover((photos,), out)) == ["x.jpg/a.jpg"]


@pytest.mark.parametrize(
    ("globs", "found"),
    [
        ({}, ["2020/best/sub/y.jpg", "2020/best/x.jpg", "2020/z.jpg"]),
        ({"include": ("best/*",)}, ["best/sub/y.jpg", "best/x.jpg"]),
        ({"exclude": ("2020/*",)}, ["best/sub/y.jpg", "best/x.jpg"]),
        ({"include": ("2020/best/x.jpg", "best/*", "other/*")}, ["2020/best/x.jpg", "best/sub/y.jpg"]),
    ],
    ids=str,
)
def test_globs_may_want_the_path_through_a_link(
    tmp_path: Path, globs: dict[str, tuple[str, ...]], found: list[str]
) -> None:
    top = tmp_path / "arch"
    (top / "2020" / "best" / "sub").mkdir(parents=True)
    for name in ("2020/z.jpg", "2020/best/x.jpg", "2020/best/sub/y.jpg"):
        (top / name).write_bytes(b"photo")
    (top / "best").symlink_to("2020/best")
    (top / "other").symlink_to("2020/best")
    (top / "2020" / "best" / "up").symlink_to("../..")
    photos = discover((top,), tmp_path / "hi", selection=Selection(**globs)).photos
    assert sorted(photo.relative.as_posix() for photo in photos) == found

"""Several inputs, and single photos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from srbatch.discovery.discover import Selection, discover
from srbatch.discovery.target_names import check_name
from srbatch.errors import UsageError
from srbatch.formats import Format
from tests.discovery.conftest import make, only, targets


def test_several_folders_go_into_folders_of_their_names(tmp_path: Path, out: Path) -> None:
    first, second = make(tmp_path / "1999", "a.jpg"), make(tmp_path / "2001", "x/a.jpg")
    assert targets(discover((first, second), out)) == ["1999/a.jpg", "2001/x/a.jpg"]


def test_photos_of_two_folders_of_one_name_fail_where_they_meet(tmp_path: Path, out: Path) -> None:
    first = make(tmp_path / "disk1" / "scans", "a.jpg", "b.jpg")
    second = make(tmp_path / "disk2" / "scans", "a.jpg", "c.jpg")
    problems = {photo.source: photo.problem for photo in discover((first, second), out).photos}
    assert str(second / "a.jpg") in str(problems[first / "a.jpg"])
    assert str(first / "a.jpg") in str(problems[second / "a.jpg"])
    assert problems[first / "b.jpg"] is None
    assert problems[second / "c.jpg"] is None


def test_a_folder_and_a_photo_go_in_side_by_side(tmp_path: Path, photos: Path, out: Path) -> None:
    make(photos, "x/a.jpg")
    make(tmp_path, "b.jpg")
    assert targets(discover((photos, tmp_path / "b.jpg"), out)) == ["x/a.jpg", "b.jpg"]


@pytest.mark.parametrize("order", [1, -1], ids=["outer first", "inner first"])
def test_a_photo_in_two_inputs_is_taken_once_with_the_outer_one(
    tmp_path: Path, photos: Path, out: Path, order: int
) -> None:
    make(photos, "a.jpg", "s/b.jpg", "s/t/c.jpg")
    make(tmp_path / "other", "d.jpg")
    (photos / "link.jpg").symlink_to("a.jpg")
    os.link(photos / "a.jpg", photos / "same.jpg")

    def found(*inputs: str) -> tuple[list[str], int]:
        paths = tuple(tmp_path / name for name in inputs)[::order]
        result = discover(paths, out)
        assert [photo.problem for photo in result.photos if photo.problem] == []
        return sorted(targets(result)), result.ignored["photos found again, in an input within another"]

    tree = ["a.jpg", "link.jpg", "s/b.jpg", "s/t/c.jpg", "same.jpg"]
    for name in ("a.jpg", "link.jpg", "s/t/c.jpg", "same.jpg"):
        assert found("photos", f"photos/{name}") == (tree, 1)
    under = [f"photos/{target}" for target in tree]
    assert found("photos", "photos/s") == (under, 2)
    assert found("photos", "photos/s", "photos/s/t", "other") == (["other/d.jpg", *under], 3)
    assert found("photos/s", "photos/a.jpg") == (["a.jpg", "b.jpg", "t/c.jpg"], 0)


def test_what_an_outer_input_leaves_out_an_inner_one_gives(tmp_path: Path, photos: Path, out: Path) -> None:
    make(photos, "a.jpg", "s/b.jpg", ".hidden/c.jpg", ".hidden/u/d.jpg")
    inputs = (photos, photos / ".hidden" / "u", photos / ".hidden", photos / "s", photos / "a.jpg")
    everything = ["photos/a.jpg", "photos/s/b.jpg", ".hidden/c.jpg", ".hidden/u/d.jpg"]
    assert targets(discover(inputs, out)) == everything
    inputs = (photos, photos / "s", photos / "a.jpg")
    alone, but = Selection(recursive=False), Selection(exclude=("s/*", "a.*"))
    assert targets(discover(inputs, out, selection=alone)) == ["photos/a.jpg", "s/b.jpg"]
    assert sorted(targets(discover(inputs, out, selection=but))) == ["a.jpg", "s/b.jpg"]


def test_inputs_within_others_are_known_by_any_name(
    tmp_path: Path, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, "a.jpg", "s/b.jpg")
    elsewhere = make(tmp_path / "elsewhere" / "e", "c.jpg")
    (photos / "to").symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(photos / "s")
    tree = ["photos/a.jpg", "photos/s/b.jpg", "photos/to/c.jpg"]
    for inner in (tmp_path / "link", photos / "to", photos / "s" / ".." / "s"):
        assert targets(discover((inner, photos), out)) == tree
    monkeypatch.chdir(photos / "s")
    assert targets(discover((Path(), Path("..")), out)) == tree
    assert targets(discover((Path("b.jpg"), Path("..", "s"), Path("..")), out)) == tree


def test_the_same_photo_named_twice_is_one_photo(photos: Path, out: Path) -> None:
    make(photos, "a.jpg")
    found = discover((photos / "a.jpg", photos / "a.jpg"), out)
    assert [photo.problem for photo in found.photos] == [None]


def test_a_single_photo_goes_into_a_folder(photos: Path, out: Path) -> None:
    make(photos, "a.jpg")
    photo = only(discover((photos / "a.jpg",), out, to=Format.TIFF))
    assert (photo.target, photo.format) == (out / "a.jpg.tif", Format.TIFF)


def test_a_single_photo_goes_into_a_file_named_like_a_picture(tmp_path: Path, photos: Path) -> None:
    make(photos, "a.jpg")
    photo = only(discover((photos / "a.jpg",), tmp_path / "better.PNG"))
    assert (photo.target, photo.relative) == (tmp_path / "better.PNG", Path("better.PNG"))
    assert photo.format is Format.PNG


def test_a_folder_named_like_a_picture_as_output_is_a_folder(tmp_path: Path, photos: Path) -> None:
    make(photos, "a.jpg")
    make(tmp_path / "out.jpg")
    photo = only(discover((photos / "a.jpg",), tmp_path / "out.jpg"))
    assert photo.target == tmp_path / "out.jpg" / "a.jpg"


def test_two_photos_never_go_into_one_file(tmp_path: Path, photos: Path) -> None:
    make(photos, "a.jpg", "b.jpg")
    found = discover((photos / "a.jpg", photos / "b.jpg"), tmp_path / "out.jpg")
    assert [p.target for p in found.photos] == [tmp_path / "out.jpg" / n for n in ("a.jpg", "b.jpg")]


@pytest.mark.parametrize(
    ("inputs", "name", "why"),
    [
        (["a.jpg"], "out.gif", ".gif files are not written"),
        (["a.jpg"], "out.NEF", ".nef files are not written"),
        (["a.jpg", "b.jpg"], "out.jpg", "it would be a folder"),
        (["."], "out.png", "it would be a folder"),
        (["1999", "a.jpg"], "out.psd", "it would be a folder"),
    ],
)
def test_no_folder_named_like_a_picture_is_made(
    tmp_path: Path, photos: Path, inputs: list[str], name: str, why: str
) -> None:
    make(photos, "a.jpg", "b.jpg", "1999/a.jpg")
    named, out = tuple(photos / path for path in inputs), tmp_path / name
    with pytest.raises(UsageError, match=f"{name} is named like a picture, and {why}"):
        check_name(named, out, None)
    make(out)
    check_name(named, out, None)


def test_a_target_and_a_format_agree(tmp_path: Path, photos: Path) -> None:
    make(photos, "a.jpg")
    photo = (photos / "a.jpg",)
    for to in (Format.TIFF, None):
        check_name(photo, tmp_path / "out.TIFF", to)
    with pytest.raises(UsageError, match=r"out\.tif is named like tiff and --format says jpeg"):
        check_name(photo, tmp_path / "out.tif", Format.JPEG)
    make(tmp_path / "out.tif")
    check_name(photo, tmp_path / "out.tif", Format.JPEG)

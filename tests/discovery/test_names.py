"""Names of outputs: odd ones kept to the byte, no two the same."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srbatch.discovery import collisions
from srbatch.discovery import discover as module
from srbatch.discovery.discover import discover
from srbatch.discovery.target_names import target_name
from srbatch.errors import UnsupportedPhoto
from srbatch.formats import Format
from srbatch.names import show
from tests.conftest import WRITTEN
from tests.discovery.conftest import make, only, targets

ODD_NAMES = [
    "with some  spaces .jpg",
    "🌅 sunset.jpg",
    "two\nlines.jpg",
    "-rf.jpg",
    "[1] (copy) *?.jpg",
    "a" * 251 + ".jpg",
    os.fsdecode(b"caf\xe9 \xff.jpg"),
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_names_are_kept_to_the_byte(photos: Path, out: Path, name: str) -> None:
    make(photos, f"sub/{name}")
    photo = only(discover((photos,), out))
    assert os.fsencode(photo.target) == os.fsencode(out / "sub" / name)
    assert photo.problem is None
    assert photo.size == len(os.fsencode(f"sub/{name}"))


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_names_can_be_shown(name: str) -> None:
    assert show(name).encode("utf-8")


@pytest.mark.parametrize(("letter", "count"), [("a", 251), ("é", 125), ("🌅", 62)])
def test_a_name_that_would_become_too_long_fails_with_advice(
    photos: Path, out: Path, letter: str, count: int
) -> None:
    make(photos, letter * count + ".jpg")
    assert only(discover((photos,), out)).problem is None
    problem = only(discover((photos,), out, to=Format.PNG)).problem
    assert isinstance(problem, UnsupportedPhoto)
    assert "rename it or use --format keep" in str(problem)


def test_photos_that_differ_in_their_extension_both_survive_a_new_format(photos: Path, out: Path) -> None:
    make(photos, "a.jpg", "a.png", "a.jpeg", "a.tif")
    found = discover((photos,), out, to=Format.PNG)
    assert targets(found) == ["a.jpeg.png", "a.jpg.png", "a.png", "a.tif.png"]
    assert not any(photo.problem for photo in found.photos)


_ENDINGS = [
    ".jpg",
    ".JPG",
    ".jpeg",
    ".png",
    ".PNG",
    ".tif",
    ".tiff",
    ".webp",
    ".bmp",
    ".heic",
    ".old",
    ".p",
    "",
]
_name = st.builds(
    lambda stem, endings: stem + "".join(endings),
    st.text("aB.é ", min_size=1, max_size=3),
    st.lists(st.sampled_from(_ENDINGS), max_size=4),
)
_photo_name = _name.filter(lambda name: module._why_ignored(name) is None)
_to = st.sampled_from([None, *WRITTEN])


@settings(max_examples=1000)
@given(st.data(), _photo_name, _to)
def test_two_photos_names_give_two_targets_on_any_file_system(
    data: st.DataObject, first: str, to: Format | None
) -> None:
    longer = st.lists(st.sampled_from(_ENDINGS), min_size=1, max_size=3).map(lambda e: first + "".join(e))
    second = data.draw(longer.filter(lambda name: module._why_ignored(name) is None) | _photo_name)
    if first != second:
        assert target_name(first, to) != target_name(second, to)
    if first.lower() != second.lower():
        assert target_name(first, to).lower() != target_name(second, to).lower()


@given(_name, st.sampled_from(WRITTEN))
def test_a_targets_name_says_its_format_and_keeps_the_sources_name(name: str, to: Format) -> None:
    target = target_name(name, to)
    assert Format.of_name(target) is to
    assert target.startswith(name)
    assert Format.of_name(target_name(name, None)) in (Format.of_name(name), Format.PNG)
    assert target_name(name, None).startswith(name)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a.jpg", "a.jpg.png"),
        ("a.png", "a.png"),
        ("a.PNG", "a.PNG"),
        ("a.v2.png", "a.v2.png"),
        ("a.png.png", "a.png.png"),
        ("a.jpg.png", "a.jpg.png.png"),
        ("a.JPG.PNG", "a.JPG.PNG.png"),
        ("a.jpg.png.png", "a.jpg.png.png.png"),
        ("a.heic.png", "a.heic.png.png"),
        ("a.png.jpg", "a.png.jpg.png"),
    ],
)
def test_only_a_name_that_looks_made_gets_the_new_extension_once_more(name: str, target: str) -> None:
    assert target_name(name, Format.PNG) == target


def test_a_photo_with_two_extensions_is_done_beside_the_one_it_is_named_after(
    photos: Path, out: Path
) -> None:
    make(photos, "a.jpg", "a.jpg.png", "b.jpg")
    found = discover((photos,), out, to=Format.PNG)
    assert targets(found) == ["a.jpg.png", "a.jpg.png.png", "b.jpg.png"]
    assert not any(photo.problem for photo in found.photos)


def test_a_photo_that_fails_anyway_is_in_nobodys_way(photos: Path, out: Path) -> None:
    make(photos, "a", "a.png")
    first, second = discover((photos / "a", photos / "a.png"), out, to=Format.PNG).photos
    assert isinstance(first.problem, UnsupportedPhoto)
    assert second.problem is None


def test_photos_that_differ_in_case_fail_where_the_file_system_does_not_tell_case_apart(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, "IMG.jpg", "img.JPG", "other.jpg")
    monkeypatch.setattr(collisions, "_tells_case_apart", lambda folder: False)
    first, second, third = discover((photos,), out).photos
    assert str(second.source) in str(first.problem)
    assert str(first.source) in str(second.problem)
    assert third.problem is None


def test_photos_that_differ_in_case_are_done_where_the_file_system_tells_case_apart(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, "IMG.jpg", "img.JPG")
    monkeypatch.setattr(collisions, "_tells_case_apart", lambda folder: True)
    assert [photo.problem for photo in discover((photos,), out).photos] == [None, None]


@pytest.mark.parametrize(
    "there",
    [["there.txt"], ["1999.txt"], [], None],
    ids=["a file", "no case", "nothing", "not yet there"],
)
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("folded", [False, True])
def test_what_lies_in_the_output_folder_or_its_own_name_says_whether_case_is_told_apart(
    photos: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: list[str] | None,
    relative: bool,
    folded: bool,
) -> None:
    make(photos, "IMG.jpg", "img.JPG")
    if there is not None:
        make(out, *there)
    if relative:
        monkeypatch.chdir(make(out) if there is not None else make(out.parent / "empty"))
        out = Path() if there is not None else Path("hi")
    stat = Path.stat

    def of_either_case(path: Path, **how: bool) -> os.stat_result:
        try:
            return stat(path, **how)
        except FileNotFoundError:
            return stat(path.with_name(path.name.swapcase()), **how)

    if folded:
        monkeypatch.setattr(Path, "stat", of_either_case)
    found = discover((photos,), out)
    assert [photo.problem is not None for photo in found.photos] == [folded, folded]


def test_two_files_that_differ_in_case_say_that_it_is_told_apart(photos: Path, out: Path) -> None:
    make(photos, "IMG.jpg", "img.JPG")
    make(out, "there.txt", "THERE.TXT")
    if len(list(out.iterdir())) == 1:
        pytest.skip("this file system does not")
    assert [photo.problem for photo in discover((photos,), out).photos] == [None, None]


def test_each_photo_is_looked_at_once_and_so_is_a_folder_where_names_differ_in_case(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network share every look is a round trip."""
    make(photos, "IMG.jpg", "img.JPG", "a.jpg", "A.jpg", "sub/b.jpg", "sub/B.jpg")
    stat, looked, folders = Path.stat, list[Path](), list[Path]()

    def counted(path: Path, **how: bool) -> os.stat_result:
        looked.append(path)
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", counted)
    monkeypatch.setattr(collisions, "_tells_case_apart", lambda folder: bool(folders.append(folder)) or True)
    found = discover((photos,), out)
    sources = [photo.source for photo in found.photos]
    assert sorted(path for path in looked if path in sources) == sorted(sources)
    assert folders == [out, out / "sub"]


@pytest.mark.parametrize(("platform", "meet"), [("darwin", True), ("linux", False)])
def test_names_composed_in_two_ways_meet_only_where_the_system_makes_them_one(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, platform: str, meet: bool
) -> None:
    make(photos, *(unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")))
    monkeypatch.setattr(sys, "platform", platform)
    found = discover((photos,), out)
    assert [photo.problem is not None for photo in found.photos] == [meet, meet]


def test_names_that_differ_in_case_fail_also_beside_one_that_is_composed_in_another_way(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, "É.jpg", "é.jpg", unicodedata.normalize("NFD", "é.jpg"))
    monkeypatch.setattr(collisions, "_tells_case_apart", lambda folder: False)
    found = discover((photos,), out)
    assert len(found.photos) == 3
    assert all(photo.problem for photo in found.photos)


@pytest.mark.parametrize("below", ["b.jpg", "deeper/still/b.jpg"])
def test_an_output_that_would_have_the_name_of_a_folder_of_outputs_fails(
    photos: Path, out: Path, below: str
) -> None:
    make(photos, "a.jpg", f"a.jpg.png/{below}")
    first, second = discover((photos,), out, to=Format.PNG).photos
    assert (first.target, second.target) == (out / "a.jpg.png", out / "a.jpg.png" / f"{below}.png")
    assert "the name of a folder of outputs" in str(first.problem)
    assert second.problem is None


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a.jpg", "a.jpg"),
        ("a.BMP", "a.BMP.png"),
        ("a.gif.PNG", "a.gif.PNG.png"),
        ("a.gif.png.png", "a.gif.png.png.png"),
        ("a.gif.jpg", "a.gif.jpg"),
    ],
)
def test_what_is_only_read_becomes_png(name: str, target: str) -> None:
    assert target_name(name, None) == target

"""Links below an input: each photo once, whatever leads to it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from srbatch.discovery import collisions
from srbatch.discovery import discover as module
from srbatch.discovery.discover import discover
from srbatch.errors import Interrupted
from tests.discovery.conftest import make, only, targets


def test_a_link_to_a_photo_is_a_photo(tmp_path: Path, photos: Path, out: Path) -> None:
    make(tmp_path / "elsewhere", "real.jpg")
    (photos / "link.jpg").symlink_to(tmp_path / "elsewhere" / "real.jpg")
    photo = only(discover((photos,), out))
    assert (photo.relative, photo.size) == (Path("link.jpg"), len("real.jpg"))


def test_a_link_to_a_folder_is_walked_into(tmp_path: Path, photos: Path, out: Path) -> None:
    make(tmp_path / "elsewhere", "a.jpg")
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    assert targets(discover((photos,), out)) == ["link/a.jpg"]


@pytest.mark.parametrize("to", [".", "..", "../.."])
def test_links_that_lead_back_end_and_are_counted(tmp_path: Path, out: Path, to: str) -> None:
    top = make(tmp_path / "top", "x/photos/a.jpg")
    (top / "x" / "photos" / "loop").symlink_to(to)
    found = discover((top,), out)
    assert targets(found) == ["x/photos/a.jpg"]
    assert found.ignored == {"links that lead back to a folder above": 1}


def test_two_folders_that_link_to_one_another_end(tmp_path: Path, photos: Path, out: Path) -> None:
    make(photos, "a/1.jpg", "b/2.jpg")
    (photos / "a" / "to_b").symlink_to(photos / "b")
    (photos / "b" / "to_a").symlink_to(photos / "a")
    found = discover((photos,), out)
    assert targets(found) == ["a/1.jpg", "b/2.jpg"]
    assert found.ignored == {"links that lead to a folder again": 2}


@pytest.mark.parametrize("numbers", [True, False], ids=["inodes", "no inodes"])
@pytest.mark.parametrize("where", ["photos", "elsewhere"])
def test_links_that_make_millions_of_ways_are_gone_once(
    tmp_path: Path, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, where: str, numbers: bool
) -> None:
    steps = [tmp_path / where / f"{step:02}" for step in range(25)]
    for step, following in itertools.pairwise(steps):
        make(step, "a.jpg")
        for name in ("x", "y"):
            (step / name).symlink_to(following)
    make(steps[-1], "a.jpg")
    if where != "photos":
        (photos / "x").symlink_to(steps[0])
    if not numbers:
        monkeypatch.setattr(module, "identity", lambda path: None)
        monkeypatch.setattr(collisions, "identity", lambda path: None)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        assert calls < 200, "it goes on and on"

    found = discover((photos,), out, check=check)
    if where == "photos":
        expected = [f"{step:02}/a.jpg" for step in range(25)]
    else:
        expected = [f"{'x/' * (step + 1)}a.jpg" for step in range(25)]
    assert targets(found) == expected
    assert found.ignored == {"links that lead to a folder again": 48 if where == "photos" else 24}
    assert len({photo.source.stat().st_ino for photo in found.photos}) == 25


def test_a_photo_keeps_its_target_whatever_links_come_and_go(tmp_path: Path, photos: Path, out: Path) -> None:
    make(photos, "m/a.jpg", "m/deep/b.jpg", "z/c.jpg")
    make(tmp_path / "disk", "deep/d.jpg")
    (photos / "m" / "n").symlink_to(tmp_path / "disk")
    before = targets(discover((photos,), out))
    assert before == ["m/a.jpg", "m/deep/b.jpg", "z/c.jpg", "m/n/deep/d.jpg"]
    (photos / "a").symlink_to(photos / "m")
    (photos / "m" / "deep" / "a").symlink_to(photos / "z")
    (photos / "z" / "a").symlink_to(tmp_path / "disk")
    assert targets(discover((photos,), out)) == before
    (tmp_path / "disk" / "deep" / "a").symlink_to(photos / "z")
    (tmp_path / "disk" / "a").symlink_to(tmp_path / "disk" / "deep")
    assert targets(discover((photos,), out)) == before


def test_the_search_can_be_stopped_at_each_folder(photos: Path, out: Path) -> None:
    make(photos, *(f"{n}/a.jpg" for n in range(10)))
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Interrupted(2)

    with pytest.raises(Interrupted):
        discover((photos,), out, check=check)
    assert calls == 5


def test_folders_are_walked_into_where_the_file_system_has_no_inodes(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, "1999/summer/1.jpg", "2001/2.jpg")
    monkeypatch.setattr(module, "identity", lambda path: None)
    monkeypatch.setattr(collisions, "identity", lambda path: None)
    assert targets(discover((photos,), out)) == ["1999/summer/1.jpg", "2001/2.jpg"]


def test_a_dangling_link_is_a_photo_that_will_fail(photos: Path, out: Path) -> None:
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    photo = only(discover((photos,), out))
    assert (photo.relative, photo.size) == (Path("gone.jpg"), -1)


@pytest.mark.parametrize("as_input", [True, False], ids=["named itself", "found in a folder"])
def test_a_link_to_itself_is_a_photo_that_will_fail(photos: Path, out: Path, as_input: bool) -> None:
    link = photos / "loop.jpg"
    link.symlink_to(link.name)
    photo = only(discover((link if as_input else photos,), out))
    assert (photo.relative, photo.size) == (Path("loop.jpg"), -1)

"""A folder is the same by whatever name it is reached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from srbatch import places
from srbatch.places import (
    Within,
    identity,
    is_gone,
    is_within,
    marks,
    nearest_folder,
    open_file,
    surroundings,
)
from tests.conftest import without_privileges


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "1999").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("below", ["", "1999", "new", "new/newer", "1999/../new", "./."])
def test_what_is_below_a_folder_is_within_whether_it_exists_or_not(photos: Path, below: str) -> None:
    assert is_within(photos / below, photos)


@pytest.mark.parametrize("beside", ["..", "../photos2", "../new", "1999/../../hi"])
def test_what_is_beside_or_above_is_not(photos: Path, beside: str) -> None:
    assert not is_within(photos / beside, photos)


def test_a_link_to_the_folder_is_the_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    assert is_within(tmp_path / "link" / "new", photos)
    assert is_within(photos / "new", tmp_path / "link")


def test_a_folder_that_is_known_by_two_names_is_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_case(path: Path) -> tuple[int, int] | None:
        return identity(Path(str(path).replace("PHOTOS", "photos")))

    assert not is_within(tmp_path / "PHOTOS" / "new", photos)
    monkeypatch.setattr(places, "identity", without_case)
    assert is_within(tmp_path / "PHOTOS" / "new", photos)
    assert is_within(photos / "1999", tmp_path / "PHOTOS")
    assert not is_within(tmp_path / "hi", photos)


def test_a_file_system_that_gives_no_numbers_does_not_make_everything_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat

    def numberless(path: Path, **others: bool) -> os.stat_result:
        status = list(stat(path, **others))
        return os.stat_result([status[0], 0, *status[2:]])

    monkeypatch.setattr(Path, "stat", numberless)
    assert not is_within(tmp_path / "hi", photos)
    assert is_within(photos / "hi", photos)


def test_a_place_that_does_not_exist_is_known_by_its_name(tmp_path: Path) -> None:
    assert identity(tmp_path / "new") is None
    assert marks(tmp_path / "new") == {os.path.realpath(tmp_path / "new")}
    assert surroundings(tmp_path / "new") > surroundings(tmp_path)


def test_a_link_to_itself_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert is_within(tmp_path / "loop", tmp_path)


@pytest.mark.parametrize("below", ["", "1999", "new/newer", "../link/new", "..", "../hi/new", "../loop"])
def test_many_paths_are_asked_about_as_one_is(photos: Path, tmp_path: Path, below: str) -> None:
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "loop").symlink_to("loop")
    within = Within(marks(photos))
    for _ in range(2):  # the second time from memory
        for path in (photos / below, photos / below / "x"):
            assert within(path) == is_within(path, photos)


def test_the_nearest_folder_exists(photos: Path) -> None:
    assert nearest_folder(photos / "new" / "newer") == photos
    assert nearest_folder(photos) == photos


def test_the_nearest_folder_is_one_that_may_be_seen(public: Path) -> None:
    with without_privileges():
        (public / "closed").mkdir(mode=0)
        assert nearest_folder(public / "closed" / "new" / "newer") == public / "closed"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
def test_a_file_is_opened_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "link"):
        with open_file(tmp_path / name) as file:
            assert file.read() == b"data"
    for name in ("link", "pipe", "."):
        with pytest.raises(OSError):
            open_file(tmp_path / name, follow_links=False)
    with pytest.raises(OSError, match="not a regular file"):
        open_file(tmp_path / "pipe")


def test_a_file_is_gone_only_where_the_disk_says_so(public: Path) -> None:
    (public / "a").write_bytes(b"a file")
    (public / "link").symlink_to("nowhere")
    with without_privileges():
        (public / "closed").mkdir(mode=0)
        assert not any(is_gone(public / name) for name in ("a", "link", "closed", "closed/b"))
        assert all(is_gone(public / name) for name in ("b", "a/b", "new/b", "b\0"))

"""On which side of a training photos fall, and which count once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.trainer.crops import looked, save
from trainer import photos
from trainer.photos import Photo, Photos, find

NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20)


@given(names=st.sets(NAMES, min_size=1, max_size=30), more=st.sets(NAMES, max_size=30))
def test_the_split_depends_on_the_name_alone(names: set[str], more: set[str]) -> None:
    def valid(all_names: set[str]) -> set[str]:
        return {name for name in all_names if photos._share(name) < 0.3}

    assert valid(names | more) & names == valid(names)
    assert all(0 <= photos._share(name) < 1 for name in names)


def test_a_photo_keeps_its_side_when_others_come(tmp_path: Path) -> None:
    save(tmp_path, *(f"{number}.png" for number in range(12)))
    before = find([tmp_path], smallest=32, valid_percent=40)
    save(tmp_path, *(f"more/{number}.png" for number in range(6)), height=50)
    after = find([tmp_path], smallest=32, valid_percent=40)
    assert set(before.train) <= set(after.train)
    assert set(before.valid) <= set(after.valid)
    assert before.sha256 != after.sha256


def test_a_photo_of_two_folders_is_on_one_side(tmp_path: Path) -> None:
    names = [f"below/{number}.png" for number in range(12)]
    save(tmp_path, *names)
    (tmp_path / "above").symlink_to(tmp_path)
    folders = [tmp_path / "below", tmp_path, tmp_path / "above" / "below", tmp_path]
    alone = find([tmp_path], smallest=32, valid_percent=40)
    for order in (folders, folders[::-1]):
        both = find(order, smallest=32, valid_percent=40)
        assert [[p.name for p in side] for side in (both.train, both.valid)] == [
            [p.name for p in side] for side in (alone.train, alone.valid)
        ]
    assert sorted(p.name for p in (*alone.train, *alone.valid)) == sorted(names)


@pytest.mark.parametrize("bytes_too", [True, False], ids=["bytes", "pixels"])
def test_copies_of_a_photo_count_once_and_are_told(tmp_path: Path, bytes_too: bool) -> None:
    save(tmp_path, *(f"{number}.png" for number in range(12)))
    before = find([tmp_path], smallest=32, valid_percent=40)
    names = {side: [photo.name for photo in getattr(before, side)] for side in ("train", "valid")}
    for number in range(12):
        photo, copy = tmp_path / f"{number}.png", tmp_path / "more" / f"{number}.png"
        copy.parent.mkdir(exist_ok=True)
        if bytes_too:
            shutil.copy(photo, copy)
        else:
            copy = copy.with_suffix(".bmp")
            Image.open(photo).save(copy)
    found = find([tmp_path], smallest=32, valid_percent=40)
    train, valid = ([photo.name for photo in side] for side in (found.train, found.valid))
    assert len(train) + len(valid) == len(found.left_out) == 12
    assert set(names["train"]) <= set(train), "what was trained on is validated with"
    assert {photo.digest for photo in found.train}.isdisjoint(photo.digest for photo in found.valid)
    # As many as chance has it were for validation and have a copy for training.
    assert set(valid) == {name for name in names["valid"] if f"more/{Path(name).stem}" not in str(train)}
    assert 0 < len(valid) < len(names["valid"])
    path, reason = found.left_out[0]
    assert reason.startswith(f"the same picture as {tmp_path}")
    assert Path(path).stem == Path(reason).stem


def test_pictures_of_other_shapes_are_no_copies(tmp_path: Path) -> None:
    for height, width in ((32, 64), (64, 32)):
        Image.new("RGB", (width, height)).save(tmp_path / f"{height}.png")
    good, _ = looked(tmp_path)
    assert len(photos._without_copies(good, ())[0]) == 2


def test_photos_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    save(tmp_path, "one/a.png", "two/a.png", "two/b.png")
    (tmp_path / "two" / "again.png").symlink_to(tmp_path / "two" / "b.png")
    good, _ = looked(tmp_path / "one", tmp_path / "two")
    assert [photo.name for photo in good] == ["a.png", "a.png", "b.png"]


def test_the_share_is_about_what_was_asked() -> None:
    shares = [photos._share(f"photo-{number}.jpg") for number in range(2000)]
    assert np.mean([share < 0.05 for share in shares]) == pytest.approx(0.05, abs=0.02)


def test_a_photo_keeps_its_side_from_version_to_version() -> None:
    """A training that goes on, or begins with another's weights, must not validate with what was trained."""
    shares = [photos._share(name) for name in ("a.jpg", "1999/summer/IMG_0001.jpg", "Müller.png")]
    assert shares == [0.2026, 0.404, 0.8505]


@pytest.mark.parametrize("side", ["train", "valid"])
def test_the_record_of_photos_does_not_depend_on_where_they_lie(side: str) -> None:
    def record(folder: str, height: int = 40) -> str:
        sides: dict[str, tuple[Photo, ...]] = {"train": (), "valid": ()}
        sides[side] = (Photo(Path(folder, "a"), "a", height, 50),)
        return Photos(**sides, left_out=()).sha256

    assert record("/x") == record("/y")
    assert record("/x") != record("/x", height=41)

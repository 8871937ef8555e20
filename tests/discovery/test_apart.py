"""Inputs and outputs stay apart, by whatever name or way they are reached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from srbatch import places
from srbatch.discovery import collisions
from srbatch.discovery import discover as module
from srbatch.discovery.apart import check_outside
from srbatch.discovery.discover import discover
from srbatch.errors import UsageError
from srbatch.formats import Format
from tests.conftest import without_privileges
from tests.discovery.conftest import make, targets


def test_an_output_inside_the_input_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match=r"--out .* lies inside the input"):
        discover((photos,), photos / "deep" / "hi")


def test_an_output_that_is_the_input_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match="--out"):
        discover((photos,), photos)


def test_an_input_inside_the_output_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match=r"input .* lies inside --out"):
        discover((photos,), tmp_path)


def test_a_single_photo_that_lies_deeper_in_the_output_is_taken(out: Path) -> None:
    """One that was put there to be done; its output has another place, and it is no folder of photos."""
    make(out, "new/a.jpg")
    (photo,) = discover((out / "new" / "a.jpg",), out).photos
    assert (photo.target, photo.problem) == (out / "a.jpg", None)


def test_an_output_inside_the_input_by_way_of_a_link_is_refused(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(UsageError, match="--out"):
        discover((photos,), tmp_path / "link" / "hi")


def test_an_input_that_is_a_link_to_the_outputs_parent_is_refused(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(UsageError, match="--out"):
        discover((tmp_path / "link",), photos / "hi")


@pytest.mark.parametrize("to", [".", "hi", "hi/1999", "hi/.srbatch", "photos/.."])
def test_a_link_below_the_input_that_leads_to_the_output_is_told_and_not_followed(
    tmp_path: Path, photos: Path, out: Path, to: str
) -> None:
    make(out, "1999/a.jpg", ".srbatch/c.jpg")
    make(photos, "sub/a.jpg", "1999/a.jpg", "z/b.jpg")
    (photos / "sub" / "link").symlink_to(tmp_path / to)
    found = discover((photos,), out)
    assert sorted(targets(found)) == ["1999/a.jpg", "sub/a.jpg", "z/b.jpg"]
    assert not any(photo.problem for photo in found.photos)
    ((folder, why),) = found.unreadable_folders
    assert folder == photos / "sub" / "link"
    assert f"leads to --out {out}" in why


def test_an_output_that_is_the_photo_is_refused(photos: Path) -> None:
    make(photos, "a.jpg")
    with pytest.raises(UsageError, match="--out"):
        discover((photos / "a.jpg",), photos / "a.jpg")


def test_an_output_that_is_the_photo_by_another_name_is_refused(tmp_path: Path, photos: Path) -> None:
    make(photos, "a.jpg")
    (tmp_path / "link.jpg").symlink_to(photos / "a.jpg")
    with pytest.raises(UsageError, match="--out"):
        discover((photos / "a.jpg",), tmp_path / "link.jpg")


def _the_folder_of_the_photo_as_output(photos: Path, out: Path) -> tuple[Path, Path]:
    return photos / "sub" / "a.jpg", photos / "sub"


def _a_link_in_the_output_to_the_originals(photos: Path, out: Path) -> tuple[Path, Path]:
    make(out)
    (out / "sub").symlink_to(photos / "sub")
    return photos, out


def _a_link_in_the_input_to_the_outputs(photos: Path, out: Path) -> tuple[Path, Path]:
    make(out)
    (photos / "sub").rename(out / "sub")
    (photos / "sub").symlink_to(out / "sub")
    return photos, out


@pytest.mark.parametrize(
    "arranged",
    [
        _the_folder_of_the_photo_as_output,
        _a_link_in_the_output_to_the_originals,
        _a_link_in_the_input_to_the_outputs,
    ],
)
def test_no_photo_is_its_own_output(photos: Path, out: Path, arranged: object) -> None:
    make(photos, "sub/a.jpg")
    source, destination = arranged(photos, out)  # type: ignore[operator]
    try:
        found = discover((source,), destination)
    except UsageError:
        return
    own = [p for p in found.photos if p.target.exists() and p.target.samefile(p.source)]
    assert [p.target for p in own if p.problem is None] == []


@pytest.mark.parametrize("name", ["nothing", "nothing.jpg"])
def test_an_input_that_is_not_there_is_refused_by_its_name(photos: Path, out: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        discover((photos, photos / name), out)


@pytest.mark.parametrize("name", ["a.jpg", "deep/a.jpg"])
def test_an_input_where_one_may_not_look_is_refused_by_its_name(public: Path, name: str) -> None:
    with without_privileges():
        (public / "closed").mkdir(mode=0)
        path = public / "closed" / name
        check_outside((path,), {"--report": public / "r.csv"})
        with pytest.raises(UsageError, match=f"{name}: Permission denied; see to its permissions"):
            discover((path,), public / "hi")


def test_an_output_where_one_may_not_look_is_no_folder_yet(public: Path) -> None:
    with without_privileges():
        make(public / "photos", "a.jpg", "A.jpg")
        (public / "closed").mkdir(mode=0)
        for inputs in ((public / "photos" / "a.jpg",), (public / "photos",)):
            assert discover(inputs, public / "closed" / "hi.jpg").photos
            assert discover(inputs, public / "closed").photos


@pytest.fixture
def two_names(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another name of the photos' folder that no path tells: a bind mount, or one that differs in case."""
    stat = Path.stat

    def renamed(path: Path, **others: bool) -> os.stat_result:
        return stat(Path(str(path).replace("PHOTOS", "photos")), **others)

    monkeypatch.setattr(Path, "stat", renamed)
    return tmp_path / "PHOTOS"


def test_an_output_inside_the_input_by_another_name_is_refused(photos: Path, two_names: Path) -> None:
    with pytest.raises(UsageError, match=r"--out .* lies inside the input"):
        discover((photos,), two_names / "deep" / "hi")


def test_an_output_that_is_the_input_by_another_name_is_refused(photos: Path, two_names: Path) -> None:
    with pytest.raises(UsageError, match="is the input itself"):
        discover((photos,), two_names)


def test_an_input_inside_the_output_by_another_name_is_refused(photos: Path, two_names: Path) -> None:
    make(photos, "1999/a.jpg")
    with pytest.raises(UsageError, match=r"input .* lies inside --out"):
        discover((photos / "1999",), two_names)


def test_one_folder_by_two_names_is_one_input(photos: Path, out: Path, two_names: Path) -> None:
    make(photos, "a.jpg")
    assert targets(discover((photos, two_names), out)) == ["a.jpg"]


@pytest.mark.parametrize("numbers", [True, False], ids=["inodes", "no inodes"])
def test_a_link_to_where_the_output_will_be_is_not_followed(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, numbers: bool
) -> None:
    make(tmp_path / "disk", "b.jpg")
    make(photos, "a.jpg")
    (photos / "link").symlink_to(tmp_path / "disk")
    if not numbers:
        monkeypatch.setattr(module, "identity", lambda path: None)
        monkeypatch.setattr(collisions, "identity", lambda path: None)
        monkeypatch.setattr(places, "identity", lambda path: None)
    found = discover((photos,), tmp_path / "disk" / "new" / "hi")
    assert targets(found) == ["a.jpg"]
    assert [folder for folder, _ in found.unreadable_folders] == [photos / "link"]


@pytest.mark.parametrize("to", ["photos/sub", "photos/sub/new", "photos", "photos/.hidden", "disk"])
@pytest.mark.parametrize("at", ["sub", "sub/deep"])
def test_a_link_in_the_output_that_leads_among_the_originals_is_refused(
    tmp_path: Path, photos: Path, out: Path, at: str, to: str
) -> None:
    make(photos, "sub/deep/a.jpg", ".hidden/b.jpg")
    make(tmp_path / "disk", "c.jpg")
    (photos / "link").symlink_to(tmp_path / "disk")
    (out / at).parent.mkdir(parents=True)
    (out / at).symlink_to(tmp_path / to)
    with pytest.raises(UsageError, match=r"--out: .*deep would lie among the originals"):
        discover((photos,), out, to=Format.PNG)


def test_a_link_in_the_output_that_leads_elsewhere_is_followed(
    tmp_path: Path, photos: Path, out: Path
) -> None:
    make(photos, "sub/deep/a.jpg", "b.jpg")
    make(tmp_path / "disk")
    make(out)
    (out / "sub").symlink_to(tmp_path / "disk")
    assert not any(photo.problem for photo in discover((photos,), out).photos)


def test_a_folder_of_the_output_that_is_mounted_from_the_input_is_refused(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, "1999/a.jpg")
    make(out / "1999")
    stat, at = Path.stat, str(out / "1999")
    monkeypatch.setattr(
        Path, "stat", lambda path, **o: stat(photos / "1999" if str(path) == at else path, **o)
    )
    with pytest.raises(UsageError, match="among the originals"):
        discover((photos,), out)


def test_each_folder_of_outputs_is_looked_at_once(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, *(f"{year}/{n}.jpg" for year in range(1980, 1990) for n in range(10)))
    asked: list[Path] = []
    followed = os.path.realpath

    def realpath(path: Path) -> str:
        asked.append(path)
        return followed(path)

    monkeypatch.setattr(os.path, "realpath", realpath)
    discover((photos,), out)
    assert [path for path in asked if out in path.parents] == [out / str(n) for n in range(1980, 1990)]


@pytest.mark.parametrize("name", ["new", "new/newer", "1999", "."])
def test_what_is_written_lies_outside_of_the_inputs(photos: Path, name: str) -> None:
    make(photos, "1999/a.jpg")
    with pytest.raises(UsageError, match=r"--state .* lies inside the input"):
        check_outside((photos,), {"--scratch": None, "--state": photos / name})


def test_what_is_written_may_lie_beside_a_photo_that_is_named(tmp_path: Path, photos: Path) -> None:
    make(photos, "a.jpg")
    check_outside((photos / "a.jpg",), {"--report": photos / "r.csv"})
    check_outside((photos,), {"--report": tmp_path / "r.csv"})

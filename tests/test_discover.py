"""From folders to photos: nothing vanishes, nothing is flattened, and no output can reach an original."""

from __future__ import annotations

import itertools
import os
import random
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srbatch import discover as module
from srbatch import places
from srbatch.commit import temp_path
from srbatch.discover import Found, Photo, Selection, check_name, check_outside, discover, target_name
from srbatch.errors import Interrupted, UnsupportedPhoto, UsageError
from srbatch.formats import Format
from srbatch.names import show
from tests.conftest import WRITTEN, without_privileges


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def targets(found: Found) -> list[str]:
    return [photo.relative.as_posix() for photo in found.photos]


def only(found: Found) -> Photo:
    (photo,) = found.photos
    return photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make(tmp_path / "photos")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "hi"


# ---- the tree ------------------------------------------------------------------------------------


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
        ("notes.txt", "files that are not pictures"),
        ("jpg", "files that are not pictures"),
        ("film.mov", "files that are not pictures"),
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


@pytest.mark.parametrize("name", ["b.CR2", "e.jxl", "f.psd", "h.DNG"])
def test_a_picture_that_cannot_be_read_is_a_photo_that_fails_with_advice(
    photos: Path, out: Path, name: str
) -> None:
    make(photos, name)
    problem = only(discover((photos,), out)).problem
    assert isinstance(problem, UnsupportedPhoto)
    assert "convert it" in str(problem)
    assert f"--exclude '*{Path(name).suffix.lower()}'" in str(problem)


def test_a_file_without_an_extension_gets_no_advice_to_exclude_everything(photos: Path, out: Path) -> None:
    make(photos, "scan0001")
    problem = only(discover((photos / "scan0001",), out)).problem
    assert isinstance(problem, UnsupportedPhoto)
    assert "--exclude '*'" not in str(problem)


@settings(max_examples=40, deadline=None)
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


# ---- links ---------------------------------------------------------------------------------------


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


# ---- input and output apart ----------------------------------------------------------------------


def test_an_output_inside_the_input_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match=r"--out .* lies inside the input"):
        discover((photos,), photos / "deep" / "hi")


def test_an_output_that_is_the_input_is_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match="--out"):
        discover((photos,), photos)


def test_an_input_inside_the_output_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match=r"input .* lies inside --out"):
        discover((photos,), tmp_path)


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


# ---- several inputs, single files ----------------------------------------------------------------


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


# ---- names ---------------------------------------------------------------------------------------

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
    monkeypatch.setattr(module, "_tells_case_apart", lambda folder: False)
    first, second, third = discover((photos,), out).photos
    assert str(second.source) in str(first.problem)
    assert str(first.source) in str(second.problem)
    assert third.problem is None


def test_photos_that_differ_in_case_are_done_where_the_file_system_tells_case_apart(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos, "IMG.jpg", "img.JPG")
    monkeypatch.setattr(module, "_tells_case_apart", lambda folder: True)
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
    monkeypatch.setattr(module, "_tells_case_apart", lambda folder: bool(folders.append(folder)) or True)
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


def test_an_output_that_would_have_the_name_of_a_folder_of_outputs_fails(photos: Path, out: Path) -> None:
    make(photos, "a.jpg", "a.jpg.png/b.jpg")
    found = discover((photos,), out, to=Format.PNG)
    assert targets(found) == ["a.jpg.png", "a.jpg.png/b.jpg.png"]
    assert any(photo.problem for photo in found.photos)


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

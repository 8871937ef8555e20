"""Originals that are moved: none is ever replaced or lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from srbatch.discovery.discover import discover
from srbatch.errors import UsageError
from srbatch.outputs import commit
from srbatch.watch import moving
from srbatch.watch.moving import NotMoved, OriginalsFolder, move_by_links, move_new
from tests.corpus import XMP
from tests.watch.conftest import lying, originals_folder, quiet


@pytest.mark.parametrize("way", [move_new, move_by_links])
def test_a_move_never_replaces(tmp_path: Path, way: Callable[[Path, Path], None]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"a")
    b.write_bytes(b"b")
    with pytest.raises(FileExistsError):
        way(a, b)
    assert (a.read_bytes(), b.read_bytes()) == (b"a", b"b")
    way(a, tmp_path / "c")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "c"]
    assert (tmp_path / "c").read_bytes() == b"a"


def test_by_links_a_file_that_takes_the_name_meanwhile_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, link = tmp_path / "a", os.link
    a.write_bytes(b"a")

    def link_and_be_overtaken(source: Path, target: Path, **others: bool) -> None:
        link(source, target, **others)
        if Path(source) == a:
            (tmp_path / "new").write_bytes(b"another")
            (tmp_path / "new").replace(a)

    monkeypatch.setattr(os, "link", link_and_be_overtaken)
    move_by_links(a, tmp_path / "b")
    assert (a.read_bytes(), (tmp_path / "b").read_bytes()) == (b"another", b"a")
    assert len(list(tmp_path.iterdir())) == 2


def test_by_links_a_file_that_cannot_be_put_back_is_kept_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, link = tmp_path / "a", os.link
    a.write_bytes(b"a")

    def link_and_be_overtaken_twice(source: Path, target: Path, **others: bool) -> None:
        if Path(target) == a:
            a.write_bytes(b"a third")
        link(source, target, **others)
        (tmp_path / "new").write_bytes(b"another")
        (tmp_path / "new").replace(a)

    monkeypatch.setattr(os, "link", link_and_be_overtaken_twice)
    with pytest.raises(NotMoved, match="another file had its name, and lies at") as raised:
        move_by_links(a, tmp_path / "b")
    left = {path.read_bytes(): path for path in tmp_path.iterdir()}
    assert left.keys() == {b"a", b"another", b"a third"}
    assert str(left[b"another"]) in str(raised.value)


def test_where_the_kernel_does_not_offer_it_links_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(moving, "_rename_exclusively", refused)
    (tmp_path / "a").write_bytes(b"a")
    move_new(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"a"


def test_originals_keep_their_folders_and_get_other_names_where_theirs_are_taken(drop: Path) -> None:
    told: list[Path] = []
    names = []
    for data in (b"1", b"2", b"2", b"3"):
        found = lying(drop / "1999" / "a.jpg", data)
        names.append(originals_folder(drop).move(found, tag=data.decode() * 8, before=told.append).name)
    assert names == ["a.jpg", "a.22222222.jpg", "a.22222222.2.jpg", "a.33333333.jpg"]
    assert [path.name for path in told] == names
    done = drop.parent / "done" / "1999"
    assert [(done / name).read_bytes() for name in names] == [b"1", b"2", b"2", b"3"]
    assert list((drop / "1999").iterdir()) == []


def test_an_original_of_a_date_that_no_ledger_holds_is_moved(drop: Path) -> None:
    (drop / "a.jpg").write_bytes(b"photo")
    os.utime(drop / "a.jpg", ns=(2**63 + 10**18,) * 2)
    (found,) = discover((drop,), drop.parent / "hi").photos
    assert originals_folder(drop).move(found, before=quiet).read_bytes() == b"photo"


def test_sidecars_move_along_unless_another_photo_needs_them(drop: Path) -> None:
    for name in ("a.jpg.xmp", "a.xmp", "b.xmp", "b.dng"):
        (drop / name).write_bytes(b"")
    for name in ("a.jpg", "b.jpg"):
        originals_folder(drop).move(lying(drop / name), before=quiet)
    assert sorted(p.name for p in (drop.parent / "done").iterdir()) == [
        "a.jpg",
        "a.jpg.xmp",
        "a.xmp",
        "b.jpg",
    ]
    assert sorted(p.name for p in drop.iterdir()) == ["1999", "b.dng", "b.xmp"]


def test_a_sidecar_that_says_that_it_is_that_of_a_video_stays_with_it(drop: Path) -> None:
    said = "xmlns:p='http://ns.adobe.com/photoshop/1.0/' p:SidecarForExtension='MOV'"
    packet = XMP.format(1).replace("</rdf:RDF>", f"<rdf:Description {said}/></rdf:RDF>")
    (drop / "a.xmp").write_text(packet)
    for name in ("a.MOV", "a.heic"):
        (drop / name).write_bytes(b"")
    originals_folder(drop).move(lying(drop / "a.heic"), before=quiet)
    assert [p.name for p in (drop.parent / "done").iterdir()] == ["a.heic"]
    assert (drop / "a.xmp").exists()


def test_a_sidecar_that_photos_share_is_moved_with_the_last_of_them(drop: Path) -> None:
    for name in ("a.xmp", "a.png"):
        (drop / name).write_bytes(b"photo")
    for name in ("a.jpg", "a.png"):
        originals_folder(drop).move(lying(drop / name), before=quiet)
    assert sorted(p.name for p in (drop.parent / "done").iterdir()) == ["a.jpg", "a.png", "a.xmp"]


def test_a_photo_never_comes_to_lie_beside_the_sidecar_of_another(drop: Path) -> None:
    done = drop.parent / "done"
    done.mkdir()
    for name in ("a.png", "a.xmp", "b.jpg.png", "b.jpg.xmp", "c.jpg", "d.png", "d.XMP", "e.jpg", "e.jpg.xmp"):
        (done / name).write_bytes(b"there")
    for name in ("a.xmp", "c.jpg.xmp", "d.xmp", "e.jpg.xmp"):
        (drop / name).write_bytes(b"moved")
    moved = {}
    for name in ("a.jpg", "b.jpg", "c.jpg.png", "d.jpg", "e.jpg"):
        moved[name] = originals_folder(drop).move(lying(drop / name), tag="tag", before=quiet).name
    assert moved == {
        "a.jpg": "a.tag.jpg",
        "b.jpg": "b.tag.jpg",
        "c.jpg.png": "c.jpg.tag.png",
        "d.jpg": "d.tag.jpg",
        "e.jpg": "e.tag.jpg",
    }
    left = {path.name for path in done.iterdir() if path.read_bytes() == b"moved"}
    assert left == {"a.tag.xmp", "c.jpg.tag.xmp", "d.tag.xmp", "e.tag.jpg.xmp"}
    assert [path.name for path in drop.iterdir()] == ["1999"]
    originals_folder(drop).move(lying(drop / "e.jpg.png"), tag="tag", before=quiet)
    assert (done / "e.jpg.png").exists(), "what is there is that of e.jpg alone"


def test_a_photo_goes_to_its_sidecars_that_were_moved_before_it_was_cut_off(drop: Path) -> None:
    done = drop.parent / "done"
    done.mkdir()
    for name in ("a.xmp", "a.jpg.xmp", "a.tag.png"):
        (done / name).write_bytes(b"")
    assert originals_folder(drop).move(lying(drop / "a.jpg"), tag="tag", before=quiet) == done / "a.jpg"


def test_a_name_that_only_begins_alike_keeps_no_sidecar(drop: Path) -> None:
    for name in ("a.xmp", "a.2.jpg", "ab.jpg"):
        (drop / name).write_bytes(b"")
    originals_folder(drop).move(lying(drop / "a.jpg"), before=quiet)
    assert sorted(p.name for p in (drop.parent / "done").iterdir()) == ["a.jpg", "a.xmp"]


def test_a_text_tells_why_also_after_a_move_that_was_cut_off(drop: Path) -> None:
    failed = drop.parent / "done"
    failed.mkdir()
    (failed / "a.jpg.txt").write_text("because")  # the move had come so far
    (failed / "b.jpg.txt").write_text("somebody's")
    for name in ("a.jpg", "b.jpg"):
        originals_folder(drop).move(lying(drop / name), text="because", before=quiet)
    assert {p.name: p.read_bytes() for p in failed.iterdir()} == {
        "a.jpg": b"photo",
        "a.jpg.txt": b"because",
        "b.jpg.txt": b"somebody's",
        "b.2.jpg": b"photo",
        "b.2.jpg.txt": b"because",
    }


@pytest.mark.parametrize("theirs", ["no text", "a link"])
def test_a_text_is_never_written_over_what_is_no_text_of_ours(drop: Path, theirs: str) -> None:
    failed = drop.parent / "done"
    failed.mkdir()
    if theirs == "no text":
        (failed / "a.jpg.txt").write_bytes(b"\xff\xfen\0o\0")
    else:
        (failed / "a.jpg.txt").symlink_to("elsewhere.txt")
    moved = originals_folder(drop).move(lying(drop / "a.jpg"), text="because", before=quiet)
    assert moved.name == "a.2.jpg"
    assert (failed / "a.2.jpg.txt").read_text() == "because"
    if theirs == "no text":
        assert (failed / "a.jpg.txt").read_bytes() == b"\xff\xfen\0o\0"
    else:
        assert not (failed / "elsewhere.txt").exists()


@pytest.mark.parametrize("letter", ["x", "é", os.fsdecode(b"\xff")], ids=ascii)
def test_a_text_goes_beside_each_original_however_long_its_name(drop: Path, letter: str) -> None:
    names = [letter * (249 // len(os.fsencode(letter))) + ending for ending in ("a.jpeg", "b.jpeg")]
    for name in names:
        moved = originals_folder(drop).move(lying(drop / name), text=f"because of {name[-6:]}", before=quiet)
        assert moved.name == name
    left = {path.name: path for path in (drop.parent / "done").iterdir()}
    notes = [left.pop(name) for name in sorted(left) if name.endswith(".txt")]
    assert set(left) == set(names)
    assert sorted(note.read_text() for note in notes) == ["because of a.jpeg", "because of b.jpeg"]
    assert all(note.name.startswith(letter * 100) for note in notes)


@pytest.mark.parametrize("by_descriptor", [moving._BY_DESCRIPTOR, False])
def test_links_are_not_moved_and_neither_is_what_they_lead_to(
    drop: Path, monkeypatch: pytest.MonkeyPatch, by_descriptor: bool
) -> None:
    monkeypatch.setattr(moving, "_BY_DESCRIPTOR", by_descriptor)
    elsewhere = drop.parent / "elsewhere"
    elsewhere.mkdir()
    original = lying(elsewhere / "a.jpg")
    (drop / "a.jpg").symlink_to(elsewhere / "a.jpg")
    (drop / "linked").symlink_to(elsewhere)
    for path in (drop / "a.jpg", drop / "linked" / "a.jpg"):
        with pytest.raises(NotMoved, match="a link leads to it"):
            originals_folder(drop).move(replace(original, source=path), before=quiet)
        assert path.exists()


def test_a_photo_that_has_changed_stays(drop: Path) -> None:
    found = lying(drop / "a.jpg")
    (drop / "a.jpg").write_bytes(b"rewritten")
    with pytest.raises(NotMoved, match="has changed"):
        originals_folder(drop).move(found, before=quiet)

    found = lying(drop / "a.jpg")

    def overtaken(path: Path) -> None:
        (drop / "a.jpg").write_bytes(b"another one")

    with pytest.raises(NotMoved, match="another file has its name"):
        originals_folder(drop).move(found, before=overtaken)
    assert (drop / "a.jpg").read_bytes() == b"another one"
    assert list((drop.parent / "done").iterdir()) == []


def test_a_photo_that_was_rewritten_and_has_its_old_size_stays(drop: Path) -> None:
    found = lying(drop / "a.jpg", b"one")
    (drop / "a.jpg").write_bytes(b"two")
    os.utime(drop / "a.jpg", ns=(1, found.mtime_ns + 10**9))
    with pytest.raises(NotMoved, match="has changed"):
        originals_folder(drop).move(found, before=quiet)
    assert (drop / "a.jpg").read_bytes() == b"two"


def test_a_file_that_cannot_be_put_back_is_kept_and_told_of(
    drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, real = lying(drop / "a.jpg"), moving.move_new

    def move_and_be_overtaken(*paths: Path, **folders: int | None) -> None:
        real(*paths, **folders)
        (drop / "a.jpg").write_bytes(b"a third one")

    monkeypatch.setattr(moving, "move_new", move_and_be_overtaken)
    moved = drop.parent / "done" / "a.jpg"
    with pytest.raises(NotMoved, match="another file had its name, and lies at") as raised:
        originals_folder(drop).move(found, before=lambda _: (drop / "a.jpg").write_bytes(b"another one"))
    assert str(moved) in str(raised.value)
    assert moved.read_bytes() == b"another one"
    assert (drop / "a.jpg").read_bytes() == b"a third one"


def test_a_name_that_is_taken_in_the_last_moment_is_left_to_who_took_it(drop: Path) -> None:
    def taken(path: Path) -> None:
        if path.name == "a.jpg":
            path.write_bytes(b"another's")

    (drop / "a.xmp").write_bytes(b"its sidecar")
    originals_folder(drop).move(lying(drop / "a.jpg"), before=taken)
    assert {path.name: path.read_bytes() for path in (drop.parent / "done").iterdir()} == {
        "a.jpg": b"another's",
        "a.2.jpg": b"photo",
        "a.2.xmp": b"its sidecar",
    }


def test_no_folder_is_left_open_by_a_move_nor_by_one_that_fails(drop: Path) -> None:
    """A watcher of months would end up with as many as the system allows."""
    (drop / "1999" / "summer").mkdir()
    descriptors = psutil.Process().num_fds if os.name != "nt" else psutil.Process().num_handles
    found = lying(drop / "1999" / "summer" / "a.jpg")
    before = descriptors()
    with pytest.raises(NotMoved):
        originals_folder(drop).move(replace(found, size=1), before=quiet)
    with pytest.raises(NotMoved):
        originals_folder(drop).move(replace(found, source=drop / "1999" / "away" / "a.jpg"), before=quiet)
    originals_folder(drop).move(found, before=quiet)
    assert descriptors() == before


@pytest.mark.skipif(os.name == "nt", reason="a folder cannot be synced")
@pytest.mark.parametrize("by_descriptor", [moving._BY_DESCRIPTOR, False])
def test_a_move_is_on_the_disk_when_it_is_told_of(
    drop: Path, monkeypatch: pytest.MonkeyPatch, by_descriptor: bool
) -> None:
    monkeypatch.setattr(moving, "_BY_DESCRIPTOR", by_descriptor)
    found, moved = lying(drop / "1999" / "a.jpg"), drop.parent / "done" / "1999" / "a.jpg"
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        if moved.exists():
            synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(commit, "flush", sync)
    monkeypatch.setattr(moving, "flush", sync)
    assert originals_folder(drop).move(found, before=quiet) == moved
    assert {folder.stat().st_ino for folder in (moved.parent, drop / "1999")} <= set(synced)


@pytest.mark.skipif(not moving._BY_DESCRIPTOR, reason="the system opens no folder to look files up in")
@pytest.mark.parametrize("by_links", [False, True], ids=["rename", "links"])
def test_a_folder_that_a_link_takes_the_place_of_meanwhile_is_not_taken_for_it(
    drop: Path, monkeypatch: pytest.MonkeyPatch, by_links: bool
) -> None:
    if by_links:

        def refused(*_: object, **__: object) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(moving, "_rename_exclusively", refused)
    others, sub = drop.parent / "others", drop / "sub"
    for folder in (others, sub):
        folder.mkdir()
        for name in ("a.jpg", "a.jpg.xmp", "a.xmp"):
            (folder / name).write_bytes(folder.name[:3].encode())
            os.utime(folder / name, ns=(7, 7))
    found = replace(lying(sub / "a.jpg", b"sub"), mtime_ns=7)
    os.utime(sub / "a.jpg", ns=(7, 7))

    def exchanged(path: Path) -> None:
        sub.rename(drop / "moved")
        sub.symlink_to(others)

    originals_folder(drop).move(found, before=exchanged)
    assert {path.name: path.read_bytes() for path in others.iterdir()} == {
        "a.jpg": b"oth",
        "a.jpg.xmp": b"oth",
        "a.xmp": b"oth",
    }
    assert {path.name: path.read_bytes() for path in (drop.parent / "done" / "sub").iterdir()} == {
        "a.jpg": b"sub",
        "a.jpg.xmp": b"sub",
        "a.xmp": b"sub",
    }


@pytest.mark.parametrize("by_descriptor", [moving._BY_DESCRIPTOR, False])
def test_sidecars_of_a_photo_that_stays_stay(
    drop: Path, monkeypatch: pytest.MonkeyPatch, by_descriptor: bool
) -> None:
    monkeypatch.setattr(moving, "_BY_DESCRIPTOR", by_descriptor)
    found = lying(drop / "1999" / "a.jpg")
    for name in ("a.jpg.xmp", "a.xmp"):
        (drop / "1999" / name).write_bytes(name.encode())

    def overtaken(path: Path) -> None:
        (drop / "1999" / "a.jpg").write_bytes(b"another one")

    with pytest.raises(NotMoved, match="another file has its name"):
        originals_folder(drop).move(found, before=overtaken)
    assert {path.name: path.read_bytes() for path in (drop / "1999").iterdir()} == {
        "a.jpg": b"another one",
        "a.jpg.xmp": b"a.jpg.xmp",
        "a.xmp": b"a.xmp",
    }
    found = lying(drop / "1999" / "a.jpg")
    originals_folder(drop).move(found, before=quiet)
    assert list((drop / "1999").iterdir()) == []
    assert len(list((drop.parent / "done" / "1999").iterdir())) == 3


def test_a_file_system_that_refuses_is_told_of(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(moving, "move_new", refused)
    with pytest.raises(NotMoved, match=os.strerror(errno.EXDEV)):
        originals_folder(drop).move(lying(drop / "a.jpg"), before=quiet)
    assert (drop / "a.jpg").exists()


@pytest.mark.parametrize("place", ["drop/done", "drop", "hi/done", "hi", ""])
def test_an_originals_folder_inside_or_around_other_folders_is_refused(drop: Path, place: str) -> None:
    (drop.parent / "hi").mkdir()
    with pytest.raises(UsageError, match="--done"):
        OriginalsFolder("--done", drop.parent / place, watched=drop, out=drop.parent / "hi")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="another disk is needed")
def test_an_originals_folder_on_another_disk_is_refused(drop: Path) -> None:
    if Path("/dev/shm").stat().st_dev == drop.stat().st_dev:
        pytest.skip("another disk is needed")
    with pytest.raises(UsageError, match="another disk"):
        OriginalsFolder("--done", Path("/dev/shm"), watched=drop, out=drop.parent / "hi")

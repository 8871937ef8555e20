"""Photos: which are found and why others are not, and the cache of their pixels."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from srbatch.errors import DestinationError, PhotoChanged, UsageError
from tests.conftest import crop
from tests.trainer.crops import looked, save
from trainer import photos
from trainer.photos import Photo, Store, decode, find

# ---- finding ----------------------------------------------------------------------------------------------


def test_all_formats_are_found_below_the_folder(tmp_path: Path) -> None:
    names = ["a.JPG", "b.png", "c/d.webp", "c/e/f.tif", "g.bmp", "h.avif", "i.jfif"]
    save(tmp_path, *names)
    crop().save(tmp_path / "no-photo.gif")
    save(tmp_path, ".hidden.png", ".thumbnails/x.png")
    (tmp_path / "notes.txt").write_text("no photo")
    good, left_out = looked(tmp_path)
    assert [photo.name for photo in good] == names
    assert {(photo.height, photo.width) for photo in good} == {(48, 64)}
    assert left_out == {}


def test_what_is_of_no_use_is_left_out_with_its_reason(tmp_path: Path) -> None:
    save(tmp_path, "good.png", "whole.jpg")
    save(tmp_path, "narrow.png", height=64, width=31)
    save(tmp_path, "least.png", height=32, width=32)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    good, left_out = looked(tmp_path)
    assert [photo.name for photo in good] == ["good.png", "least.png", "whole.jpg"]
    assert left_out.keys() == {"narrow.png", "empty.jpg", "text.png", "cut.jpg", "lost.png"}
    assert left_out["narrow.png"] == "31 x 64 is smaller than a crop of 32 px"
    assert "truncated" in left_out["cut.jpg"].lower()
    assert all(reason.startswith("cannot be read: ") for n, reason in left_out.items() if n != "narrow.png")


def test_heic_is_read_where_its_library_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    wide = np.asarray(crop(48, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    for bits, kind in ((8, "RGB"), (10, "RGB;16")):
        pixels = wide if bits == 8 else (wide.astype(np.uint16) << 8)
        made = heif.from_bytes(kind, (64, 48), np.ascontiguousarray(pixels).tobytes())
        made.save(tmp_path / f"{bits}.heic", quality=95, chroma=444, exif=exif.tobytes())
        read = decode(tmp_path / f"{bits}.heic")
        assert read.shape == (64, 48, 3)
        assert np.abs(read - np.rot90(wide, -1).astype(float)).mean() < 3
    save(tmp_path, "renamed.png")
    (tmp_path / "renamed.png").rename(tmp_path / "renamed.HEIC")
    good, left_out = looked(tmp_path)
    assert [photo.name for photo in good] == ["10.heic", "8.heic", "renamed.HEIC"]
    assert left_out == {}


def test_heic_is_left_out_with_its_reason_where_its_library_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert "pip install 'srbatch[heif]'" in looked(tmp_path)[1]["a.heic"]


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "a.png", "closed/b.png")
    scan = os.scandir

    def closed(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    good, left_out = looked(tmp_path)
    assert [photo.name for photo in good] == ["a.png"]
    assert "Permission denied" in left_out["closed"]


def test_copies_that_programs_made_are_left_out(tmp_path: Path) -> None:
    """Thumbnails of a NAS, what was deleted, previews of a photo program: each would be there twice."""
    save(
        tmp_path,
        "a.png",
        "@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg",
        "b/#recycle/c.jpg",
        "Mine.photoslibrary/d.jpg",
    )
    good, left_out = looked(tmp_path)
    assert [photo.name for photo in good] == ["a.png"]
    assert left_out.keys() == {"@eaDir", "#recycle", "Mine.photoslibrary"}
    assert left_out["@eaDir"] == "folders of thumbnails, deleted files or snapshots"
    assert [photo.name for photo in looked(tmp_path / "Mine.photoslibrary")[0]] == ["d.jpg"]


def test_a_link_to_a_folder_is_not_followed_and_told(tmp_path: Path) -> None:
    save(tmp_path, "photos/a.png", "elsewhere/b.png")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    good, left_out = looked(tmp_path / "photos")
    assert [photo.name for photo in good] == ["a.png"]
    assert left_out == {"more": "a link to a folder; give that as well, to have it searched"}


def test_no_folder_and_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone: there is no such folder"):
        find([tmp_path / "gone"], smallest=32, valid_percent=50)
    with pytest.raises(UsageError, match=r"no photo to train with \(0 left out\)"):
        find([tmp_path], smallest=32, valid_percent=50)
    (tmp_path / "bad.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"1 left out; .*bad.jpg: cannot be read"):
        find([tmp_path], smallest=32, valid_percent=50)


def test_one_photo_cannot_be_on_both_sides(tmp_path: Path) -> None:
    save(tmp_path, "a.png")
    with pytest.raises(UsageError, match=r"of 1 photos .* data.valid_percent"):
        find([tmp_path], smallest=32, valid_percent=50)


def test_warnings_of_a_photo_are_no_errors(tmp_path: Path) -> None:
    """As many at once as there are threads: the filters of warnings belong to all of them."""
    for number in range(24):
        crop().convert("P").save(tmp_path / f"{number}.png", transparency=b"\x00\x80")  # Pillow warns of it
    before = list(warnings.filters)
    assert len(looked(tmp_path)[0]) == 24
    assert warnings.filters == before


# ---- decoding ---------------------------------------------------------------------------------------------


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright = np.asarray(crop())
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png"), upright)
    assert (looked(tmp_path)[0][0].height, looked(tmp_path)[0][0].width) == (48, 64)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    crop().convert("RGB").convert(mode).save(path)
    pixels = decode(path)
    assert (pixels.shape, pixels.dtype) == ((48, 64, 3), np.uint8)


def test_16_bits_keep_their_upper_8(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png"), np.stack([levels >> 8] * 3, axis=2))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_tiff_whose_white_is_0_is_no_negative(tmp_path: Path, bits: int, compression: str | None) -> None:
    levels = np.linspace(0, 2**bits - 1, 48 * 64).astype(f"uint{bits}").reshape(48, 64)
    stored, path = 2**bits - 1 - levels, tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="miniswhite", compression=compression, byteorder="<")
    assert np.array_equal(decode(path), np.stack([levels >> (bits - 8)] * 3, axis=2))


def test_pixels_without_a_range_are_left_out(tmp_path: Path) -> None:
    Image.fromarray(np.ones((48, 64), np.float32)).save(tmp_path / "a.tif")
    assert "no range" in looked(tmp_path)[1]["a.tif"]


# ---- the cache --------------------------------------------------------------------------------------------


@pytest.fixture
def found(tmp_path: Path) -> list[Photo]:
    save(tmp_path / "photos", "a.png", "b.png")
    save(tmp_path / "photos", "c.png", height=40, width=100)
    return looked(tmp_path / "photos")[0]


def pixels_in(folder: Path) -> list[Path]:
    """The files of decoded pixels."""
    return sorted(folder.glob("pixels-*.u8"))


def same(store: Store, found: list[Photo]) -> bool:
    return len(store) == len(found) and all(
        np.array_equal(store.read(index), decode(photo.path)) for index, photo in enumerate(found)
    )


def test_the_cache_gives_what_the_files_hold(found: list[Photo], tmp_path: Path) -> None:
    store = Store(found, tmp_path / "cache", 1e9)
    assert same(store, found)
    assert store.size(2) == (40, 100)
    (file,) = pixels_in(tmp_path / "cache")
    assert file.stat().st_size == sum(photo.bytes for photo in found)


def test_photos_that_fill_the_cache_to_the_last_byte_lie_in_it(found: list[Photo], tmp_path: Path) -> None:
    total = sum(photo.bytes for photo in found)
    assert Store(found, tmp_path / "cache", total).cached_bytes == total


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_beyond_the_limit_photos_are_decoded_anew(found: list[Photo], tmp_path: Path, share: float) -> None:
    limit = share * sum(photo.bytes for photo in found)
    store = Store(found, tmp_path / "cache", limit)
    assert same(store, found)
    assert sum(file.stat().st_size for file in pixels_in(tmp_path / "cache")) <= limit


def test_a_cache_is_used_again(found: list[Photo], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Store(found, tmp_path, 1e9)
    assert caplog.messages.pop().startswith("decoding 3 photos")
    caplog.clear()
    (file,) = pixels_in(tmp_path)
    before = file.stat()
    assert same(Store(found, tmp_path, 1e9), found)
    after = file.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert caplog.messages == []


@pytest.mark.parametrize("lost", ["pixels-*.u8", "pixels-*.json"])
def test_half_a_cache_is_made_again(found: list[Photo], tmp_path: Path, lost: str) -> None:
    Store(found, tmp_path, 1e9)
    (half,) = tmp_path.glob(lost)
    half.unlink()
    assert same(Store(found, tmp_path, 1e9), found)


def test_a_changed_photo_is_decoded_again(found: list[Photo], tmp_path: Path) -> None:
    Store(found, tmp_path, 1e9)
    crop(top=99).save(found[0].path)
    os.utime(found[0].path, ns=(1, 1))
    assert same(Store(found, tmp_path, 1e9), found)


def test_a_changed_photo_of_the_same_size_is_decoded_again(tmp_path: Path) -> None:
    save(tmp_path / "photos", "a.bmp", "b.bmp")
    found = looked(tmp_path / "photos")[0]
    Store(found, tmp_path, 1e9)
    before = found[0].path.stat()
    crop(top=99).save(found[0].path)
    os.utime(found[0].path, ns=(1, 1))
    assert found[0].path.stat().st_size == before.st_size
    assert same(Store(found, tmp_path, 1e9), found)


def test_a_cache_that_was_cut_off_is_made_again(found: list[Photo], tmp_path: Path) -> None:
    Store(found, tmp_path, 1e9)
    (file,) = pixels_in(tmp_path)
    os.truncate(file, file.stat().st_size // 2)
    assert same(Store(found, tmp_path, 1e9), found)


def test_a_cache_whose_end_came_before_its_start_is_not_believed(
    found: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its whole size then, and lies in the place of one that was whole once."""

    def the_last(photo: Photo) -> photos.Pixels:
        if photo != found[-1]:
            raise KeyboardInterrupt
        return decode(photo.path)

    Store(found, tmp_path, 1e9)
    (file,) = pixels_in(tmp_path)
    size = file.stat().st_size
    file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(photos, "_decoded", the_last)
        with pytest.raises(KeyboardInterrupt):
            Store(found, tmp_path, 1e9)
    assert file.stat().st_size == size
    assert same(Store(found, tmp_path, 1e9), found)


def test_an_interrupted_cache_is_not_believed(
    found: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(photo: Photo) -> None:
        raise KeyboardInterrupt

    Store(found[:2], tmp_path, 1e9)
    with monkeypatch.context() as patch:
        patch.setattr(photos, "_decoded", stop)
        with pytest.raises(KeyboardInterrupt):
            Store(found, tmp_path, 1e9)
    assert same(Store(found, tmp_path, 1e9), found)


def test_a_disk_that_is_too_small(
    found: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 100))
    with pytest.raises(DestinationError, match=r"lower data.cache_gb"):
        Store(found, tmp_path / "cache", 1e9)
    assert pixels_in(tmp_path / "cache") == []
    assert same(Store(found, tmp_path / "cache", 0), found)


def test_the_half_cache_counts_as_free(
    found: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(found, tmp_path / "cache", 1e9)
    (note,) = (tmp_path / "cache").glob("*.json")
    note.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 100))
    assert same(Store(found, tmp_path / "cache", 1e9), found)


def test_a_disk_that_fills_meanwhile(
    found: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "_keep", full)
    with pytest.raises(DestinationError, match="No space left"):
        Store(found, tmp_path / "cache", 1e9)


def test_a_cache_that_cannot_be_made(found: list[Photo], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DestinationError, match=r"file"):
        Store(found, tmp_path / "file" / "cache", 1e9)


def test_two_runs_with_other_photos_share_a_folder(found: list[Photo], tmp_path: Path) -> None:
    """Also for workers that the first one begins later: they open the file by its name."""
    store = Store(found, tmp_path, 1e9)
    other = Store(found[1:], tmp_path, 1e9)
    assert same(store, found)
    assert same(pickle.loads(pickle.dumps(store)), found)
    assert same(other, found[1:])
    assert len(pixels_in(tmp_path)) == 2


def test_a_run_that_begins_meanwhile_waits_for_the_same_photos(
    found: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    decoded: list[str] = []

    def slowly(photo: Photo) -> photos.Pixels:
        decoded.append(photo.name)
        begun.set()
        assert go_on.wait(60)
        return decode(photo.path)

    monkeypatch.setattr(photos, "_decoded", slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(Store, found, tmp_path, 1e9)
        assert begun.wait(60)
        second = pool.submit(Store, found, tmp_path, 1e9)
        wait([second], timeout=0.3)
        go_on.set()
        assert same(first.result(), found)
        assert same(second.result(), found)
    assert sorted(decoded) == ["a.png", "b.png", "c.png"]


def test_a_cache_that_is_made_again_leaves_one_in_use_alone(found: list[Photo], tmp_path: Path) -> None:
    store = Store(found, tmp_path, 1e9)
    assert same(store, found)
    (note,) = tmp_path.glob("*.json")
    note.unlink()
    Store(found, tmp_path, 1e9)
    assert same(store, found)


@pytest.mark.parametrize("limit", [0, 1e9])
def test_a_photo_that_changes_after_it_was_found(found: list[Photo], tmp_path: Path, limit: float) -> None:
    def pixels() -> object:
        return Store(found, tmp_path / "cache", limit).read(0)

    crop(50, 64).save(found[0].path)
    with pytest.raises(PhotoChanged, match=r"a.png has another size"):
        pixels()
    found[0].path.unlink()
    with pytest.raises(PhotoChanged, match=r"a.png (was there and is no longer|could be read before)"):
        pixels()


def test_a_store_can_be_sent_to_another_process(found: list[Photo], tmp_path: Path) -> None:
    store = Store(found, tmp_path / "cache", 1e9)
    store.read(0)
    sent = pickle.dumps(store)
    assert len(sent) < 2000  # not the pixels
    assert same(pickle.loads(sent), found)


def test_a_store_of_the_larger_photos(found: list[Photo], tmp_path: Path) -> None:
    store = Store(found, tmp_path / "cache", 1e9)
    large = store.of_at_least(48)
    assert (len(large), len(store)) == (2, 3)
    assert same(large, found[:2])
    assert len(store.of_at_least(200)) == 0
    assert same(pickle.loads(pickle.dumps(large)), found[:2])

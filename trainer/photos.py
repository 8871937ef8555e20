"""The photographs of a training: found and tried, split by name, and kept decoded in a cache."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from srbatch.codecs import heic
from srbatch.discovery.discover import why_of_programs
from srbatch.errors import DestinationError, PhotoChanged, UsageError
from srbatch.formats import Format
from srbatch.outputs.commit import destination_error, sync_file

log = logging.getLogger(__name__)

SUFFIXES = frozenset(suffix for fmt in set(Format) - {Format.GIF} for suffix in fmt.suffixes)
"""What srbatch reads, but for GIF: its 256 colours are no photograph."""
_SPLIT = 10_000
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph that can be read."""

    path: Path
    name: str
    """Path below the folder that was given, with ``/``; what the split and the record go by."""
    height: int
    width: int
    digest: bytes = b""
    """Of its decoded pixels: those of copies are the same, whatever their files are called and hold."""

    @property
    def bytes(self) -> int:
        """Of its decoded pixels."""
        return self.height * self.width * 3


@dataclass(frozen=True, slots=True)
class Photos:
    """What was found in the folders."""

    train: tuple[Photo, ...]
    valid: tuple[Photo, ...]
    left_out: tuple[tuple[str, str], ...]
    """(path, reason) of files that are of no use."""

    @property
    def sizes(self) -> list[tuple[str, int, int]]:
        """All names with height and width: what tells that they are those of an earlier start."""
        return [(p.name, p.height, p.width) for p in (*self.train, *self.valid)]

    @property
    def sha256(self) -> str:
        """Of all names and sizes: what the training record says of its data."""
        return hashlib.sha256(json.dumps(self.sizes).encode()).hexdigest()


def find(folders: Sequence[Path], *, smallest: int, valid_percent: float) -> Photos:
    """Decode every photograph below the folders once, and split those that are sound by their names.

    A photo always falls on the same side, whatever else lies in the folder. Where folders overlap, or links
    lead to a photo again, it counts once. So does a picture that lies there as several files: the first of
    those that fall to training counts, so that nothing is validated with that was trained on; if none does,
    the first.

    Raises:
        UsageError: no folder, or nothing in it to train or validate with.
    """
    good, left_out = find_all(folders, smallest=smallest)
    validating = {photo for photo in good if _share(photo.name) < valid_percent / 100}
    good, copies = _without_copies(good, validating)
    left_out = (*left_out, *copies)
    valid = tuple(photo for photo in good if photo in validating)
    train = tuple(photo for photo in good if photo not in validating)
    where = ", ".join(map(str, folders))
    if not good:
        some = f"; {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise UsageError(f"{where}: no photo to train with ({len(left_out)} left out{some})")
    if not train or not valid:
        raise UsageError(
            f"{where}: of {len(good)} photos {len(train)} are for training and {len(valid)} for validation;"
            " give more photos or change data.valid_percent"
        )
    return Photos(train, valid, left_out)


def _without_copies(
    good: Sequence[Photo], validating: Collection[Photo]
) -> tuple[list[Photo], list[tuple[str, str]]]:
    """Each picture once, in their order; (path, reason) of the others. Those for training go before."""
    kept: dict[tuple[bytes, int], Photo] = {}
    for photo in sorted(good, key=lambda photo: photo in validating):  # which leaves them in order otherwise
        kept.setdefault((photo.digest, photo.width), photo)
    copies = [photo for photo in good if kept[photo.digest, photo.width] is not photo]
    reasons = [
        (str(photo.path), f"the same picture as {kept[photo.digest, photo.width].path}") for photo in copies
    ]
    left = set(copies)
    return [photo for photo in good if photo not in left], reasons


def find_all(folders: Sequence[Path], *, smallest: int) -> tuple[list[Photo], tuple[tuple[str, str], ...]]:
    """Decode every photograph below the folders; those that are sound, and (path, reason) of the others.

    Raises:
        UsageError: one is not a folder.
    """
    refused: list[tuple[str, str]] = []
    paths = _each_once(_walk(folders, refused))
    with _quiet(), ThreadPoolExecutor() as pool:
        looked = list(pool.map(lambda found: _look(found[0], found[1], smallest), paths))
    good = [photo for photo in looked if isinstance(photo, Photo)]
    return good, (*refused, *(found for found in looked if not isinstance(found, Photo)))


def check_folders(folders: Iterable[Path]) -> None:
    """See that photos can be looked for there.

    Raises:
        UsageError: one is no folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: there is no such folder of photos")


def _each_once(found: Iterable[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Each file under one name, in the order of the names: else a photo could be on both sides of the split.

    Its own name goes before those of links. Of folders that overlap the outermost gives the name, which is
    the longest, whatever their order.
    """
    names: dict[str, tuple[str, Path]] = {}
    for name, path in sorted(found, key=lambda one: (one[1].is_symlink(), -len(one[0]), one)):
        names.setdefault(os.path.realpath(path), (name, path))
    return sorted(names.values())


def _walk(folders: Sequence[Path], refused: list[tuple[str, str]]) -> Iterable[tuple[str, Path]]:
    """(name, path) of all photos; folders that may not be read are added to ``refused``."""
    check_folders(folders)
    for folder in folders:
        for top, below, files in os.walk(folder, onerror=lambda e: refused.append((e.filename, _why(e)))):
            below[:] = _gone_into(Path(top), below, refused)
            for name in files:
                path = Path(top, name)
                if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                    yield path.relative_to(folder).as_posix(), path


def _gone_into(top: Path, names: Sequence[str], refused: list[tuple[str, str]]) -> list[str]:
    """Which folders in ``top`` are searched; others that are not hidden are added to ``refused``."""
    searched = []
    for name in names:
        if name.startswith("."):
            continue
        if reason := why_of_programs(name):
            refused.append((str(top / name), reason))
        elif (top / name).is_symlink():
            refused.append((str(top / name), "a link to a folder; give that as well, to have it searched"))
        else:
            searched.append(name)
    return searched


def _look(name: str, path: Path, smallest: int) -> Photo | tuple[str, str]:
    try:
        pixels = _decode(path)
    except Exception as error:  # whatever a codec says: this photo is left out, the training goes on
        return str(path), _why(error)
    height, width, _ = pixels.shape
    if min(height, width) < smallest:
        return str(path), f"{width} x {height} is smaller than a crop of {smallest} px"
    return Photo(path, name, height, width, hashlib.sha256(np.ascontiguousarray(pixels).data).digest())


def _why(error: Exception) -> str:
    return f"cannot be read: {error}"


def _share(name: str) -> float:
    """A number in [0, 1) that follows from the name alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % _SPLIT / _SPLIT


def decode(path: Path) -> Pixels:
    """A photo's pixels, (H, W, 3) RGB, upright; of 16 bits the upper 8 are kept, transparency is dropped.

    Raises:
        OSError, ValueError and whatever else Pillow raises: it is damaged, or its pixels have no fixed range.
        UnsupportedPhoto: it is HEIC, and the library for that is not installed.
    """
    with _quiet():
        return _decode(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of odd EXIF and the like; for all threads, so it must be left after them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode(path: Path) -> Pixels:
    if Format.of_name(path.name) is Format.HEIC:
        heic.library().register_heif_opener()  # that Pillow reads it; in each process, and again is no harm
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        white_is_0 = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
    if upright.mode.startswith("I;16"):  # Pillow would cut everything above 255 to white
        grey = (np.asarray(upright) >> 8).astype(np.uint8)
        if white_is_0:  # Pillow sees to that in 8 bits only
            grey = 255 - grey
        return np.repeat(grey[:, :, None], 3, axis=2)
    if upright.mode in ("I", "F"):
        raise ValueError(f"pixels of {upright.mode} have no range that says what is white")
    return np.asarray(upright.convert("RGB"))


class Store:
    """Decoded pixels by the photo's number; the first ``cache_bytes`` of them lie in a file that is mapped.

    Workers open the file by themselves, so the store can be sent to them. Its name follows from the photos,
    so that a folder serves several runs; files of other photos are left, as a run may be using them.
    """

    def __init__(self, photos: Sequence[Photo], folder: Path, cache_bytes: float) -> None:
        """Decode what the cache has not got yet.

        Raises:
            DestinationError: the disk is too small or cannot be written.
            PhotoChanged: a photo is no longer what it was when it was found.
        """
        self._photos = tuple(photos)
        self._offsets: list[int] = []
        self._map: NDArray[np.uint8] | None = None
        self._numbers = list(range(len(self._photos)))
        total = 0
        for photo in self._photos:
            if total + photo.bytes > cache_bytes:
                break
            self._offsets.append(total)
            total += photo.bytes
        key = json.dumps([_trace(photo) for photo in self._cached()])
        self._file = folder / f"pixels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.u8"
        if total:
            try:
                self._fill(folder, total, key)
            except OSError as error:
                raise destination_error(error, self._file) from error

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def cached_bytes(self) -> int:
        """Of the file that decoded pixels lie in."""
        return sum(photo.bytes for photo in self._cached())

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_map": None}

    def of_at_least(self, side: int) -> Store:
        """The same photos without those that are smaller than a square of that side."""
        result = copy.copy(self)
        result._numbers = [
            n for n in self._numbers if min(self._photos[n].height, self._photos[n].width) >= side
        ]
        return result

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of a photo."""
        photo = self._photos[self._numbers[index]]
        return photo.height, photo.width

    def read(self, index: int) -> Pixels:
        """The pixels of a photo, (H, W, 3); a view of the cache where it is there.

        Raises:
            PhotoChanged: it is not in the cache and no longer what it was when it was found.
        """
        number = self._numbers[index]
        photo = self._photos[number]
        if number >= len(self._offsets):
            with _quiet():
                return _decoded(photo)
        if self._map is None:
            self._map = np.memmap(self._file, np.uint8, "r")
        start = self._offsets[number]
        return self._map[start : start + photo.bytes].reshape(photo.height, photo.width, 3)

    def _fill(self, folder: Path, total: int, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self._is_whole(total, key):
            return
        with FileLock(self._file.with_suffix(".lock")):  # a run that began meanwhile may be decoding the same
            if not self._is_whole(total, key):
                self._decode_all(folder, total, key)

    @property
    def _note(self) -> Path:
        """What is written beside the file when it is whole."""
        return self._file.with_suffix(".json")

    def _is_whole(self, total: int, key: str) -> bool:
        return (
            self._note.is_file()
            and self._note.read_text("utf-8") == key
            and self._file.is_file()
            and self._file.stat().st_size == total
        )

    def _decode_all(self, folder: Path, total: int, key: str) -> None:
        old = self._file.stat().st_size if self._file.is_file() else 0
        free = shutil.disk_usage(folder).free + old
        if total > free:
            raise DestinationError(
                f"{folder}: the decoded photos need {total / 1e9:.1f} GB and {free / 1e9:.1f} GB are free;"
                " make room (files there of photos that no run uses any more may go), or lower data.cache_gb"
            )
        log.info("decoding %d photos into %s, %.1f GB", len(self._offsets), self._file, total / 1e9)
        self._note.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)  # not cut: another run may have it mapped
        self._file.touch()
        with _quiet(), ThreadPoolExecutor() as pool:
            list(pool.map(self._keep, self._cached(), self._offsets))
        sync_file(self._file)  # so that no loss of power leaves the note beside pixels that are not there
        self._note.write_text(key, "utf-8")

    def _keep(self, photo: Photo, offset: int) -> None:
        try:
            pixels = _decoded(photo)
        except PhotoChanged as error:
            raise PhotoChanged(f"{error}; start again") from error
        with self._file.open("r+b") as file:  # a handle for each thread: they write at places of their own
            file.seek(offset)
            file.write(np.ascontiguousarray(pixels).data)

    def _cached(self) -> tuple[Photo, ...]:
        return self._photos[: len(self._offsets)]


def _trace(photo: Photo) -> tuple[str, int, int, int, int]:
    """What tells that a photo is still the one that was decoded."""
    try:
        status = photo.path.stat()
    except OSError as error:
        raise PhotoChanged(
            f"{photo.path} was there and is no longer: {error.strerror}; start again"
        ) from error
    return str(photo.path.resolve()), status.st_size, status.st_mtime_ns, photo.height, photo.width


def _decoded(photo: Photo) -> Pixels:
    try:
        pixels = _decode(photo.path)
    except Exception as error:  # it could be read when it was found
        raise PhotoChanged(f"{photo.path} could be read before and no longer: {error}") from error
    if pixels.shape != (photo.height, photo.width, 3):
        raise PhotoChanged(f"{photo.path} has another size than before")
    return pixels

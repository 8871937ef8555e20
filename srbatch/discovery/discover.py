"""From the files and folders of the command line to the photos of the run and their targets."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import NamedTuple

from srbatch.dates import mtime_of
from srbatch.discovery.apart import check_apart, check_targets_apart, marks_of_folders
from srbatch.discovery.collisions import without_collisions
from srbatch.discovery.found import Found, Photo
from srbatch.discovery.target_names import is_file_target, is_picture, target_name
from srbatch.errors import PhotoError, UnsupportedPhoto, UsageError
from srbatch.formats import Format
from srbatch.names import MAX_NAME_BYTES, show
from srbatch.places import Mark, Within, identity, identity_of, is_folder, marks, surroundings

_COPIES_OF_SYSTEMS = frozenset(
    # of Synology, QNAP, Windows and Linux
    "@eadir #recycle #snapshot @recycle @recently-snapshot @thumb $recycle.bin lost+found".split()
) | {"system volume information"}
_LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary", ".lrdata")
"""Of Apple Photos, iPhoto and Aperture, and Lightroom's previews: many pictures in them are copies."""
SIDECARS = frozenset(".xmp .aae .thm .pp3 .dop .json .cos .lrv .on1 .vrd .ini .db .ds_store".split())


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of a folder are wanted, by globs on the path below it or on the name alone."""

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def has_globs(self) -> bool:
        """Whether the path to a file decides."""
        return bool(self.include or self.exclude)

    def wants(self, relative: str) -> bool:
        """Whether the file at this path (with ``/``) is wanted."""
        if self.include and not _matches(relative, self.include):
            return False
        return not _matches(relative, self.exclude)


def _matches(relative: str, globs: tuple[str, ...]) -> bool:
    name = relative.rsplit("/", 1)[-1]
    # Case does not matter: *.jpg is meant to find IMG_0001.JPG.
    return any(
        fnmatchcase(relative.lower(), glob.lower()) or fnmatchcase(name.lower(), glob.lower())
        for glob in globs
    )


def discover(
    inputs: tuple[Path, ...],
    out: Path,
    *,
    selection: Selection = Selection(),
    to: Format | None = None,
    check: Callable[[], None] = lambda: None,
) -> Found:
    """Find the photos below ``inputs`` and name their targets below ``out``.

    ``check`` is called at each folder; what it raises ends the search.

    One folder is mirrored straight into ``out``; of several, each goes into a folder of its own name. What
    also lies in an input within another is taken once, with the outer one.
    A single file whose ``out`` is named like a picture is written there.

    Raises:
        UsageError: an input does not exist or may not be seen, inputs and output lie inside one another,
            or a link within the output leads back into an input. A link below an input that leads to the
            output is not followed.
    """
    inputs = _without_repeats(inputs)
    check_apart(inputs, out)
    found, originals = Found(), marks_of_folders(inputs)
    sources = set[Mark]()
    if is_file_target(inputs, out):
        _take(found, sources, inputs[0], Path(out.name), out, Format.of_name(out.name))
        return without_collisions(found, sources)
    folders = sum(is_folder(path) for path in inputs)
    inner, taken, place = _within_others(inputs), set[tuple[Mark, str]](), functools.cache(_place)
    for path in sorted(inputs, key=lambda path: inner.get(path, 0)):
        files: Iterable[tuple[Path, Path]] = [(path, Path(path.name))]
        if is_folder(path):
            prefix = Path() if folders == 1 else Path(_name_of(path.resolve()))
            walk = _walk(path, selection, out, found, originals, check)
            files = ((source, prefix / relative) for source, relative in walk)
        for source, relative in files:
            if inner and (file := (place(source.parent), source.name)) not in taken:
                taken.add(file)
            elif path in inner:
                found.ignored["photos found again, in an input within another"] += 1
                continue
            below = relative.with_name(target_name(relative.name, to))
            _take(found, sources, source, below, out / below, Format.of_name(below.name))
    check_targets_apart(found, originals)
    return without_collisions(found, sources)


def _name_of(folder: PurePath) -> str:
    """Of its folder among the outputs; the top of a drive or a share has none but that of its own."""
    return folder.name or re.sub(r"[\\/:]+", " ", folder.anchor).strip() or "root"


def _without_repeats(inputs: tuple[Path, ...]) -> tuple[Path, ...]:
    """The inputs, each once.

    Raises:
        UsageError: one of them does not exist, or lies where one may not look.
    """
    for path in inputs:
        try:
            path.lstat()
        except PermissionError as error:
            raise UsageError(f"{show(path)}: {error.strerror}; see to its permissions") from error
        except (OSError, ValueError) as error:
            raise UsageError(f"{show(path)}: there is no such file or folder") from error
    return tuple({_which(path): path for path in reversed(inputs)}.values())[::-1]


def _which(path: Path) -> object:
    # Hard links to one photo are two photos; a folder has one tree whatever it is called.
    return (identity(path) if is_folder(path) else None) or os.path.realpath(path)


def _within_others(inputs: tuple[Path, ...]) -> dict[Path, int]:
    """The inputs that lie within other inputs, each with its depth: more the deeper it lies.

    A folder's photos may be among those of a folder above, or may not, as its name, ``--no-recursive`` or
    globs have it; so those of the folder above come first.
    """
    within = Within(marks_of_folders(inputs))

    def is_inner(path: Path) -> bool:
        named_in = path.is_symlink() or not is_folder(path)  # of any other folder, ``..`` may be the name
        lies_in = is_folder(path) and within(Path(os.path.realpath(path)).parent)
        return lies_in or (named_in and within(path.parent))

    return {path: len(Path(os.path.realpath(path)).parts) for path in inputs if is_inner(path)}


def _place(folder: Path) -> Mark:
    return identity(folder) or os.path.realpath(folder)


class _Way(NamedTuple):
    """A folder to go into, by one of the ways that lead there."""

    folder: Path
    relative: Path
    """Below the top."""
    ancestors: tuple[Mark, ...]
    """The marks of the folders above it."""
    again: bool
    """Whether it was gone into before."""


def _walk(
    top: Path,
    selection: Selection,
    out: Path,
    found: Found,
    originals: set[Mark],
    check: Callable[[], None],
) -> Iterator[tuple[Path, Path]]:
    """Photo files below ``top``, in each folder by their names, as (path, path below ``top``).

    A folder is gone into once, as links can make more ways to it than there is time to go: by its own path,
    or else by the first link to it, of those behind fewest others. So no link that comes or goes gives
    other targets to photos that have a path of their own. Where globs choose, another link to it may be the
    way that is wanted; by that, the files come which did not come before.

    ``originals`` gets the marks of the folders on the way: those behind links may lie anywhere.
    """
    around_out, within_out = surroundings(out), Within(marks(out))
    own = [_Way(top, Path(), (), again=False)]
    linked: deque[_Way] = deque()
    known: set[Mark] = set()
    taken: set[tuple[Mark, str]] = set()
    while own or linked:
        check()
        is_linked = not own
        folder, relative, ancestors, again = linked.popleft() if is_linked else own.pop()
        there = _place(folder)
        at = marks(folder) if is_linked else {there}
        if not at.isdisjoint(around_out) or (is_linked and within_out(folder)):
            why = f"it leads to --out {show(out)}, and outputs are never taken for photos"
            found.unreadable_folders.append((folder, why))
            continue
        if there in known and not again:
            if there in ancestors:
                found.ignored["links that lead back to a folder above"] += 1
                continue
            if not selection.has_globs:
                found.ignored["links that lead to a folder again"] += 1
                continue
            again = True
        known.add(there)
        originals |= at
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            found.unreadable_folders.append((folder, error.strerror or str(error)))
            continue
        below: list[_Way] = []
        ignored = Counter[str]() if again else found.ignored
        for entry in entries:
            path, name = relative / entry.name, entry.name
            if _is_folder(entry):
                if reason := _why_not_entered(name, selection):
                    ignored[reason] += 1
                elif not entry.is_symlink():
                    below.append(_Way(folder / name, path, (*ancestors, there), again))
                elif not again:  # it was followed before
                    linked.append(_Way(folder / name, path, (*ancestors, there), again=False))
            elif reason := _why_ignored(name):
                ignored[reason] += 1
            elif not selection.wants(path.as_posix()):
                ignored["not wanted by --include/--exclude"] += 1
            elif (there, name) not in taken:
                if selection.has_globs:
                    taken.add((there, name))
                yield folder / name, path
        own.extend(reversed(below))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that cannot be followed is reported as a photo that cannot be read


def _why_not_entered(name: str, selection: Selection) -> str | None:
    if name.startswith("."):
        return "hidden folders"
    return why_of_programs(name) or (None if selection.recursive else "sub-folders")


def why_of_programs(name: str) -> str | None:
    """Why a folder of that name is passed over, if its pictures are copies that programs made; or None."""
    small = name.lower()
    if small in _COPIES_OF_SYSTEMS:
        return "folders of thumbnails, deleted files or snapshots"
    if small.endswith(_LIBRARIES):
        return "libraries of photo programs (name the folder of originals in one to have it done)"
    return None


def _why_ignored(name: str) -> str | None:
    suffix = Path(name).suffix.lower()
    if name.startswith("."):
        return "hidden files"  # AppleDouble's ._name among them
    if name.lower() in ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r") or suffix in SIDECARS:
        return "sidecars and system files"
    if not is_picture(name):
        return "files that are not pictures by their names"
    return None


def _take(
    found: Found, sources: set[Mark], source: Path, relative: Path, target: Path, fmt: Format | None
) -> None:
    """Add a photo, and what it is known by to ``sources``."""
    problem: PhotoError | None = None
    try:
        status = source.stat()
        size, mtime_ns = status.st_size, mtime_of(status)
        if there := identity_of(status):
            sources.add(there)
    except OSError:
        size, mtime_ns = -1, -1  # decoding will say why
    suffix = source.suffix.lower()
    if Format.of_name(source.name) is None:
        problem = UnsupportedPhoto(
            f"{suffix} files are not supported; convert it to TIFF, PNG or JPEG,"
            f' or leave it out with --exclude "*{suffix}"'
            if suffix
            else "its name has no extension that says what it is; give it one, such as .jpg"
        )
    elif len(os.fsencode(target.name)) > MAX_NAME_BYTES:
        problem = UnsupportedPhoto(
            f"its output's name would have more than {MAX_NAME_BYTES} bytes; rename it or use --format keep"
        )
    found.photos.append(Photo(source, relative, target, fmt, size, mtime_ns, problem))

"""From the files and folders of the command line to the photos of the run and their targets."""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from srbatch.dates import mtime_of
from srbatch.errors import PhotoError, TargetExists, UnsupportedPhoto, UsageError
from srbatch.formats import Format
from srbatch.names import MAX_NAME_BYTES, collision_key, show
from srbatch.places import (
    Mark,
    Within,
    identity,
    identity_of,
    is_folder,
    is_within,
    marks,
    nearest_folder,
    surroundings,
)

UNSUPPORTED_PICTURES = frozenset(
    ".jxl .jp2 .j2k .psd .psb .exr .hdr .dng .cr2 .cr3 .nef .nrw .arw .sr2 "
    ".orf .rw2 .raf .pef .srw .raw .x3f .3fr .iiq .tga .pcx .ppm .pgm .pnm .svg".split()
)
"""Pictures that are not read: each is reported as a photo that failed, never passed over in silence."""

SIDECARS = frozenset(".xmp .aae .thm .pp3 .dop .json .cos .lrv .on1 .vrd .ini .db .ds_store".split())


@dataclass(frozen=True, slots=True)
class Photo:
    """A file to upscale and where the result goes."""

    source: Path
    relative: Path
    """Of the target within the output folder."""
    target: Path
    format: Format | None
    """Of the target by its name; None where the source's kind of picture is not supported."""
    size: int
    """Of the source file in bytes, when it was found."""
    mtime_ns: int
    problem: PhotoError | None = None
    """Why it cannot be done, where that is known before it is opened."""


@dataclass(slots=True)
class Found:
    """The photos of a run in the order in which they are done, and what was passed over."""

    photos: list[Photo] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """Files passed over, by the reason in the words of the summary."""
    unreadable_folders: list[tuple[Path, str]] = field(default_factory=list)
    """Folders that were not gone into, each with the reason."""


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
    _check_apart(inputs, out)
    found, originals = Found(), marks_of_folders(inputs)
    sources = set[Mark]()
    if is_file_target(inputs, out):
        _take(found, sources, inputs[0], Path(out.name), out, Format.of_name(out.name))
        return _without_collisions(found, sources)
    folders = sum(is_folder(path) for path in inputs)
    inner, taken, place = _within_others(inputs), set[tuple[Mark, str]](), functools.cache(_place)
    for path in sorted(inputs, key=lambda path: inner.get(path, 0)):
        files: Iterable[tuple[Path, Path]] = [(path, Path(path.name))]
        if is_folder(path):
            prefix = Path() if folders == 1 else Path(path.resolve().name)
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
    _check_targets_apart(found, originals)
    return _without_collisions(found, sources)


def is_file_target(inputs: tuple[Path, ...], out: Path) -> bool:
    """Whether ``out`` is the name of the one output rather than a folder."""
    fmt = Format.of_name(out.name)
    return (
        len(inputs) == 1
        and not is_folder(inputs[0])
        and not is_folder(out)
        and fmt is not None
        and fmt.written
    )


def check_name(inputs: tuple[Path, ...], out: Path, to: Format | None) -> None:
    """What the name of ``out`` says must be what is made of it.

    Raises:
        UsageError: it says another format than ``to``, or a picture where a folder would be made.
    """
    fmt = Format.of_name(out.name)
    if is_file_target(inputs, out):
        if fmt is not None and to not in (None, fmt):
            raise UsageError(
                f"--out {show(out)} is named like {fmt.value} and --format says {to.value}; let them agree,"
                " or leave --format out"
            )
    elif is_picture(out.name) and not is_folder(out):
        alone = len(inputs) == 1 and not is_folder(inputs[0])
        why = f"{out.suffix.lower()} files are not written" if alone else "it would be a folder"
        raise UsageError(
            f"--out {show(out)} is named like a picture, and {why}; choose another name, or make a folder of"
            " that name first"
        )


def target_name(name: str, to: Format | None) -> str:
    """The output's name, from the source's name alone: kept, or the new format's extension appended.

    A format that is only read has PNG for its own. An extension is appended once more to a name that looks
    as if that had been done to another photo, so that two names of photos which differ, in more than case,
    always give two that do.

    >>> [target_name(name, Format.PNG) for name in ("a.jpg", "a.png", "a.jpg.png", "a.jpg.png.png")]
    ['a.jpg.png', 'a.png', 'a.jpg.png.png', 'a.jpg.png.png.png']
    >>> [target_name(name, None) for name in ("a.jpg", "a.bmp", "a.bmp.png", "a.png")]
    ['a.jpg', 'a.bmp.png', 'a.bmp.png.png', 'a.png']
    """
    new = to or Format.PNG
    suffix, before = new.suffixes[0], name
    while len(before) > len(suffix) and before[-len(suffix) :].lower() == suffix:
        before = before[: -len(suffix)]
    if to is None and _is_written(before):
        return name
    if Format.of_name(before) is new or (before != name and not is_picture(before)):
        return name
    return name + suffix


def _is_written(name: str) -> bool:
    fmt = Format.of_name(name)
    return fmt is None or fmt.written


def is_picture(name: str) -> bool:
    """Whether a file of that name is a picture, also of a kind that is not read."""
    return Format.of_name(name) is not None or Path(name).suffix.lower() in UNSUPPORTED_PICTURES


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


def _check_apart(inputs: tuple[Path, ...], out: Path) -> None:
    at_out, around_out = marks(out), surroundings(out)
    for path in inputs:
        known = marks(path)
        if not known.isdisjoint(at_out):
            raise UsageError(f"--out {show(out)} is the input itself; originals are never written to")
        if not known.isdisjoint(around_out):
            raise UsageError(
                f"--out {show(out)} lies inside the input {show(path)}; choose a folder outside of it"
            )
        if is_folder(path) and is_within(path, out):
            raise UsageError(
                f"the input {show(path)} lies inside --out {show(out)}; choose an output folder of its own"
            )


def marks_of_folders(inputs: tuple[Path, ...]) -> set[Mark]:
    """The marks of those inputs that are folders: below them no output may lie."""
    return set().union(*(marks(path) for path in inputs if is_folder(path)))


def _check_targets_apart(found: Found, originals: set[Mark]) -> None:
    """No link within the output folder may lead back to the originals: outputs would become photos."""
    if not originals:
        return
    within = Within(originals)
    for folder in dict.fromkeys(photo.target.parent for photo in found.photos):
        if within(folder):
            raise UsageError(f"--out: {among_originals(folder)}")


def among_originals(folder: Path) -> str:
    """What is said of a folder for outputs that lies within an input."""
    real = os.path.realpath(folder)
    return (
        f"outputs in {show(folder)} would lie among the originals, in {show(real)};"
        " remove the link that leads there, or choose another --out"
    )


def check_outside(inputs: tuple[Path, ...], places: Mapping[str, Path | None]) -> None:
    """Nothing is written into a folder of originals; ``places`` are what is written, by the flag.

    Raises:
        UsageError: one lies inside an input.
    """
    folders = [path for path in inputs if is_folder(path)]
    for flag, place in places.items():
        for folder in folders:
            if place is not None and is_within(place, folder):
                raise UsageError(
                    f"{flag} {show(place)} lies inside the input {show(folder)}; choose a place outside of it"
                )


_Way = tuple[Path, Path, tuple[Mark, ...], bool]
"""(a folder, its path below the top, the marks of those above it, whether it was gone into before)"""


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
    own: list[_Way] = [(top, Path(), (), False)]
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
                if name.startswith("."):
                    ignored["hidden folders"] += 1
                elif not selection.recursive:
                    ignored["sub-folders"] += 1
                elif not entry.is_symlink():
                    below.append((folder / name, path, (*ancestors, there), again))
                elif not again:  # it was followed before
                    linked.append((folder / name, path, (*ancestors, there), False))
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


def _why_ignored(name: str) -> str | None:
    suffix = Path(name).suffix.lower()
    if name.startswith("."):
        return "hidden files"  # AppleDouble's ._name among them
    if name.lower() in ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r") or suffix in SIDECARS:
        return "sidecars and system files"
    if not is_picture(name):
        return "files that are not pictures"
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
            f" or leave it out with --exclude '*{suffix}'"
            if suffix
            else "its name has no extension that says what it is; give it one, such as .jpg"
        )
    elif len(os.fsencode(target.name)) > MAX_NAME_BYTES:
        problem = UnsupportedPhoto(
            f"its output's name would have more than {MAX_NAME_BYTES} bytes; rename it or use --format keep"
        )
    found.photos.append(Photo(source, relative, target, fmt, size, mtime_ns, problem))


def _without_collisions(found: Found, sources: Set[Mark]) -> Found:
    """Fail photos whose outputs would be one file, a folder of outputs, or one of the photos ``sources``."""
    _fail_where_a_folder_is_due(found)
    _fail_where_a_photo_is(found, sources)
    tells_case_apart = functools.cache(_tells_case_apart)  # it may list a folder
    groups: dict[str, list[int]] = {}
    for index, photo in enumerate(found.photos):
        if photo.problem is None:
            groups.setdefault(collision_key(photo.relative), []).append(index)
    for indices in groups.values():
        if len(indices) > 1 and _collide([found.photos[i] for i in indices], tells_case_apart):
            _fail_collided(found, indices)
    return found


def _fail_where_a_folder_is_due(found: Found) -> None:
    folders = {parent for photo in found.photos for parent in photo.relative.parents}
    for index, photo in enumerate(found.photos):
        if photo.relative in folders:
            problem = TargetExists(
                f"its output {show(photo.relative)} would have the name of a folder of outputs; rename one"
            )
            found.photos[index] = replace(photo, problem=problem)


def _fail_where_a_photo_is(found: Found, sources: Set[Mark]) -> None:
    """However links are arranged, no output may take the place of a photo."""
    for index, photo in enumerate(found.photos):
        if identity(photo.target) in sources:
            problem = TargetExists(
                f"its output {show(photo.target)} is one of the photos; originals are never written to:"
                " choose another --out"
            )
            found.photos[index] = replace(photo, problem=problem)


def _collide(photos: list[Photo], tells_case_apart: Callable[[Path], bool]) -> bool:
    names = {os.fspath(photo.relative) for photo in photos}
    if len(names) < len(photos):
        return True
    if len({name.casefold() for name in names}) == len(names):  # they differ in Unicode's composition alone
        return sys.platform == "darwin"
    return not tells_case_apart(photos[0].target.parent)


def _tells_case_apart(folder: Path) -> bool:
    """Whether the file system of a folder, or of its nearest parent, keeps ``a`` and ``A`` apart."""
    folder = nearest_folder(folder)
    try:
        listed = list(folder.iterdir())
    except OSError:
        listed = []
    for path in (*listed, folder.resolve()):
        swapped = path.with_name(path.name.swapcase()) if path.name else path
        if swapped.name != path.name:
            try:
                return not swapped.samefile(path)
            except OSError:
                return True
    return True


def _fail_collided(found: Found, indices: list[int]) -> None:
    for index in indices:
        photo = found.photos[index]
        other = next(found.photos[i] for i in indices if i != index)
        problem = TargetExists(
            f"its output {show(photo.relative)} would be the same file as that of {show(other.source)};"
            " rename one of them or upscale them into different folders"
        )
        found.photos[index] = replace(photo, problem=problem)

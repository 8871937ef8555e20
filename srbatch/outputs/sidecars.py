"""XMP sidecars: a packet in a file of its own beside a photo, named ``a.jpg.xmp`` or ``a.xmp``.

The copy beside an output has the output's whole name and ``.xmp``, which no other output's sidecar can have.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from srbatch.dates import mtime_of, set_dates
from srbatch.discovery.target_names import is_picture
from srbatch.errors import TargetExists, UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata.packets import Name, Properties, UnusableXmp, in_utf8
from srbatch.names import MAX_NAME_BYTES, show
from srbatch.outputs.commit import (
    TEMP_SUFFIX,
    commit,
    destination_error,
    discard,
    output_error,
    sha256_of,
    sync_folder,
)
from srbatch.outputs.permissions import for_owner_alone
from srbatch.places import open_file

Stamp = tuple[str, int, int]
"""What tells a sidecar from a later one: its name, its size in bytes, and its date in nanoseconds."""

_LARGEST = 1 << 26  # no packet comes near it
_SUFFIXES = (".xmp", ".XMP")
_FOR_EXTENSION: Name = ("http://ns.adobe.com/photoshop/1.0/", "SidecarForExtension")
"""By which Adobe's programs say whose sidecar it is: beside a raw file and its JPEG, that of the raw."""
_FEW = 64
_LONGEST_ENDING = 20  # what is said of more would fill logs
_BEFORE = "sidecar_before"
"""What details say of a sidecar that was made ready: the hash of what it may replace."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What shall lie beside an output."""

    path: Path
    data: bytes | None = None
    """None: there is nothing to be written."""
    mtime_ns: int = 0
    notes: tuple[str, ...] = ()
    """For people: what was not carried."""
    source: Stamp | None = None
    """Of the photo's sidecar that it was made of, or that could not be used; None for none."""
    before: str | None = None
    """Hash of what an earlier run wrote under its name."""
    in_the_way: bool = False
    """Whether it was not carried because a file of its name is there that is not ours."""
    obsolete: bool = False
    """Whether what an earlier run wrote there has to go, with nothing in its place."""

    def details(self) -> dict[str, Any]:
        """What a row keeps of it; looks at what lies beside the output."""
        ours = self.sha256
        if self.data is None and not self.obsolete and sha256_of(self.path) == self.before:
            ours = self.before  # what was written earlier stays our own
        return {"sidecar_sha256": ours, "sidecar_source": self.source, "sidecar_in_the_way": self.in_the_way}

    def is_orphan(self) -> bool:
        """Whether a file lies beside the output where an earlier run put one, of a sidecar that is gone."""
        gone = self.source is None and not self.notes
        return gone and self.before is not None and os.path.lexists(self.path)

    def of_new_output(self) -> Sidecar:
        """The same for an output that is made again: an orphan goes, but for one that somebody changed."""
        if not self.is_orphan():
            return self
        if sha256_of(self.path) == self.before:
            return replace(self, obsolete=True)
        return replace(self, notes=(orphan_left(self.path),))

    @property
    def sha256(self) -> str | None:
        """By which a later run knows it for our own."""
        return hashlib.sha256(self.data).hexdigest() if self.data is not None else None

    def is_due(self) -> bool:
        """Whether what is there, which is read, is not yet as it should be."""
        if self.obsolete:
            return os.path.lexists(self.path)
        return self.data is not None and sha256_of(self.path) != self.sha256

    def make_ready(self, temp: Path, mode: int | None = None) -> dict[str, Any]:
        """Write it under the name of :func:`ready_path`, if it is due.

        Args:
            temp: name of the output's temporary file.
            mode: permissions; None leaves them to the system.

        Returns:
            What the details of the output's row say beside :meth:`details` until :func:`put_in_place`.

        Raises:
            SrbatchError: it cannot be written.
        """
        if not self.is_due():
            return {}
        if self.data is not None:
            ready = ready_path(temp)
            try:
                with open(ready, "xb", opener=None if mode is None else for_owner_alone) as file:
                    file.write(self.data)
                set_dates(ready, accessed_ns=self.mtime_ns, modified_ns=self.mtime_ns)
                if mode is not None:
                    ready.chmod(mode)
            except OSError as error:
                raise output_error(error, self.path) from error
        return {_BEFORE: self.before}


def ready_path(temp: Path) -> Path:
    """Where a sidecar waits until its output, which is written as ``temp``, has its name."""
    return temp.with_name(f"{temp.stem}.xmp{TEMP_SUFFIX}")


def put_in_place(
    details: Mapping[str, Any], target: Path, temp: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Give a sidecar its name beside its output, or take away the one there if it has to go.

    What is there goes only if it is what an earlier run wrote. Cut off anywhere, it can be done once more.

    Args:
        details: those of the output's row, with what :meth:`Sidecar.make_ready` added; if it added nothing,
            there is nothing to do.
        target: the output.
        temp: as for :meth:`Sidecar.make_ready`.

    Returns:
        The details that hold from now on, and notes for people.

    Raises:
        DestinationError: the disk refused.
    """
    details = dict(details)
    if _BEFORE not in details:
        return details, ()
    placed = _placed(details, details.pop(_BEFORE), sidecar_path(target), ready_path(temp))
    discard(ready_path(temp))
    return placed


def _placed(
    details: dict[str, Any], before: object, path: Path, ready: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    coming, there = details.get("sidecar_sha256"), sha256_of(path)
    if there is not None and there == coming:
        return details, ()
    taken = os.path.lexists(path)
    if taken and (there is None or there != before):
        note = _left_alone(path) if coming else orphan_left(path)
        return {**details, "sidecar_sha256": None, "sidecar_in_the_way": bool(coming)}, (note,)
    if coming is None:
        _remove(path)
        return details, ()
    if sha256_of(ready) != coming:  # somebody took it away: it passes for none that was carried
        return {**details, "sidecar_sha256": there, "sidecar_source": False}, ()
    try:
        commit(ready, path, replace=taken)
    except TargetExists:  # it was made a moment ago
        return {**details, "sidecar_sha256": None, "sidecar_in_the_way": True}, (_left_alone(path),)
    except UnsupportedPhoto as error:
        return {**details, "sidecar_sha256": None}, (f"its sidecar was not carried: {error}",)
    return details, ()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise destination_error(error, path) from error


def _left_alone(path: Path) -> str:
    return f"{show(path.name)} was there already and was left alone"


def orphan_left(path: Path) -> str:
    """For people: the photo's sidecar is gone, and the one beside its output is still there."""
    return f"its sidecar is gone; {show(path.name)} beside the output was left"


def sidecar_of(
    source: Path,
    target: Path,
    *,
    written_before: str | None,
    corrected: Callable[[bytes], tuple[bytes | None, Sequence[str]]],
) -> Sidecar:
    """The sidecar for an output, made of that of its photo; one without data if there is nothing to write.

    Args:
        source: the photo.
        target: the output.
        written_before: hash of what an earlier run wrote there. Any other file is left alone.
        corrected: makes the packet of the output from that of the photo, with notes on it, or raises
            UnusableXmp.
    """
    found, path = beside(source), sidecar_path(target)
    if not found:
        return Sidecar(path, before=written_before)
    stamp: Stamp | None = None
    name = show(found[0].name)
    notes = [f"the sidecar {show(other.name)} was not carried: {name} comes first" for other in found[1:]]
    try:
        with open_file(found[0]) as file:
            status = os.fstat(file.fileno())
            stamp = found[0].name, status.st_size, status.st_mtime_ns
            packet = file.read(_LARGEST + 1) or b""  # None from a device that has nothing yet
        problem = "is larger than any packet" if len(packet) > _LARGEST else _whose(found[0], packet, source)
        data, lost = (None, ()) if problem else corrected(packet)
        notes = [f"in the sidecar {name}: {note}" for note in lost] + notes
    except OSError as error:
        problem, stamp = f"cannot be read ({error.strerror})", None
    except UnusableXmp as error:
        problem = str(error)
    if not problem and len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        problem = "would have too long a name"
    if problem:
        notes = [f"the sidecar {name} {problem} and was not carried", *notes]
        return Sidecar(path, notes=tuple(notes), source=stamp, before=written_before)
    sidecar = Sidecar(path, data, mtime_of(status), tuple(notes), stamp, written_before)
    there = sha256_of(path)
    if os.path.lexists(path) and (there is None or there not in (sidecar.sha256, written_before)):
        notes.append(_left_alone(path))
        return Sidecar(path, notes=tuple(notes), source=stamp, before=written_before, in_the_way=True)
    return sidecar


def _whose(sidecar: Path, packet: bytes, photo: Path) -> str:
    """What to say of a sidecar by the name without an ending that is another file's; nothing if it is not.

    Raises:
        UnusableXmp: it cannot be read as a packet.
    """
    if sidecar.stem == photo.name:
        return ""
    ending = (Properties(in_utf8(packet)).value(_FOR_EXTENSION) or "").strip()
    fmt = Format.of_name(f"a.{ending}")
    if (
        not ending
        or photo.suffix.lower() == f".{ending.lower()}"
        or (fmt and fmt is Format.of_name(photo.name))
    ):
        return ""
    return f"says that it is that of a {show(ending[:_LONGEST_ENDING])} file"


def is_of_another_kind(sidecar: Path, photo: Path) -> bool:
    """Whether a sidecar says that it is that of a file with another ending; a damaged one does not."""
    try:
        with open_file(sidecar) as file:
            return bool(_whose(sidecar, file.read(_LARGEST) or b"", photo))
    except (OSError, UnusableXmp):
        return False


def sidecar_path(target: Path) -> Path:
    """The name of an output's sidecar."""
    return target.with_name(f"{target.name}.xmp")


def beside(source: Path) -> list[Path]:
    """The sidecars of a photo: the one with its whole name comes first.

    ``a.jpg.xmp`` is none of ``a.jpg.png`` where there is an ``a.jpg``.
    """
    found: dict[str, Path] = {}
    for stem, name in _names(source.name):
        if stem not in found and _is_file(path := source.with_name(name)) and not is_anothers(stem, source):
            found[stem] = path
    return list(found.values())


def _names(photo: str) -> Iterator[tuple[str, str]]:
    """(what precedes the ending, whole name) of what may be its sidecar, the one that counts first."""
    for stem in dict.fromkeys((photo, os.path.splitext(photo)[0])):  # noqa: PTH122 - for each photo
        for suffix in _SUFFIXES:
            yield stem, stem + suffix


def is_anothers(stem: str, photo: Path) -> bool:
    """Whether a sidecar is that of another photo, whose whole name is ``stem``, what precedes its ending."""
    return stem != photo.name and is_picture(stem) and _is_file(photo.with_name(stem))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # with the ending its name is too long


# ---- whether it is still the one that was carried ------------------------------------------------


class Stamps:
    """Finds the sidecars of many photos: one listing of a folder tells of all that have none."""

    def __init__(self, photos: int) -> None:
        """Of a few ``photos`` only, each is looked at instead: their folder may hold very many others."""
        self._lists = photos > _FEW
        self._listed: dict[str, frozenset[str]] = {}

    def of(self, photo: Path) -> Stamp | None:
        """Of the first of :func:`beside`, without opening it; None where there is none."""
        folder, name = os.path.split(photo)
        there = self._sidecars_in(folder) if self._lists else None
        if there is not None and not there:
            return None
        for stem, sidecar in _names(name):
            if there is None or sidecar.lower() in there:
                try:
                    status = os.stat(os.path.join(folder, sidecar))  # noqa: PTH116, PTH118 - of each photo
                except (OSError, ValueError):
                    continue
                if stat.S_ISREG(status.st_mode) and not is_anothers(stem, photo):
                    return sidecar, status.st_size, status.st_mtime_ns
        return None

    def _sidecars_in(self, folder: str) -> frozenset[str] | None:
        """Their names in small letters; None where the folder cannot be listed."""
        if folder not in self._listed:
            try:
                names = os.listdir(folder or os.curdir)  # noqa: PTH208 - names are all that is wanted
            except OSError:
                return None
            lower = (name.lower() for name in names)
            self._listed[folder] = frozenset(name for name in lower if name.endswith(_SUFFIXES[0]))
        return self._listed[folder]


def details_text(details: Mapping[str, Any]) -> str:
    """A row's details in JSON, with the spaces that are looked for below."""
    return json.dumps(details)


def is_carried(details: str, stamp: Stamp | None) -> bool:
    """Whether a row's details, in JSON, are of the sidecar with that stamp.

    Rows of before stamps were kept say nothing, which is taken for no sidecar.
    """
    # Compared as text: reading the details of each row would take longer than all the rest.
    key = json.dumps("sidecar_source") + ": "
    return key + json.dumps(stamp) in details or (stamp is None and key not in details)


def has_sidecar(details: str) -> bool:
    """Whether a row's details, in JSON, are of an output with a sidecar of ours; as text, as above."""
    return '"sidecar_sha256": "' in details


def is_missing(details: str, target: Path) -> bool:
    """Whether nothing lies beside an output where its row's details, in JSON, tell of a sidecar of ours.

    Nor where a file was in the way of one, which somebody has taken away since.
    """
    tells = has_sidecar(details) or '"sidecar_in_the_way": true' in details
    return tells and not os.path.lexists(sidecar_path(target))


def written_before(details: Mapping[str, Any]) -> str | None:
    """Hash of the sidecar that a row's details know for our own."""
    known = details.get("sidecar_sha256")
    return known if isinstance(known, str) else None

"""XMP sidecars: a packet in a file of its own beside a photo, named ``a.jpg.xmp`` or ``a.xmp``.

The copy beside an output has the output's whole name and ``.xmp``, which no other output's sidecar can have.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srbatch.commit import commit, output_error, sha256_of
from srbatch.dates import mtime_of, set_dates
from srbatch.discover import is_picture
from srbatch.names import MAX_NAME_BYTES, show
from srbatch.packets import UnusableXmp
from srbatch.places import open_file

Stamp = tuple[str, int, int]
"""What tells a sidecar from a later one: its name, its size in bytes, and its date in nanoseconds."""

_LARGEST = 1 << 26  # no packet comes near it
_SUFFIXES = (".xmp", ".XMP")
_FEW = 64


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What shall lie beside an output."""

    path: Path
    data: bytes | None = None
    """None: there is nothing to be written."""
    mtime_ns: int = 0
    replace: bool = False
    """Whether a file of that name is our own and may go."""
    notes: tuple[str, ...] = ()
    """For people: what was not carried."""
    source: Stamp | None = None
    """Of the photo's sidecar that it was made of, or that could not be used; None for none."""
    before: Collection[str] = ()
    """Hashes of what earlier runs wrote under its name."""
    in_the_way: bool = False
    """Whether it was not carried because a file of its name is there that is not ours."""

    def details(self) -> dict[str, Any]:
        """What a row keeps of it; looks at what lies beside the output."""
        ours = self.sha256
        if ours is None and self.before:  # what was written earlier stays our own
            there = sha256_of(self.path)
            ours = there if there in self.before else None
        return {"sidecar_sha256": ours, "sidecar_source": self.source, "sidecar_in_the_way": self.in_the_way}

    def is_orphan(self) -> bool:
        """Whether one lies beside the output that an earlier run made of a sidecar that is gone."""
        return self.source is None and not self.notes and bool(self.before) and os.path.lexists(self.path)

    @property
    def sha256(self) -> str | None:
        """By which a later run knows it for our own."""
        return hashlib.sha256(self.data).hexdigest() if self.data is not None else None

    def is_due(self) -> bool:
        """Whether it has to be written: what is there, which is read, is not yet as it should be."""
        return self.data is not None and sha256_of(self.path) != self.sha256

    def write(self, temp: Path, mode: int | None = None) -> None:
        """Write it into ``temp``, a new file of the same folder, and put that in its place.

        Args:
            temp: is no longer there afterwards.
            mode: permissions; None leaves them to the system.

        Raises:
            TargetExists: somebody made a file of that name meanwhile.
            SrbatchError: it cannot be written.
        """
        assert self.data is not None
        try:
            with temp.open("xb") as file:
                file.write(self.data)
            set_dates(temp, accessed_ns=self.mtime_ns, modified_ns=self.mtime_ns)
            if mode is not None:
                temp.chmod(mode)
        except OSError as error:
            raise output_error(error, self.path) from error
        commit(temp, self.path, replace=self.replace)


def sidecar_of(
    source: Path,
    target: Path,
    *,
    written_before: Collection[str],
    corrected: Callable[[bytes], tuple[bytes | None, Sequence[str]]],
) -> Sidecar:
    """The sidecar for an output, made of that of its photo; one without data if there is nothing to write.

    Args:
        source: the photo.
        target: the output.
        written_before: hashes of what earlier runs wrote there. Any other file is left alone.
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
        problem = "is larger than any packet" if len(packet) > _LARGEST else ""
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
    sidecar = Sidecar(
        path, data, mtime_of(status), os.path.lexists(path), tuple(notes), stamp, written_before
    )
    if sidecar.replace and sha256_of(path) not in (sidecar.sha256, *written_before):
        notes.append(f"{show(path.name)} was there already and was left alone")
        return Sidecar(path, notes=tuple(notes), source=stamp, before=written_before, in_the_way=True)
    return sidecar


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


def written_before(details: Mapping[str, Any]) -> set[str]:
    """Hashes of the sidecar that a row's details know for our own; one cut off may have written another."""
    known = (details.get(key) for key in ("sidecar_sha256", "sidecar_coming"))
    return {value for value in known if isinstance(value, str)}

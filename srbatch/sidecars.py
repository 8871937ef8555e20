"""XMP sidecars: a packet in a file of its own beside a photo, named ``a.jpg.xmp`` or ``a.xmp``.

The copy beside an output has the output's whole name and ``.xmp``, which no other output's sidecar can have.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from srbatch.commit import commit, output_error, sha256_of
from srbatch.discover import MAX_NAME_BYTES, show
from srbatch.packets import UnusableXmp

_LARGEST = 1 << 26  # no packet comes near it
_SUFFIXES = (".xmp", ".XMP")


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

    @property
    def sha256(self) -> str | None:
        """By which a later run knows it for our own."""
        return hashlib.sha256(self.data).hexdigest() if self.data is not None else None

    @property
    def due(self) -> bool:
        """Whether it has to be written: it is not there yet as it should be."""
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
            os.utime(temp, ns=(self.mtime_ns, self.mtime_ns))
            if mode is not None:
                temp.chmod(mode)
        except OSError as error:
            raise output_error(error, self.path) from error
        commit(temp, self.path, replace=self.replace)


def sidecar_of(
    source: Path, target: Path, *, written_before: str | None, corrected: Callable[[bytes], bytes | None]
) -> Sidecar:
    """The sidecar for an output, made of that of its photo; one without data if there is nothing to write.

    Args:
        source: the photo.
        target: the output.
        written_before: hash of the sidecar that an earlier run wrote there. Any other file is left alone.
        corrected: makes the packet of the output from that of the photo, or raises UnusableXmp.
    """
    found, path = beside(source), target.with_name(f"{target.name}.xmp")
    if not found:
        return Sidecar(path)
    name = show(found[0].name)
    notes = [f"the sidecar {show(other.name)} was not carried: {name} comes first" for other in found[1:]]
    try:
        with found[0].open("rb") as file:
            packet, mtime_ns = file.read(_LARGEST + 1), os.fstat(file.fileno()).st_mtime_ns
        problem = "is larger than any packet" if len(packet) > _LARGEST else ""
        data = None if problem else corrected(packet)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except UnusableXmp as error:
        problem = str(error)
    if not problem and len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        problem = "would have too long a name"
    if problem:
        return Sidecar(path, notes=(f"the sidecar {name} {problem} and was not carried", *notes))
    sidecar = Sidecar(path, data, mtime_ns, os.path.lexists(path), tuple(notes))
    if sidecar.replace and sha256_of(path) not in (sidecar.sha256, written_before or sidecar.sha256):
        notes.append(f"{show(path.name)} was there already and was left alone")
        return Sidecar(path, notes=tuple(notes))
    return sidecar


def beside(source: Path) -> list[Path]:
    """The sidecars of a photo: the one with its whole name comes first."""
    found = []
    for stem in dict.fromkeys((source.name, source.stem)):
        names = (source.with_name(stem + suffix) for suffix in _SUFFIXES)
        found += [path for path in names if _is_file(path)][:1]
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # with the ending its name is too long

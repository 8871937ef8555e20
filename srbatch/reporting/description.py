"""What is said of a photo, for people and for machines."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srbatch.codecs.decisions import resolution_of
from srbatch.codecs.picture import Picture
from srbatch.containers import exif
from srbatch.containers.blocks import C2PA_LOST
from srbatch.containers.tiff_structure import BrokenTiff, TiffReader, Value
from srbatch.errors import PhotoError
from srbatch.formats import Format
from srbatch.metadata import profiles, xmp
from srbatch.metadata.reading import Metadata
from srbatch.names import as_text, show

_COLOURS = {1: "grey", 2: "grey with transparency", 3: "RGB", 4: "RGB with transparency"}
_DATES = {0x9003: "taken", 0x9004: "digitised"}
_CHANGED, _MAKE, _MODEL, _LATITUDE, _THUMBNAIL_BYTES = 0x0132, 0x010F, 0x0110, 2, 0x0202


@dataclass(frozen=True, slots=True)
class ExifFacts:
    """What an EXIF block holds."""

    bytes: int
    """Of the whole block."""
    camera: str
    dates: dict[str, str]
    """As the block writes them: taken, digitised, changed."""
    software: str
    gps: bool
    """Whether it tells a place."""
    maker_note_bytes: int
    """Of the camera maker's own data."""
    thumbnail_bytes: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a photo in a format."""

    format: Format
    outcome: str
    """kept, converted or refused"""
    because: tuple[str, ...]
    """What is not as it was, or why it is refused."""


@dataclass(frozen=True, slots=True)
class Description:
    """All that is said of a photo."""

    source: Path
    picture: Picture
    found: Metadata
    """As it stands in the file."""
    exif: ExifFacts | None
    sidecars: tuple[str, ...]
    fates: tuple[Fate, ...]
    keeps: Format
    """What the output is without ``--format``."""

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        header, found = self.picture.header, self.found
        dpi = _dpi(self.picture)
        return {
            "source": as_text(self.source),
            "format": header.format.value,
            "width": header.width,
            "height": header.height,
            "bits": header.bits,
            "channels": 4 if header.cmyk else header.channels,
            "colours": _colours(self.picture),
            "linear": self.picture.metadata.linear,
            "profile": _profile_record(found.icc),
            "orientation": found.turn_of_regions,
            "dpi": dpi,
            "exif": asdict(self.exif) if self.exif else None,
            "xmp": _xmp_record(found),
            "iptc_bytes": _size_of(found.iptc),
            "comments": len(found.comments) + len(found.png_text),
            "c2pa": C2PA_LOST in found.notes,
            "sidecars": list(self.sidecars),
            "notes": list(self.picture.notes),
            "keeps": self.keeps.value,
            "formats": {
                fate.format.value: {"outcome": fate.outcome, "because": list(fate.because)}
                for fate in self.fates
            },
        }

    def lines(self) -> list[str]:
        """For people."""
        parts = [
            (label, text)
            for label, text in (
                ("picture", _picture_line(self.picture)),
                ("turned", _turn_line(self.found)),
                ("profile", _profile_line(self.found.icc)),
                ("resolution", _dpi_line(self.picture)),
                ("EXIF", _exif_line(self.exif)),
                ("XMP", _xmp_line(self.found)),
                ("IPTC", f"{len(self.found.iptc):,} bytes" if self.found.iptc else ""),
                ("comments", str(len(self.found.comments) + len(self.found.png_text) or "")),
                ("sidecar", ", ".join(self.sidecars)),
            )
            if text
        ]
        parts += [("note", note) for note in self.picture.notes]
        for fate in self.fates:
            default = " (what it becomes without --format)" if fate.format is self.keeps else ""
            parts.append((f"as {fate.format.value}", f"{': '.join(_fate_texts(fate))}{default}"))
        return [show(self.source), *(f"  {label:11} {text}" for label, text in parts)]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that cannot be used."""

    source: Path
    error: PhotoError

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {"source": as_text(self.source), "error": type(self.error).__name__, "reason": str(self.error)}

    def lines(self) -> list[str]:
        """For people."""
        return [show(self.source), f"  cannot be used: {self.error}"]


def facts_of(block: bytes) -> ExifFacts:
    """What stands in a block that was found to be sound."""
    reader = exif.reader_of(block)
    tags = exif.tags_in(reader)
    dates = {name: _text(tags.exif.get(tag)) for tag, name in _DATES.items()}
    dates["changed"] = _text(tags.main.get(_CHANGED))
    note = tags.exif.get(exif.MAKER_NOTE)
    return ExifFacts(
        bytes=len(block),
        camera=" ".join(filter(None, (_text(tags.main.get(tag)) for tag in (_MAKE, _MODEL)))),
        dates={name: date for name, date in dates.items() if date},
        software=_text(tags.main.get(exif.SOFTWARE)),
        gps=_LATITUDE in tags.gps,
        maker_note_bytes=len(note.data) if note else 0,
        thumbnail_bytes=_thumbnail_bytes(reader),
    )


def _thumbnail_bytes(reader: TiffReader) -> int:
    """0 where there is none, or a damaged one."""
    for directory in reader.following(reader.ifd0):
        with suppress(BrokenTiff):
            if numbers := reader.numbers(directory.find(_THUMBNAIL_BYTES)):
                return numbers[0]
    return 0


def _text(value: Value | None) -> str:
    return show(value.data.partition(b"\0")[0].decode("utf-8", "replace").strip()) if value else ""


# ---- parts of a description ------------------------------------------------------------------------


def _colours(picture: Picture) -> str:
    if picture.header.cmyk:
        return "CMYK"
    linear = ", linear" if picture.metadata.linear else ""
    colours = _COLOURS[picture.header.channels]
    if picture.metadata.extra_is_data:
        colours = colours.replace("transparency", "a channel that is not said to be transparency")
    return colours + linear


def _picture_line(picture: Picture) -> str:
    header = picture.header
    opaque = " that is full everywhere" if header.channels in (2, 4) and picture.opaque else ""
    size = f"{header.format.value}, {header.width} x {header.height} px"
    return f"{size}, {_colours(picture)}{opaque}, {header.bits} bits for each channel"


def _turn_line(found: Metadata) -> str:
    if found.turned_by_codec:
        return "by the format's own means" if found.turn_of_regions != 1 else ""
    return f"EXIF orientation {found.orientation}" if found.orientation != 1 else ""


def _profile_line(icc: bytes | None) -> str:
    if icc is None:
        return ""
    name = show(profiles.description(icc)) or "without a name"
    return f"{name} ({profiles.kind(icc)}; {len(icc):,} bytes)"


def _profile_record(icc: bytes | None) -> dict[str, Any] | None:
    if icc is None:
        return None
    return {"description": profiles.description(icc), "kind": profiles.kind(icc), "bytes": len(icc)}


def _dpi(picture: Picture) -> list[float] | None:
    found = resolution_of(picture)
    return [round(per_mm * 25.4, 2) for per_mm in found] if found else None


def _dpi_line(picture: Picture) -> str:
    dpi = _dpi(picture)
    return f"{dpi[0]:g} x {dpi[1]:g} dpi" if dpi else ""


def _exif_line(facts: ExifFacts | None) -> str:
    if facts is None:
        return ""
    parts = [
        f"{facts.bytes:,} bytes",
        facts.camera,
        *(f"{name} {date}" for name, date in facts.dates.items()),
    ]
    parts.append("a place (GPS)" if facts.gps else "")
    parts.append(f"maker note of {facts.maker_note_bytes:,} bytes" if facts.maker_note_bytes else "")
    parts.append(f"thumbnail of {facts.thumbnail_bytes:,} bytes" if facts.thumbnail_bytes else "")
    parts.append(f"software {facts.software}" if facts.software else "")
    return ", ".join(filter(None, parts))


def _xmp_record(found: Metadata) -> dict[str, Any] | None:
    if found.xmp is None:
        return None
    return {"bytes": len(found.xmp), "digital_source_type": xmp.source_type(found.xmp)}


def _xmp_line(found: Metadata) -> str:
    if found.xmp is None:
        return ""
    origin = xmp.source_type(found.xmp)
    said = f", digital source type {show(origin.rpartition('/')[2])}" if origin else ""
    return f"{len(found.xmp):,} bytes{said}"


def _size_of(block: bytes | None) -> int:
    return len(block) if block is not None else 0


def _fate_texts(fate: Fate) -> list[str]:
    return [fate.outcome, "; ".join(fate.because)] if fate.because else [fate.outcome]

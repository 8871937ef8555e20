"""From tags to bytes: the directories of a TIFF structure, and EXIF blocks that are made anew."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from srbatch.containers.exif import (
    EXIF_IFD,
    FIRST_FREE,
    GPS_IFD,
    INTEROP_IFD,
    MAKER_NOTE,
    RESOLUTION_UNIT,
    SOFTWARE,
    X_RESOLUTION,
    Y_RESOLUTION,
    Tags,
)
from srbatch.containers.tiff_structure import Layout, Value
from srbatch.placement import rational

_LARGEST_PADDED_BLOCK = 60_000  # a segment of a JPEG file holds 65,527 bytes, and IFD0 is yet to be corrected


def minimal(software: str | None, resolution: tuple[float, float] | None) -> bytes | None:
    """The smallest EXIF block, for a photo that had none; None where there is nothing to say.

    Args:
        software: for the tag Software.
        resolution: pixels per mm across and down, for a format that has no other place for it.
    """
    main = {SOFTWARE: Value.text(software)} if software is not None else {}
    main |= resolution_tags(resolution) if resolution else {}
    return block_of(Tags(main=main)) if main else None


def resolution_tags(pixels_per_mm: tuple[float, float]) -> dict[int, Value]:
    """The resolution across and down as IFD0 tells it, per inch."""
    across, down = (Fraction(per_mm * 25.4).limit_denominator(1000) for per_mm in pixels_per_mm)
    return {
        X_RESOLUTION: Value.rational(*rational(across)),
        Y_RESOLUTION: Value.rational(*rational(down)),
        RESOLUTION_UNIT: Value.short(2),
    }


def block_of(tags: Tags, *, note_at: int | None = None) -> bytes:
    """An EXIF block with these tags, and the MakerNote at ``note_at`` unless that makes a large block."""
    layout = Layout("<", big=False)
    note = tags.exif.get(MAKER_NOTE)
    if note is not None and note_at is not None and FIRST_FREE <= note_at <= _LARGEST_PADDED_BLOCK:
        # The directories go before it if they are short enough, else behind it.
        note_end = note_at + len(note.data)
        before, behind = 8, note_end + note_end % 2
        at = before if before + len(directories(layout, tags, 0, note_at=note_at)) <= note_at else behind
        made = directories(layout, tags, at, note_at=note_at)
        block = bytearray(max(at + len(made), behind))
        block[:8] = b"II*\0" + layout.offset(at)
        block[at : at + len(made)] = made
        block[note_at:note_end] = note.data
        if len(block) <= _LARGEST_PADDED_BLOCK:
            return bytes(block)
    return b"II*\0" + layout.offset(8) + directories(layout, tags, 8)


def directories(
    layout: Layout,
    tags: Tags,
    at: int,
    *,
    entries: Mapping[int, bytes] | None = None,
    next_at: int = 0,
    note_at: int | None = None,
) -> bytes:
    """IFD0, and behind it the Exif, Interoperability and GPS directories, each with its values.

    Args:
        layout: of the structure that they are made for.
        tags: what they hold.
        at: the offset that they are made for.
        entries: further entries of IFD0 by their tags, as they stand in the structure already.
        next_at: the offset of the directory that follows IFD0; 0 for none.
        note_at: where the MakerNote stands already; None puts it among the values.
    """
    main: dict[int, Value | bytes] = {**(entries or {}), **tags.main}
    exif: dict[int, Value | bytes] = {**tags.exif}
    if note_at is not None:
        exif[MAKER_NOTE] = layout.entry(MAKER_NOTE, tags.exif[MAKER_NOTE], note_at)[0]
    # A directory is as long wherever its pointers lead, so it is measured with pointers to nowhere.
    if tags.interop:
        exif[INTEROP_IFD] = layout.pointer(0)
    if exif:
        main[EXIF_IFD] = layout.pointer(0)
    if tags.gps:
        main[GPS_IFD] = layout.pointer(0)
    exif_at = at + len(layout.directory(main, at))
    interop_at = exif_at + (len(layout.directory(exif, exif_at)) if exif else 0)
    gps_at = interop_at + (len(layout.directory(tags.interop, interop_at)) if tags.interop else 0)
    parts = []
    if exif:
        main[EXIF_IFD] = layout.pointer(exif_at)
        if tags.interop:
            exif[INTEROP_IFD] = layout.pointer(interop_at)
        parts.append(layout.directory(exif, exif_at))
    if tags.interop:
        parts.append(layout.directory(tags.interop, interop_at))
    if tags.gps:
        main[GPS_IFD] = layout.pointer(gps_at)
        parts.append(layout.directory(tags.gps, gps_at))
    return b"".join([layout.directory(main, at, next_at), *parts])

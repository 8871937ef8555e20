"""What the output of a photo will say beside its pixels, and what cannot be carried over."""

from __future__ import annotations

from dataclasses import replace

from srbatch.containers import exif, exif_build, jpeg, png, tiff_append
from srbatch.containers.blocks import Blocks, printable
from srbatch.errors import UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata import exif_patch, extended_xmp, profiles, regions, xmp
from srbatch.metadata.packets import in_utf8
from srbatch.metadata.provenance import Provenance
from srbatch.metadata.reading import Metadata, by_type, check_colour
from srbatch.metadata.writing import head
from srbatch.placement import PAGE_LOST, SUBJECT_LOST, Placement

_SRGB_GAMMA, _GAMMA_TOLERANCE = 45_455, 100
_SRGB_CHROMATICITIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
_CHROMATICITY_TOLERANCE = 100
_MOST_KEYWORDS = 20  # that are named; a crafted file may have hundreds of thousands


def for_output(
    meta: Metadata,
    fmt: Format,
    *,
    width: int,
    height: int,
    provenance: Provenance | None,
    new_colours: bool,
    resolution: tuple[float, float] | None,
) -> Metadata:
    """The metadata of an upright enlargement in a file of the format ``fmt``.

    Args:
        meta: as :func:`srbatch.metadata.reading.read` returned it, and the size of the picture.
        fmt: format of the output.
        width: of the output, in pixels.
        height: of the output, in pixels.
        provenance: what the output declares of itself, in EXIF and XMP; None declares nothing.
        new_colours: whether the pixels were converted to RGB with the profile in ``meta``, as inks are.
        resolution: of the output, in pixels per mm across and down; None if it is not known.

    Raises:
        UnsupportedPhoto: something that this format cannot hold; the message names formats that can.
    """
    check_colour(meta)
    _check_homes(meta, fmt)
    written_by = provenance.software if provenance is not None else None
    placement = meta.placement(width=width, height=height)
    in_exif = None if fmt.resolution else resolution
    if meta.exif is None:
        block = exif_build.minimal(written_by, in_exif)
    else:
        block = exif_patch.corrected(
            meta.exif,
            placement,
            software=written_by,
            new_colours=new_colours,
            resolution=in_exif if exif.resolution(meta.exif) is None else None,
        )
    packet, xmp_notes = packet_for_output(
        meta, meta.xmp, fmt, width=width, height=height, new_colours=new_colours, provenance=provenance
    )
    packet, extension = _parted(packet, fmt)
    exif_notes = _notes_on_places_in_exif(meta.exif, placement) if meta.exif is not None else ()
    place_notes = tuple(dict.fromkeys(exif_notes + xmp_notes))
    comments, png_text, text_notes = _texts(meta, fmt)
    icc, linear, colour_notes = _encoded_colours(meta, fmt)
    output = replace(
        meta,
        icc=icc,
        linear=linear,
        exif=block,
        xmp=packet,
        extended_xmp=extension,
        comments=comments,
        png_text=png_text,
        png_colour=_colour_chunks(meta, fmt),
        orientation=1,
        turned_by_codec=False,
        turn_of_regions=1,
        lossless=False,
        size=None,
        notes=meta.notes + place_notes + colour_notes + text_notes + _exif_notes(block, fmt),
    )
    head(output, fmt)  # refuses what is too large now, not after hours of work
    return output


def packet_for_output(
    meta: Metadata,
    packet: bytes | None,
    fmt: Format,
    *,
    width: int,
    height: int,
    new_colours: bool,
    provenance: Provenance | None,
) -> tuple[bytes | None, tuple[str, ...]]:
    """The XMP packet of an output in ``fmt``: made of the photo's own or of one that lies beside it.

    With it come notes on what it says of places in the photo that did not follow it.

    Raises:
        UnusableXmp: the packet cannot be corrected.
    """
    placement = meta.placement(width=width, height=height)
    software = exif.software(meta.exif) if meta.exif is not None else None
    made = xmp.corrected(
        packet,
        placement,
        fmt=fmt,
        turned=meta.upright_in_output,
        new_colours=new_colours,
        software_before=None if software and software.startswith("srbatch ") else software,
        provenance=provenance,
    )
    return made, _xmp_notes(in_utf8(packet), placement) if packet is not None else ()


def _parted(packet: bytes | None, fmt: Format) -> tuple[bytes | None, tuple[bytes, ...]]:
    """The packet as the format holds it, and what of it goes into segments of its own."""
    if packet is None or fmt is not Format.JPEG or len(packet) <= jpeg.LARGEST_JPEG_XMP:
        return packet, ()
    packet = xmp.without_padding(packet)
    return extended_xmp.parted(packet) if len(packet) > jpeg.LARGEST_JPEG_XMP else (packet, ())


def _notes_on_places_in_exif(block: bytes, placement: Placement) -> tuple[str, ...]:
    notes: tuple[str, ...] = (SUBJECT_LOST,) if exif_patch.loses_subject(block, placement) else ()
    return notes + ((PAGE_LOST,) if exif_patch.loses_place_on_page(block, placement) else ())


def _xmp_notes(packet: bytes, placement: Placement) -> tuple[str, ...]:
    notes: tuple[str, ...] = (SUBJECT_LOST,) if regions.lose_subject(packet, placement) else ()
    return notes + xmp.losses(packet, turned=placement.turn != 1)


def _encoded_colours(meta: Metadata, fmt: Format) -> tuple[bytes | None, bool, tuple[str, ...]]:
    """Profile, whether numbers are linear, and notes: in fewer than 16 bits their shadows show bands."""
    if not meta.linear or meta.icc is None or fmt.bits == 16:
        return meta.icc, meta.linear, ()
    note = f"its linear numbers, for which {_name(fmt)} has too few bits, were encoded with gamma 2.2"
    return profiles.with_gamma(meta.icc), False, (note,)


def _check_homes(meta: Metadata, fmt: Format) -> None:
    if meta.iptc is not None and fmt in (Format.WEBP, Format.AVIF, Format.HEIC):
        raise UnsupportedPhoto(
            f"it has an IPTC block, which {_name(fmt)} cannot hold; JPEG, PNG and TIFF can"
        )
    chunks = by_type(meta.png_colour)
    if meta.icc is not None or fmt is Format.PNG or b"sRGB" in chunks:
        return
    gamma = int.from_bytes(chunks.get(b"gAMA", _SRGB_GAMMA.to_bytes(4, "big")), "big")
    if abs(gamma - _SRGB_GAMMA) > _GAMMA_TOLERANCE:
        raise UnsupportedPhoto(
            f"its gamma is {gamma / 100_000:g} (PNG chunk gAMA), which {_name(fmt)} cannot tell without "
            "an ICC profile; PNG can: --format png"
        )
    primaries = chunks.get(b"cHRM")
    if primaries is None:
        return
    numbers = [int.from_bytes(primaries[i : i + 4], "big") for i in range(0, len(primaries), 4)]
    if len(numbers) != len(_SRGB_CHROMATICITIES) or any(
        abs(number - usual) > _CHROMATICITY_TOLERANCE
        for number, usual in zip(numbers, _SRGB_CHROMATICITIES, strict=True)
    ):
        raise UnsupportedPhoto(
            f"its primary colours (PNG chunk cHRM) are not sRGB's, which {_name(fmt)} cannot tell without "
            "an ICC profile; PNG can: --format png"
        )


def _name(fmt: Format) -> str:
    return "WebP" if fmt is Format.WEBP else fmt.name


def _texts(meta: Metadata, fmt: Format) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[str, ...]]:
    """Comments for JPEG and text chunks for PNG, and notes on texts that the format has no place for."""
    count = len(meta.comments) + len(meta.png_text)
    if fmt is Format.PNG:
        made = tuple(png.png_text_chunk("Comment", comment) for comment in meta.comments)
        return (), meta.png_text + made, ()
    if fmt is not Format.JPEG:
        keywords = list(dict.fromkeys(_keyword(chunk) for chunk in meta.png_text))
        more = [f"{len(keywords) - _MOST_KEYWORDS:,} more"] if len(keywords) > _MOST_KEYWORDS else []
        named = f" ({', '.join(keywords[:_MOST_KEYWORDS] + more)})" if keywords else ""
        note = f"{count} text comment{'s' * (count > 1)}{named}, for which {_name(fmt)} has no place, "
        return (), (), (f"{note}{'were' if count > 1 else 'was'} not carried",) if count else ()
    comments, told = list(meta.comments), Blocks()
    for chunk in meta.png_text:
        text = png.png_text(chunk, jpeg.JPEG_SEGMENT_BYTES + 1)
        line = ": ".join(text).removeprefix("Comment: ").encode() if text else b""
        if line and len(line) <= jpeg.JPEG_SEGMENT_BYTES:
            comments.append(line)
        else:
            told.note(f"the PNG text {_keyword(chunk)} is damaged or too long for JPEG and was not carried")
    return tuple(comments), (), tuple(told.notes)


def _keyword(chunk: bytes) -> str:
    return printable(chunk[4:].partition(b"\0")[0])


def _exif_notes(block: bytes | None, fmt: Format) -> tuple[str, ...]:
    """Notes on the tags of a block that cannot be made tags of a TIFF file."""
    if block is None or fmt is not Format.TIFF:
        return ()
    tags, damaged = tiff_append.without_place(block)
    notes = [f"the EXIF tag 0x{tag:04X}, for which TIFF has no place, was not carried" for tag in tags]
    if damaged:
        notes.append(f"damaged EXIF tags ({damaged}) were not carried")
    if tiff_append.moves_maker_note(block):
        notes.append(exif.MAKER_NOTE_MOVED)
    elif tiff_append.swaps_maker_note(block):
        notes.append(exif.MAKER_NOTE_SWAPPED)
    return tuple(notes)


def _colour_chunks(meta: Metadata, fmt: Format) -> tuple[bytes, ...]:
    """For PNG, the chunks of a PNG source; beside an ICC profile the standard forbids sRGB."""
    if fmt is not Format.PNG:
        return ()
    return tuple(chunk for chunk in meta.png_colour if meta.icc is None or chunk[:4] != b"sRGB")

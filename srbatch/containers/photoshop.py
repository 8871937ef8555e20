"""Photoshop's image resources, in which JPEG, PNG and TIFF files keep IPTC blocks."""

from __future__ import annotations

import struct

from srbatch.containers.blocks import Blocks, printable

PHOTOSHOP_ID = b"Photoshop 3.0\0"

# Numbers and contents are those of Adobe's "Photoshop File Formats Specification" (image resource blocks).
_IPTC_RESOURCE = 0x0404
_PATHS, _CLIPPING_PATH = range(0x07D0, 0x0BB7), 0x0BB7
_COPYRIGHT_FLAG, _URL = 0x040A, 0x040B
_NOT_MISSED = frozenset(
    [
        # the thumbnails, and the checksum of an IPTC block, which are made for the old file
        *(0x0409, 0x040C, 0x0425),
        # resolution, print settings and flags, screens and transfer functions of a press, JPEG's quality
        *(0x03E9, 0x03ED, 0x03F3, 0x03F4, 0x03F5, 0x03F7, 0x03F8, 0x0406, 0x0426, 0x043A, 0x043B, 0x2710),
        # layers, selections and channels of the program's own files, its grid, and what it was at
        *(0x0400, 0x0402, 0x0408, 0x040D, 0x0410, 0x0411, 0x0414, 0x0416, 0x0419, 0x041A, 0x041E, 0x0421),
        *(0x0428, 0x042D, 0x0430, 0x043C, 0x0440),
    ]
)
_OTHERS_LOST = "Photoshop's own data beside IPTC was not carried"


def take_photoshop(resources: bytes, blocks: Blocks) -> None:
    """Take IPTC out of Photoshop's image resources."""
    at = 0
    while at + 12 <= len(resources):
        kind = int.from_bytes(resources[at + 4 : at + 6], "big")
        name_end = at + 6 + (resources[at + 6] + 2) // 2 * 2  # a length byte, the name, padded to even
        size = int.from_bytes(resources[name_end : name_end + 4], "big")
        data = resources[name_end + 4 : name_end + 4 + size]
        if len(data) != size:
            blocks.note("Photoshop's data block is damaged and was not carried in full")
            return
        if kind == _IPTC_RESOURCE and blocks.iptc is None:
            blocks.iptc = data or None
        elif lost := _lost(kind, resources[at + 7 : at + 7 + resources[at + 6]], data):
            blocks.note(lost)
        at = name_end + 4 + size + size % 2


def _lost(kind: int, name: bytes, data: bytes) -> str | None:
    """What to tell of a resource that is not carried; None if nobody will miss it."""
    if kind in _NOT_MISSED or (kind == _COPYRIGHT_FLAG and not any(data)):
        return None
    if kind in _PATHS:
        return f"Photoshop's path {printable(name)} was not carried"
    if kind == _CLIPPING_PATH:
        return (
            f"Photoshop's clipping path {printable(data[1 : 1 + data[0]] if data else data)} was not carried"
        )
    if kind == _COPYRIGHT_FLAG:
        return "Photoshop's mark that the photo is under copyright was not carried"
    if kind == _URL:
        return f"the address {printable(data)} in Photoshop's data was not carried"
    return "a further IPTC block was not carried" if kind == _IPTC_RESOURCE else _OTHERS_LOST


def photoshop_resource(iptc: bytes) -> bytes:
    """The image resource that an IPTC block makes."""
    head = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc))
    return head + iptc + b"\0" * (len(iptc) % 2)

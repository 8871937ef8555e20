"""Photoshop's image resources, in which JPEG, PNG and TIFF files keep IPTC blocks."""

from __future__ import annotations

import struct

from srbatch.containers import Blocks

PHOTOSHOP_ID = b"Photoshop 3.0\0"

_IPTC_RESOURCE = 0x0404
# The thumbnails, and the checksum of an IPTC block, are made for the old file and not worth a word.
_PHOTOSHOP_NOT_MISSED = frozenset([0x0409, 0x040C, 0x0425])
_PHOTOSHOP_LOST = "Photoshop's own data beside IPTC was not carried"


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
        elif kind not in _PHOTOSHOP_NOT_MISSED:
            blocks.note(_PHOTOSHOP_LOST)
        at = name_end + 4 + size + size % 2


def photoshop_resource(iptc: bytes) -> bytes:
    """The image resource that an IPTC block makes."""
    head = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc))
    return head + iptc + b"\0" * (len(iptc) % 2)

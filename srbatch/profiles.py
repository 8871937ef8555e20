"""ICC profiles: whether one can be used, and the one that colours converted from CMYK get."""

from __future__ import annotations

import struct
from io import BytesIO

from PIL import ImageCms

_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
"""By Pillow's name for the kind of pixels."""

Column = tuple[float, float, float]
"""XYZ of a primary colour as seen from D50."""

_D50: Column = (0.9642, 1.0, 0.8249)
_ADOBE_RGB: tuple[Column, Column, Column] = (
    (0.60974, 0.31111, 0.01947),
    (0.20528, 0.62567, 0.06087),
    (0.14919, 0.06322, 0.74457),
)
"""Adobe RGB (1998) Color Image Encoding, version 2005-05, annex A."""


def usable(icc: bytes | None, kind: str) -> tuple[bytes | None, str | None]:
    """The profile of pixels of a ``kind``, RGB, L or CMYK, as far as it is one; and if not, a note.

    Bytes behind the end that a profile states for itself are no part of it, and PNG does not allow them.
    """
    if icc is None:
        return None, None
    size = int.from_bytes(icc[:4], "big")
    if size < 132 or size > len(icc):
        return None, "the colour profile is damaged or cut off and was not carried"
    icc = icc[:size]
    space = icc[16:20].decode("latin-1")
    if space != _SPACES[kind]:
        is_for = next((name for name, code in _SPACES.items() if code == space), ascii(space.strip()))
        names = {"L": "grey"}
        return None, (
            f"the colour profile is for {names.get(is_for, is_for)} and the picture is"
            f" {names.get(kind, kind)}: it was not carried"
        )
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        ImageCms.buildTransform(profile, ImageCms.createProfile("LAB"), kind, "LAB")
    except (ImageCms.PyCMSError, OSError):
        return None, "the colour profile is damaged and was not carried"
    return icc, None


def matrix_profile(name: str, primaries: tuple[Column, Column, Column], gamma: float) -> bytes:
    """A display profile of three primaries and one curve, to version 2.4 of the ICC's specification."""
    text = name.encode("ascii") + b"\0"
    # The counts of Unicode and Macintosh names that a description ends with are 0 here.
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    tags = {
        b"desc": description,
        b"cprt": b"text" + bytes(4) + b"No rights reserved\0",
        b"wtpt": _xyz(_D50),
        b"rXYZ": _xyz(primaries[0]),
        b"gXYZ": _xyz(primaries[1]),
        b"bXYZ": _xyz(primaries[2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(
        ">I4sI4s4s4s6H4s28s12s", start + len(data), b"", 0x0240_0000, b"mntr", b"RGB ", b"XYZ ",
        2026, 1, 1, 0, 0, 0, b"acsp", b"", _xyz(_D50)[8:],
    )  # fmt: skip
    return head.ljust(128, b"\0") + table + data


def _xyz(column: Column) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(number * 65_536) for number in column))


def wide_rgb() -> bytes:
    """Of colours converted from CMYK: inks reach greens and cyans that sRGB does not hold."""
    return matrix_profile("Compatible with Adobe RGB (1998)", _ADOBE_RGB, 563 / 256)

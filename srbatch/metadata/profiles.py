"""ICC profiles: whether one can be used, what it says, and those that converted colours get.

Tags and their types are those of ICC.1:2022, those of version 2 profiles of ICC.1:2001-04.
"""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

GAMMA = 563 / 256
"""Of Adobe RGB (1998), and of colours that were linear: 2.2, as near as a profile can say it."""

_CURVES = {b"RGB ": (b"rTRC", b"gTRC", b"bTRC"), b"GRAY": (b"kTRC",)}
"""What gives the numbers of a matrix or a grey profile their meaning, by the space in its header."""
_LINEAR_TOLERANCE = 1e-3
_GRID: NDArray[np.float64] = np.linspace(0, 1, 257)
_TABLES = (b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1")

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


# ---- what a profile says -------------------------------------------------------------------------


def description(icc: bytes) -> str:
    """The name that a profile gives itself; empty if it does not, or not legibly."""
    value = _tags(icc).get(b"desc", b"")
    if value[:4] == b"desc":
        length = int.from_bytes(value[8:12], "big")
        text = value[12 : 12 + length].decode("latin-1")
    elif value[:4] == b"mluc" and len(value) >= 28:
        length, at = struct.unpack(">II", value[20:28])  # of the first language
        text = value[at : at + length].decode("utf-16-be", "replace")
    else:
        text = ""
    return text.partition("\0")[0].strip()


def kind(icc: bytes) -> str:
    """How a profile describes colours, such as "RGB, matrix, gamma 2.2"."""
    tags, code = _tags(icc), icc[16:20]
    space = next(
        (name for name, its in _SPACES.items() if its.encode() == code), ascii(code.decode("latin-1"))
    )
    space = "grey" if space == "L" else space
    if any(table in tags for table in _TABLES):
        return f"{space}, table"
    curves = [_sampled(tags.get(name, b"")) for name in _CURVES.get(code, ())]
    if not curves or any(curve is None for curve in curves):
        return space
    how = f"{space}, matrix" if code == b"RGB " else space
    gammas = {_gamma_of(tags[name]) for name in _CURVES[code]}
    gamma = gammas.pop() if len(gammas) == 1 else None
    return f"{how}, gamma {gamma:.3g}" if gamma is not None else f"{how}, curve"


def is_linear(icc: bytes) -> bool:
    """Whether the numbers of a picture with this profile are in proportion to light."""
    tags = _tags(icc)
    if any(table in tags for table in _TABLES):
        return False
    curves = [_sampled(tags.get(name, b"")) for name in _CURVES.get(icc[16:20], ())]
    return bool(curves) and all(
        curve is not None and bool(np.abs(curve - _GRID).max() < _LINEAR_TOLERANCE) for curve in curves
    )


def _tags(icc: bytes) -> dict[bytes, bytes]:
    """The values of a profile's tags; those that lead out of it are left out."""
    found = {}
    for at in range(132, 132 + 12 * min(int.from_bytes(icc[128:132], "big"), 100), 12):
        name, start, size = icc[at : at + 4], *struct.unpack(">II", icc[at + 4 : at + 12].ljust(8, b"\0"))
        if size and start + size <= len(icc):
            found[name] = icc[start : start + size]
    return found


def _sampled(curve: bytes) -> NDArray[np.float64] | None:
    """What a curve makes of ``_GRID``; None if it is no curve, or of a kind that is not known."""
    if curve[:4] == b"curv" and len(curve) >= 12:
        count = int.from_bytes(curve[8:12], "big")
        if count == 0:
            return _GRID
        table = np.frombuffer(curve[12 : 12 + 2 * count], ">u2")
        if len(table) != count:
            return None
        if count == 1:
            return _GRID ** (float(table[0]) / 256)
        return np.interp(_GRID, np.linspace(0, 1, count), table / 65_535)
    gamma = _fixed(curve[12:16])
    if curve[:4] != b"para" or gamma <= 0:
        return None
    if curve[8:10] == b"\0\0":
        return _GRID**gamma
    if curve[8:10] == b"\0\3" and len(curve) >= 32:
        g, a, b, c, d = (_fixed(curve[at : at + 4]) for at in range(12, 32, 4))
        return np.where(d <= _GRID, (a * _GRID + b).clip(0) ** g, c * _GRID)
    return None


def _gamma_of(curve: bytes) -> float | None:
    """The exponent of a curve that is nothing but a power."""
    if curve[:4] == b"curv" and curve[8:12] == b"\0\0\0\0":
        return 1.0
    if curve[:4] == b"curv" and curve[8:12] == b"\0\0\0\1":
        return int.from_bytes(curve[12:14], "big") / 256
    return _fixed(curve[12:16]) if curve[:4] == b"para" and curve[8:10] == b"\0\0" else None


def _fixed(number: bytes) -> float:
    return int.from_bytes(number, "big", signed=True) / 65_536


# ---- made here -----------------------------------------------------------------------------------


def matrix_profile(name: str, primaries: tuple[Column, Column, Column], gamma: float) -> bytes:
    """A display profile of three primaries and one curve, to version 2.4 of the ICC's specification."""
    tags = {tag: _xyz(column) for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    return _profile(b"RGB ", name, tags | dict.fromkeys(_CURVES[b"RGB "], _power(gamma)))


def grey_profile(name: str, gamma: float) -> bytes:
    """A display profile of one curve for grey pictures."""
    return _profile(b"GRAY", name, {b"kTRC": _power(gamma)})


def with_gamma(icc: bytes) -> bytes:
    """The twin of a linear profile, for numbers encoded with ``GAMMA``."""
    name = f"{description(icc).encode('ascii', 'replace').decode() or 'linear'}, encoded with gamma 2.2"
    if icc[16:20] == b"GRAY":
        return grey_profile(name, GAMMA)
    tags = _tags(icc)
    red, green, blue = (_column(tags.get(name, b"")) for name in (b"rXYZ", b"gXYZ", b"bXYZ"))
    return matrix_profile(name, (red, green, blue), GAMMA)


def _profile(space: bytes, name: str, further: dict[bytes, bytes]) -> bytes:
    text = name.encode("ascii") + b"\0"
    # The counts of Unicode and Macintosh names that a description ends with are 0 here.
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    tags = {
        b"desc": described,
        b"cprt": b"text" + bytes(4) + b"No rights reserved\0",
        b"wtpt": _xyz(_D50),
        **further,
    }
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(
        ">I4sI4s4s4s6H4s28s12s", start + len(data), b"", 0x0240_0000, b"mntr", space, b"XYZ ",
        2026, 1, 1, 0, 0, 0, b"acsp", b"", _xyz(_D50)[8:],
    )  # fmt: skip
    return head.ljust(128, b"\0") + table + data


def _power(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _column(xyz: bytes) -> Column:
    x, y, z = struct.unpack(">3i", xyz[8:20].ljust(12, b"\0"))
    return x / 65_536, y / 65_536, z / 65_536


def _xyz(column: Column) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(number * 65_536) for number in column))


def wide_rgb() -> bytes:
    """Of colours converted from CMYK: inks reach greens and cyans that sRGB does not hold."""
    return matrix_profile("Compatible with Adobe RGB (1998)", _ADOBE_RGB, GAMMA)

"""Small photos of every kind: format x bits x channels x profile x orientation x metadata."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms

from srbatch.codecs import encode
from srbatch.codecs.encode import Encoding
from srbatch.formats import Format
from srbatch.metadata import profiles
from srbatch.metadata.reading import Metadata
from tests.conftest import sample
from tests.files import block

HEIGHT, WIDTH = 40, 56

PROFILES: dict[str, bytes] = {
    "srgb": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "wide": profiles.wide_rgb(),
    "linear": profiles.matrix_profile(
        "linear", ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)), 1.0
    ),
    "grey": profiles.grey_profile("scanner", 1.8),
    "grey linear": profiles.grey_profile("linear", 1.0),
}
IPTC = b"\x1c\x01\x5a\0\3\x1b%G" + b"\x1c\x02\x5a\0\4Wien" + b"\x1c\x02\x19\0\4Oma "
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}">'
    '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Grandmother, 1953</rdf:li></rdf:Alt></dc:title>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
_CHANNELS = {Format.JPEG: (1, 3), Format.PNG: (1, 2, 3, 4), Format.TIFF: (1, 2, 3, 4)}
_BITS = {Format.PNG: (8, 16), Format.TIFF: (8, 16), Format.AVIF: (8, 12), Format.HEIC: (8, 10)}
_ORIENTATIONS = (1, 3, 6)
HOLD_IPTC = frozenset([Format.JPEG, Format.PNG, Format.TIFF])
TURNED_BY_CODEC = frozenset([Format.AVIF, Format.HEIC])


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of photo."""

    format: Format
    bits: int
    channels: int
    profile: str | None
    orientation: int
    metadata: str
    """none; exif; or all: with XMP and IPTC as far as the format holds them."""

    @property
    def name(self) -> str:
        """Of its file."""
        parts = (self.bits, self.channels, self.profile or "plain", self.orientation, self.metadata)
        return "-".join(map(str, parts)).replace(" ", "_") + self.format.suffixes[0]

    @property
    def icc(self) -> bytes | None:
        """Its profile."""
        return PROFILES[self.profile] if self.profile else None

    @property
    def has_iptc(self) -> bool:
        """Whether its file has an IPTC block."""
        return self.metadata == "all" and self.format in HOLD_IPTC

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) the right way up."""
        turned = self.orientation >= 5 and self.format not in TURNED_BY_CODEC
        return (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)

    def number(self) -> int:
        """By which a part of the corpus is chosen, the same one in every run."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big")

    def blocks(self) -> Metadata:
        """Its metadata."""
        if self.metadata == "none":
            return Metadata(icc=self.icc)
        exif = block("<" if self.number() % 2 else ">", orientation=self.orientation)
        if self.metadata == "exif":
            return Metadata(icc=self.icc, exif=exif)
        packet = XMP.format(self.orientation).encode()
        return Metadata(icc=self.icc, exif=exif, xmp=packet, iptc=IPTC if self.has_iptc else None)

    def write(self, folder: Path) -> Path:
        """Make its file."""
        path = folder / self.name
        if not self.format.written:
            path.write_bytes(_only_read(self))
            return path
        raw = path.with_suffix(".raw")
        raw.write_bytes(_pixels(self.bits, self.channels).tobytes())
        encoding = Encoding(
            self.format,
            HEIGHT,
            WIDTH,
            self.channels,
            self.bits,
            quality=95,
            lossless=self.format is Format.WEBP,
            metadata=self.blocks(),
            resolution=(11.811, 11.811),
        )
        encode.encode(raw, path, encoding)
        raw.unlink()
        if self.format is Format.TIFF:
            with tifffile.TiffFile(path, mode="r+b") as file:
                file.pages[0].tags[0x0112].overwrite(self.orientation)
        return path


@functools.cache
def _pixels(bits: int, channels: int) -> np.ndarray:
    """A piece of a photograph, (HEIGHT, WIDTH, channels), whose transparency is a ramp."""
    photo = np.ascontiguousarray(sample()[150 : 150 + HEIGHT, 300 : 300 + WIDTH])
    colours = photo if channels >= 3 else photo[:, :, 1:2]
    if channels in (2, 4):
        ramp = np.linspace(1, 255, WIDTH).astype(np.uint8)[None, :, None].repeat(HEIGHT, 0)
        colours = np.concatenate([colours, ramp], axis=2)
    return colours if bits == 8 else colours.astype(np.uint16) * 257


def _only_read(case: Case) -> bytes:
    data, photo = BytesIO(), Image.fromarray(_pixels(8, case.channels))
    if case.format is Format.GIF:
        photo = photo.quantize(64)
    photo.save(data, "JPEG2000" if case.format is Format.JP2 else case.format.name)
    return data.getvalue()


def formats() -> list[Format]:
    """Those that can be made here."""
    return [fmt for fmt in Format if fmt is not Format.HEIC or find_spec("pillow_heif")]


def cases() -> Iterator[Case]:
    """The whole corpus, always in the same order."""
    for fmt in formats():
        if not fmt.written:
            yield Case(fmt, 8, 3, None, 1, "none")
            continue
        for bits, channels in itertools.product(_BITS.get(fmt, (8,)), _CHANNELS.get(fmt, (3, 4))):
            for profile in _profiles(bits, channels, fmt):
                yield Case(fmt, bits, channels, profile, 1, "none")
                for orientation, kind in itertools.product(_ORIENTATIONS, ("exif", "all")):
                    yield Case(fmt, bits, channels, profile, orientation, kind)


def _profiles(bits: int, channels: int, fmt: Format) -> list[str | None]:
    linear = bits == 16 and fmt.bits == 16
    if channels <= 2:
        return [None, "grey", *(["grey linear"] if linear else [])]
    return [None, "srgb", "wide", *(["linear"] if linear else [])]

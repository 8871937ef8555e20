"""The file formats that are read and written, and their limits. No codec is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class _Traits:
    suffixes: tuple[str, ...]
    max_side_px: int
    alpha: bool
    lossy: bool
    bits: int
    grey: bool
    written: bool = True
    resolution: bool = True


class Format(Enum):
    """A format of picture files; ``Format("jpeg")`` finds it by the name used on the command line."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    TIFF = "tiff"
    AVIF = "avif"
    HEIC = "heic"
    GIF = "gif"
    BMP = "bmp"
    JP2 = "jp2"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File name extensions, lower case with the dot; the first one is given to new files."""
        return _TRAITS[self].suffixes

    @property
    def max_side_px(self) -> int:
        """The most pixels that the format, as its encoder is built, can hold on a side."""
        return _TRAITS[self].max_side_px

    @property
    def alpha(self) -> bool:
        """Whether the format can hold transparency."""
        return _TRAITS[self].alpha

    @property
    def lossy(self) -> bool:
        """Whether ``--quality`` means anything."""
        return _TRAITS[self].lossy

    @property
    def bits(self) -> int:
        """The most bits for each colour that the format, as its encoder is built, can hold."""
        return _TRAITS[self].bits

    @property
    def grey(self) -> bool:
        """Whether the format can hold a picture of one channel; grey becomes RGB in the others."""
        return _TRAITS[self].grey

    @property
    def written(self) -> bool:
        """Whether outputs can be in this format; the others are only read."""
        return _TRAITS[self].written

    @property
    def resolution(self) -> bool:
        """Whether there is a place for pixels per inch; the others tell them in an EXIF block alone."""
        return _TRAITS[self].resolution

    @classmethod
    def of_name(cls, name: str) -> Format | None:
        """The format that a file's name claims, or None."""
        dot = name.rfind(".")
        return _BY_SUFFIX.get(name[dot:].lower()) if dot > 0 else None


_TRAITS = {
    # libjpeg refuses more than 65,500 although the file format could say 65,535.
    Format.JPEG: _Traits(
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), 65_500, alpha=False, lossy=True, bits=8, grey=True
    ),
    Format.PNG: _Traits((".png",), 2**31 - 1, alpha=True, lossy=False, bits=16, grey=True),
    Format.WEBP: _Traits((".webp",), 16_383, alpha=True, lossy=True, bits=8, grey=False, resolution=False),
    Format.TIFF: _Traits((".tif", ".tiff"), 2**31 - 1, alpha=True, lossy=False, bits=16, grey=True),
    # libvips and libheif refuse more.
    Format.AVIF: _Traits((".avif",), 16_384, alpha=True, lossy=True, bits=12, grey=False, resolution=False),
    Format.HEIC: _Traits(
        (".heic", ".heif", ".hif"), 16_384, alpha=True, lossy=True, bits=10, grey=True, resolution=False
    ),
    # Nobody wants an enlargement in 256 colours, or one that is not compressed; JPEG 2000 has no encoder here
    # that would take its time over rows.
    Format.GIF: _Traits((".gif",), 65_535, alpha=True, lossy=False, bits=8, grey=False, written=False),
    Format.BMP: _Traits(
        (".bmp", ".dib"), 2**31 - 1, alpha=True, lossy=False, bits=8, grey=True, written=False
    ),
    Format.JP2: _Traits(
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        2**31 - 1,
        alpha=True,
        lossy=True,
        bits=16,
        grey=True,
        written=False,
    ),
}
_BY_SUFFIX = {suffix: fmt for fmt, traits in _TRAITS.items() for suffix in traits.suffixes}

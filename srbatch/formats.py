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


class Format(Enum):
    """A format of picture files; ``Format("jpeg")`` finds it by the name used on the command line."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    TIFF = "tiff"

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

    @classmethod
    def of_name(cls, name: str) -> Format | None:
        """The format that a file's name claims, or None."""
        dot = name.rfind(".")
        return _BY_SUFFIX.get(name[dot:].lower()) if dot > 0 else None


_TRAITS = {
    # libjpeg refuses more than 65,500 although the file format could say 65,535.
    Format.JPEG: _Traits((".jpg", ".jpeg", ".jpe", ".jfif"), 65_500, alpha=False, lossy=True),
    Format.PNG: _Traits((".png",), 2**31 - 1, alpha=True, lossy=False),
    Format.WEBP: _Traits((".webp",), 16_383, alpha=True, lossy=True),
    Format.TIFF: _Traits((".tif", ".tiff"), 2**31 - 1, alpha=True, lossy=False),
}
_BY_SUFFIX = {suffix: fmt for fmt, traits in _TRAITS.items() for suffix in traits.suffixes}

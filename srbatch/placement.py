"""How a stored picture is turned upright, and where a point of it comes to lie in its enlargement.

A turn is a number as in EXIF's Orientation, 1 to 8. From 5 on, rows and columns of the stored picture change
places; then the order of the rows, of the columns, of both or of neither is reversed. 1 changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

_LARGEST = (1 << 32) - 1
SUBJECT_LOST = "the place of the subject, which lies outside the picture, was not carried"
PAGE_LOST = "the place of the picture on its page was not carried, as the picture is turned"


def is_on_its_side(turn: int) -> bool:
    """Whether rows and columns change places, so that the stored picture's width becomes the height."""
    return turn >= 5


def flips_rows(turn: int) -> bool:
    """Whether the order of the rows is then reversed."""
    return turn in (3, 4, 7, 8)


def flips_columns(turn: int) -> bool:
    """Whether the order of the columns is then reversed."""
    return turn in (2, 3, 6, 7)


def rational(number: Fraction) -> tuple[int, int]:
    """Numerator and denominator of the nearest number that EXIF's RATIONAL can hold; not of negative ones."""
    near = min(number, Fraction(_LARGEST)).limit_denominator(_LARGEST // min(max(ceil(number), 1), _LARGEST))
    return near.numerator, near.denominator


@dataclass(frozen=True, slots=True)
class Placement:
    """A turn and an enlargement."""

    turn: int
    """How the stored picture is turned, as EXIF's Orientation says it (1 to 8)."""
    stored: tuple[int, int]
    """(height, width) before the turn, in pixels."""
    output: tuple[int, int]
    """(height, width) of the upright enlargement, in pixels."""

    @property
    def on_its_side(self) -> bool:
        """Whether the stored picture's width is the output's height."""
        return is_on_its_side(self.turn)

    @property
    def factors(self) -> tuple[Fraction, Fraction]:
        """How much longer the stored picture's width and height become."""
        (height, width), (high, wide) = self.stored, self.output
        across, down = (high, wide) if self.on_its_side else (wide, high)
        return Fraction(across, width), Fraction(down, height)

    def focal_plane(self, across: Fraction, down: Fraction) -> tuple[Fraction, Fraction]:
        """EXIF's FocalPlaneXResolution and FocalPlaneYResolution for the output.

        They count pixels of the picture as it is written in the file, along its width and its height, not
        those of the sensor (Exif's note on the use of these tags): an angle of view follows from them.

        Args:
            across: pixels per unit along the stored picture's width.
            down: the same along its height.
        """
        enlarged = across * self.factors[0], down * self.factors[1]
        return enlarged[::-1] if self.on_its_side else enlarged

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point in parts of width and height, from the upper left."""
        if self.on_its_side:
            x, y = y, x
        if flips_rows(self.turn):
            y = 1 - y
        if flips_columns(self.turn):
            x = 1 - x
        return x, y

    def subject(self, numbers: list[int]) -> list[int] | None:
        """EXIF's SubjectArea or SubjectLocation, in pixels of the output.

        None where the point lies outside the stored picture, as when a program made the photo smaller and
        left what the camera had said, or where EXIF has no numbers as large.

        Args:
            numbers: of a point; of a point and a diameter; or of a point, a width and a height. They hold for
                the stored picture (Exif 3.0, 4.6.5: "prior to rotation processing").
        """
        (height, width), (high, wide) = self.stored, self.output
        if numbers[0] > width or numbers[1] > height:
            return None
        x, y = self.point(numbers[0] / width, numbers[1] / height)
        sides = [round(side * factor) for side, factor in zip(numbers[2:], self.factors, strict=False)]
        moved = [round(x * wide), round(y * high), *(reversed(sides) if self.on_its_side else sides)]
        return moved if max(moved) <= _LARGEST else None

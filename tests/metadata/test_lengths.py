"""What counts pixels beside places: the focal plane and the lengths of a panorama."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.containers import exif
from srbatch.containers.tiff_structure import TiffReader
from srbatch.formats import Format
from srbatch.metadata import xmp
from srbatch.metadata.packets import Properties
from srbatch.metadata.reading import Metadata
from srbatch.placement import Placement, rational
from tests.files import RATIONAL, block
from tests.metadata.places import AS_ELEMENTS, EXIF, HEIGHT, WIDTH, corrected, for_output, packet, patched


def with_focal_plane(order: str, across: tuple[int, int], down: tuple[int, int]) -> bytes:
    """A block whose exposure time and whose width became the resolutions of the focal plane."""
    source = bytearray(block(order))
    reader = TiffReader(BytesIO(bytes(source)))
    below = reader.child(reader.ifd0, exif.EXIF_IFD)
    assert below is not None
    entries = below.find(0x829A), below.find(0xA002)
    values_at = len(source)
    source += struct.pack(order + "4I", *across, *down)
    for entry, tag, at in zip(entries, (0xA20E, 0xA20F), (values_at, values_at + 8), strict=True):
        assert entry is not None
        source[entry.at : entry.at + 12] = struct.pack(order + "HHII", tag, RATIONAL, 1, at)
    return bytes(source)


def focal_plane(block: bytes) -> tuple[Fraction, Fraction]:
    tags = exif.tags_of(block).exif
    across, down = (Fraction(*struct.unpack("<2I", tags[tag].data)) for tag in (0xA20E, 0xA20F))
    return across, down


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_the_angle_of_view_that_follows_from_the_focal_plane_stays(order: str, turn: int) -> None:
    """Its sides are pixels by pixels per length, and turn with the picture."""
    source = with_focal_plane(order, (4_438_356, 1_000), (4_445_969, 997))
    output = (192, 256) if turn < 5 else (256, 192)
    made = patched(source, Placement(turn, (HEIGHT, WIDTH), output))
    before = [pixels / per for pixels, per in zip((WIDTH, HEIGHT), focal_plane(source), strict=True)]
    after = [pixels / per for pixels, per in zip(output[::-1], focal_plane(made), strict=True)]
    assert after == (before if turn < 5 else before[::-1])
    assert exif.tags_of(made).exif[0x927C] == exif.tags_of(source).exif[0x927C]


def test_a_focal_plane_that_is_half_there_or_void_stays() -> None:
    for across, down in (((0, 1), (5, 1)), ((5, 0), (5, 1))):
        source = with_focal_plane("<", across, down)
        made = patched(source, Placement(1, (HEIGHT, WIDTH), (96, 128)))
        assert [exif.tags_of(made).exif[tag] for tag in (0xA20E, 0xA20F)] == [
            exif.tags_of(source).exif[tag] for tag in (0xA20E, 0xA20F)
        ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1), st.fractions(1, 8))
def test_a_rational_holds_any_enlarged_number(above: int, below: int, factor: Fraction) -> None:
    number = Fraction(above, below) * factor
    numerator, denominator = rational(number)
    assert 0 <= numerator < 2**32
    assert 0 < denominator < 2**32
    if number < 2**32:
        assert abs(Fraction(numerator, denominator) - number) <= max(number, 1) / 2**31


PANORAMA = {
    "CroppedAreaImageWidthPixels": 64,
    "CroppedAreaImageHeightPixels": 48,
    "FullPanoWidthPixels": 101,
    "FullPanoHeightPixels": 51,
    "CroppedAreaLeftPixels": 10,
    "CroppedAreaTopPixels": 2,
    "LargestValidInteriorRectLeft": 3,
    "LargestValidInteriorRectTop": 4,
    "LargestValidInteriorRectWidth": 50,
    "LargestValidInteriorRectHeight": 40,
}


SPACE = "http://ns.google.com/photos/1.0/panorama/"


@pytest.mark.parametrize("as_attributes", [True, False])
def test_the_lengths_of_a_panorama_grow_with_it(as_attributes: bool) -> None:
    if as_attributes:
        said = "".join(f" g:{name}='{value}'" for name, value in PANORAMA.items())
        source = packet("").replace(b" xmlns:mwg-rs", f" xmlns:g='{SPACE}'{said} xmlns:mwg-rs".encode(), 1)
    else:
        said = "".join(f"<g:{name} xmlns:g='{SPACE}'>{value}</g:{name}>" for name, value in PANORAMA.items())
        source = packet(said + f"<g:ProjectionType xmlns:g='{SPACE}'>equirectangular</g:ProjectionType>")
    made = corrected(source, Placement(1, (HEIGHT, WIDTH), (144, 256)))
    assert made is not None
    properties = Properties(made)
    found = {name: properties.value((SPACE, name)) for name in PANORAMA}
    along = {name: 3 if "Height" in name or "Top" in name else 4 for name in PANORAMA}
    assert found == {name: str(value * along[name]) for name, value in PANORAMA.items()}
    if not as_attributes:
        assert properties.value((SPACE, "ProjectionType")) == "equirectangular"


@pytest.mark.parametrize("turn", [1, 3, 6])
def test_the_lengths_of_a_panorama_that_was_turned_are_left_and_told(turn: int) -> None:
    said = f"<g:FullPanoWidthPixels xmlns:g='{SPACE}'>101</g:FullPanoWidthPixels>"
    meta = Metadata(xmp=packet(said), turn_of_regions=turn, size=(HEIGHT, WIDTH))
    high, wide = (96, 128) if turn < 5 else (128, 96)
    made = for_output(meta, Format.PNG, width=wide, height=high)
    width = Properties(made.xmp or b"").value((SPACE, "FullPanoWidthPixels"))
    assert (made.notes, width) == (((), "202") if turn == 1 else ((xmp.PANORAMA_LEFT,), "101"))
    other = replace(meta, xmp=packet(AS_ELEMENTS))
    assert for_output(other, Format.PNG, width=wide, height=high).notes == ()


def test_numbers_that_are_none_stay_in_xmp() -> None:
    said = (
        f"<g:FullPanoWidthPixels xmlns:g='{SPACE}'>wide</g:FullPanoWidthPixels>"
        f"<g:FullPanoHeightPixels xmlns:g='{SPACE}'>-51</g:FullPanoHeightPixels>"
        "<exif:FocalPlaneXResolution>1/0</exif:FocalPlaneXResolution>"
        "<exif:FocalPlaneYResolution>7/1</exif:FocalPlaneYResolution>"
    )
    source = packet(said)
    placement = Placement(1, (HEIGHT, WIDTH), (96, 128))
    assert corrected(source, placement) == source
    sound = packet(said.replace("1/0", "3888000/877"))
    made = corrected(sound, placement)
    values = [Properties(made or b"").value((EXIF, f"FocalPlane{axis}Resolution")) for axis in "XY"]
    assert values == ["7776000/877", "14/1"]

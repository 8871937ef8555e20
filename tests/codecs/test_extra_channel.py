"""The channel beside the colours of a TIFF file: transparency of either kind, or data that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from srbatch.codecs import picture
from srbatch.codecs.encode import Encoding, encode
from srbatch.containers import tiff_append
from srbatch.errors import WrongOutput
from srbatch.formats import Format
from srbatch.metadata.reading import Metadata
from srbatch.reporting import description
from tests.conftest import Originals
from tests.networks import upscaled

Pixels = NDArray[Any]


def shaded(channels: int, dtype: type) -> Pixels:
    """Noise under an alpha that runs from 0 to full."""
    full = int(np.iinfo(dtype).max)
    pixels = np.random.default_rng(0).integers(full // 4, full, (40, 56, channels), endpoint=True)
    pixels[:, :, -1] = np.linspace(0, full, 56).round()
    return pixels.astype(dtype)


def save(path: Path, pixels: Pixels, kind: int | None) -> None:
    """With a tag ExtraSamples of that value, or without."""
    channels = pixels.shape[2]
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb" if channels == 4 else "minisblack",
        planarconfig="contig",
        extrasamples=[kind or 0],
    )
    if kind is None:
        with tifffile.TiffFile(path) as file:
            at = file.pages[0].tags["ExtraSamples"].offset
        raw = path.read_bytes()
        path.write_bytes(raw[:at] + (0xFDE8).to_bytes(2, "little") + raw[at + 2 :])


def read(path: Path) -> tuple[Pixels, list[int]]:
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        return page.asarray(), [int(kind) for kind in page.extrasamples]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_colours_that_were_multiplied_by_alpha_become_straight(
    originals: Originals, tmp_path: Path, channels: int, dtype: type
) -> None:
    """Else an output, whose colours are said to be straight, would be dark where it is half transparent."""
    straight = shaded(channels, dtype)
    full = np.iinfo(dtype).max
    share = straight[:, :, -1:] / full
    multiplied = straight.copy()
    multiplied[:, :, :-1] = (straight[:, :, :-1] * share).round()
    save(originals.folder / "a.tif", multiplied, 1)
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1).values()
    assert (outcome.status, outcome.notes) == ("done", ())
    found, kinds = read(tmp_path / "hi" / "a.tif")
    assert kinds == [2]
    assert np.array_equal(found[:, :, -1], straight[:, :, -1])
    # A level was lost to rounding before the colours were divided by the share.
    error = np.abs(found[:, :, :-1].astype(float) - straight[:, :, :-1]) * share
    assert error.max() <= 1


@pytest.mark.parametrize("kind", [0, None], ids=["unspecified", "not said"])
@pytest.mark.parametrize("channels", [2, 4])
def test_data_stays_data(originals: Originals, tmp_path: Path, channels: int, kind: int | None) -> None:
    """A scanner's infrared is no transparency: neither may it hide colours, nor colours change below it."""
    pixels = shaded(channels, np.uint16)
    save(originals.folder / "a.tif", pixels, kind)
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1).values()
    assert outcome.status == "done"
    found, kinds = read(tmp_path / "hi" / "a.tif")
    assert kinds == [0]
    assert np.array_equal(found, pixels)
    (again,) = upscaled(tmp_path / "hi", tmp_path / "again", 2).values()
    assert again.status == "done"
    assert read(tmp_path / "again" / "a.tif")[1] == [0]


def test_an_output_that_calls_data_transparency_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = tiff_append.append_metadata

    def forgotten(path: Path, block: bytes | None, **others: Any) -> None:
        append(path, block, **{**others, "extra_is_data": False})

    pixels = shaded(4, np.uint8)
    (tmp_path / "raw").write_bytes(pixels.tobytes())
    meant = Encoding(Format.TIFF, *pixels.shape, 8, 95, True, Metadata(extra_is_data=True), None)
    encode(tmp_path / "raw", tmp_path / "a.tif", meant)
    monkeypatch.setattr(tiff_append, "append_metadata", forgotten)
    with pytest.raises(WrongOutput, match="meaning of the channel beside the colours"):
        encode(tmp_path / "raw", tmp_path / "b.tif", meant)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("fmt", [Format.PNG, Format.JPEG, Format.WEBP])
def test_data_has_no_place_in_other_formats(
    originals: Originals, tmp_path: Path, fmt: Format, full: bool
) -> None:
    pixels = shaded(4, np.uint8)
    if full:
        pixels[:, :, -1] = 255
    save(originals.folder / "a.tif", pixels, 0)
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1, format=fmt).values()
    assert outcome.error == "UnsupportedPhoto"
    assert "a channel beside its colours that is not said to be transparency" in outcome.reason
    assert "--format tiff" in outcome.reason


def test_it_is_described(tmp_path: Path) -> None:
    for kind, said in (
        (0, "RGB with a channel that is not said to be transparency"),
        (1, "RGB with transparency"),
        (2, "RGB with transparency"),
    ):
        save(tmp_path / "a.tif", shaded(4, np.uint8), kind)
        found = picture.decode(tmp_path / "a.tif", tmp_path / "raw", 1e9)
        assert said in description._picture_line(found)

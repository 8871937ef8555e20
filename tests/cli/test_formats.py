"""What each format gives and takes through the command: kinds of pixels, transparency, quality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from tests.cli.conftest import Srbatch
from tests.conftest import Originals, crop


def test_one_format_for_all_keeps_photos_apart(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    crop().save(originals.folder / "a.jpg")
    crop(left=10).save(originals.folder / "a.png")
    originals.remember()
    assert (
        srbatch("upscale", originals.folder, "--scale", 1, "--format", "png", "--out", tmp_path / "hi").code
        == 0
    )
    assert sorted(p.name for p in (tmp_path / "hi").glob("*.png")) == ["a.jpg.png", "a.png"]


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "avif"])
def test_every_format_from_every_format(srbatch: Srbatch, photos: Path, tmp_path: Path, name: str) -> None:
    result = srbatch("upscale", photos, "--scale", 1, "--format", name, "--out", tmp_path / "hi", "--json")
    assert result.code == 0, result.err
    for record in result.records.values():
        with Image.open(record["target"]) as image:
            assert image.format == name.upper()
            image.load()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("first", [(), ("--first", "restore")])
def test_black_and_white_photos_in_rgb_stay_so(
    srbatch: Srbatch, tmp_path: Path, mode: str, first: tuple[str, ...]
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        crop(90, 120 + 20 * number).convert("L").convert(mode).save(tmp_path / "photos" / f"{number}.png")
    srbatch("upscale", "photos", "--scale", "2", "--out", "hi", *first)
    for path in (tmp_path / "hi").glob("*.png"):
        with Image.open(path) as image:
            assert image.mode == mode
            pixels = np.asarray(image)
        assert np.array_equal(pixels[:, :, 0], pixels[:, :, 1])
        assert np.array_equal(pixels[:, :, 0], pixels[:, :, 2])
        assert pixels.std() > 10


def test_quality_shows_in_the_size_of_jpegs(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    crop(200, 200).save(originals.folder / "a.jpg")
    originals.remember()
    sizes = []
    for quality in (50, 95):
        out = tmp_path / str(quality)
        # Without what it declares of itself, which is as large in both.
        asked = ("--scale", 1, "--quality", quality, "--no-provenance", "--out", out)
        srbatch("upscale", originals.folder, *asked)
        sizes.append((out / "a.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2


def test_jpeg_keeps_full_colour_resolution(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    crop().save(originals.folder / "a.jpg")
    originals.remember()
    srbatch("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi")
    with Image.open(tmp_path / "hi" / "a.jpg") as image:
        assert all((component[1], component[2]) == (1, 1) for component in image.layer)


def test_transparency_survives_and_leaves_no_dark_rim(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = (200, 120, 60, 255)  # black below what is transparent, as most programs leave it
    Image.fromarray(pixels).save(originals.folder / "a.png")
    originals.remember()
    assert srbatch("upscale", originals.folder, "--scale", 4, "--out", tmp_path / "hi").code == 0
    with Image.open(tmp_path / "hi" / "a.png") as image:
        result = np.asarray(image).astype(int)
    assert result[0, 0, 3] == 0
    assert result[128, 128, 3] == 255
    seen = result[:, :, 3] > 16
    assert np.abs(result[seen][:, :3] - (200, 120, 60)).max() <= 12


def test_a_disc_on_transparent_black_has_no_dark_rim(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    """Seen over white, it is nowhere darker than its own colour mixed with white by its own alpha."""
    y, x = np.mgrid[0:64, 0:64] - 31.5
    alpha = (20.5 - np.hypot(x, y)).clip(0, 1)
    for bits in (8, 16):
        top = 2**bits - 1
        disc = np.zeros((64, 64, 4), np.uint8 if bits == 8 else np.uint16)
        disc[alpha > 0, :3] = np.array([0.8, 0.1, 0.1]) * top
        disc[:, :, 3] = (alpha * top).round()
        picture = pyvips.Image.new_from_array(disc).copy(interpretation="srgb" if bits == 8 else "rgb16")
        picture.pngsave(str(originals.folder / f"{bits}.png"))
    originals.remember()
    assert srbatch("upscale", originals.folder, "--scale", 4, "--out", tmp_path / "hi").code == 0
    for bits in (8, 16):
        made = pyvips.Image.new_from_file(str(tmp_path / "hi" / f"{bits}.png")).numpy() / (2**bits - 1)
        colour, cover = made[:, :, :3], made[:, :, 3:]
        over_white = colour * cover + (1 - cover)
        ideal = np.array([0.8, 0.1, 0.1]) * cover + (1 - cover)
        assert (cover > 0.99).any()
        assert (cover == 0).any()
        assert np.abs(over_white - ideal).max() < 0.02


def test_transparency_is_refused_where_it_would_be_lost(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    image = crop().convert("RGBA")
    image.save(originals.folder / "full.png")  # an alpha channel that says nothing
    image.putalpha(128)
    image.save(originals.folder / "half.png")
    originals.remember()
    result = srbatch(
        "upscale", originals.folder, "--scale", 1, "--format", "jpeg", "--out", tmp_path / "hi", "--json"
    )
    assert result.code == 3
    assert result.records["full.png"]["status"] == "done"
    assert "transparency" in result.records["half.png"]["reason"]


def test_what_is_only_read_comes_out_as_png(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    crop().save(originals.folder / "a.bmp")
    crop().quantize(60).save(originals.folder / "b.gif", comment=b"Hello")
    crop().save(originals.folder / "c.jp2")
    originals.remember()
    arguments = ("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi")
    result = srbatch(*arguments, "--json")
    assert result.code == 0, result.err
    assert result.records["a.bmp"]["notes"] == ["its output is png: bmp is only read"]
    for name in ("a.bmp.png", "b.gif.png", "c.jp2.png"):
        with Image.open(tmp_path / "hi" / name) as image:
            assert (image.format, image.size) == ("PNG", (64, 48))
            assert name != "b.gif.png" or image.text["Comment"] == "Hello"
    assert "3 skipped" in srbatch(*arguments).err
    made = srbatch("upscale", originals.folder, "--scale", 1, "--format", "jpeg", "--out", tmp_path / "j")
    assert made.code == 0, made.err
    assert sorted(p.name for p in (tmp_path / "j").glob("*.jpg")) == ["a.bmp.jpg", "b.gif.jpg", "c.jp2.jpg"]


def test_the_first_picture_of_several_in_a_jpeg_is_done(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    for suffix in ("jpg", "mpo"):
        crop().save(originals.folder / f"a.{suffix}", "MPO", save_all=True, append_images=[crop(left=0)])
    originals.remember()
    result = srbatch("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi", "--json")
    assert result.code == 0, result.err
    for suffix in ("jpg", "mpo"):
        (note,) = result.records[f"a.{suffix}"]["notes"]
        assert "1 further picture" in note
        with Image.open(tmp_path / "hi" / f"a.{suffix}") as image:
            assert (image.format, image.size) == ("JPEG", (64, 48))

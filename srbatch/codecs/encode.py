"""From enlarged pixels to a finished file, read back before anyone relies on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips

from srbatch.codecs import heic, light
from srbatch.codecs.loading import CODEC_ERRORS, forget_warnings, from_memory, loaded, reason_of
from srbatch.codecs.picture import dtype_of, sample_bytes
from srbatch.errors import WrongOutput
from srbatch.formats import Format
from srbatch.metadata import writing
from srbatch.metadata.reading import Metadata
from srbatch.outputs.permissions import for_owner_alone

_BIGTIFF_FROM_BYTES = 3_500_000_000  # classic TIFF ends at 4 GB; compression may also make a file larger
_CHECK_BLOCK_PX = 16
_EXPLAINED_BY_SPREAD = 1.6
"""Of WebP, in standard deviations of a block: twice what was measured on 700 pictures, many of them drawn."""
_WEBP_SHARP_PX = 100_000_000  # it takes four bytes of memory for each pixel more
_JPEG_OPTIMISED_PX = 25_000_000  # 300 MB of coefficients
_AVIF_EFFORT = 3  # one step more took six times as long on a photo, and saved nothing


@dataclass(frozen=True, slots=True)
class Encoding:
    """How an output is to be written."""

    format: Format
    height: int
    width: int
    channels: int
    bits: int
    """For each channel of the output: 8, 10, 12 or 16. The raw pixels have 8 for 8, and else 16."""
    quality: int
    lossless: bool
    """For WebP, which alone can be told to lose nothing. PNG and TIFF never do, and the others always."""
    metadata: Metadata
    """As it shall be in the output."""
    resolution: tuple[float, float] | None
    """Pixels per mm, across and down; None where the photo tells none, and then the output tells none."""
    private: bool = False
    """Whether nobody but its owner may read the file until it is given other permissions."""

    @property
    def exact(self) -> bool:
        """Whether every pixel comes back as it was."""
        return not self.format.lossy or (self.lossless and self.format is Format.WEBP)

    @property
    def sample_bytes(self) -> int:
        """Of a number in the raw pixels."""
        return sample_bytes(self.bits)


@dataclass(frozen=True, slots=True)
class Written:
    """A finished temporary file that was read back and found to be what was meant."""

    size: int
    sha256: str


def encode(raw: Path, temp: Path, encoding: Encoding) -> Written:
    """Write raw pixels (height, width, channels) as a new file and read it back.

    Raises:
        WrongOutput: what was read back is not what was meant.
        UnsupportedPhoto: the format cannot hold the metadata.
        OSError: the file cannot be written.
    """
    shape = (encoding.height, encoding.width, encoding.channels)
    pixels = np.memmap(raw, dtype_of(encoding.bits), "r", shape=shape)
    image = from_memory(pixels)
    if encoding.metadata.linear:
        image = light.linear(image)
    if encoding.resolution is not None:
        image = image.copy(xres=encoding.resolution[0], yres=encoding.resolution[1])
    if encoding.metadata.icc:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", encoding.metadata.icc)
    with open(temp, "x+b", opener=for_owner_alone if encoding.private else None) as file:
        if encoding.format is Format.TIFF:
            _save(image, encoding, file, file.write)
        else:
            sink = writing.open_sink(file, encoding.format, encoding.metadata, resolution=encoding.resolution)
            if encoding.format is Format.HEIC:
                sink.write(heic.encoded(pixels, quality=encoding.quality, icc=encoding.metadata.icc))
            else:
                _save(image, encoding, file, sink.write)
            sink.finish()
    if encoding.format is Format.TIFF:
        writing.finish_tiff(temp, encoding.metadata, resolution_known=encoding.resolution is not None)
    return _read_back(temp, image, encoding)


def _save(image: Any, encoding: Encoding, file: BinaryIO, write: Callable[[bytes], Any]) -> None:
    """Run the encoder; an error of our own write comes out as what it was, not as the codec's."""
    failures: list[BaseException] = []

    def guarded(data: bytes) -> int:
        try:
            write(data)
        except Exception as error:  # pyvips would print and forget it
            failures.append(error)
            return -1
        return len(data)

    forget_warnings()
    target = pyvips.TargetCustom()
    target.on_write(guarded)
    target.on_read(file.read)  # TIFF goes back to fill in what it did not know
    target.on_seek(lambda offset, whence: file.seek(offset, whence))
    try:
        _encoder(image, encoding)(target)
    except CODEC_ERRORS as error:
        if failures:
            raise failures[0] from None
        raise WrongOutput(f"the {encoding.format.value} encoder failed: {reason_of(error)}") from error
    file.flush()


def _encoder(image: Any, encoding: Encoding) -> Callable[[Any], None]:
    quality = encoding.quality
    match encoding.format:
        case Format.JPEG:
            # Tables made for the picture save 2.5 %, but libjpeg holds all of its coefficients meanwhile.
            small = encoding.height * encoding.width <= _JPEG_OPTIMISED_PX
            # 4:4:4: half the colour resolution is the first thing that shows on an enlargement.
            return lambda target: image.jpegsave_target(
                target, Q=quality, subsample_mode="off", optimize_coding=small, keep="icc"
            )
        case Format.PNG:
            return lambda target: image.pngsave_target(target, compression=6, filter="paeth", keep="icc")
        case Format.WEBP:
            # Colours have half the resolution, always; their edges stay where they are if brightness helps.
            sharp = encoding.height * encoding.width <= _WEBP_SHARP_PX
            return lambda target: image.webpsave_target(
                target,
                Q=quality,
                lossless=encoding.lossless,
                exact=encoding.lossless,
                smart_subsample=sharp,
                keep="icc",
            )
        case Format.TIFF:
            size = encoding.height * encoding.width * encoding.channels * encoding.sample_bytes
            return lambda target: image.tiffsave_target(
                target,
                compression="deflate",
                predictor="horizontal",
                bigtiff=size > _BIGTIFF_FROM_BYTES,
                resunit="inch",
                keep="icc",
            )
        case Format.AVIF:
            return lambda target: _for_avif(image, encoding.bits).heifsave_target(
                target,
                compression="av1",
                Q=quality,
                bitdepth=encoding.bits,
                subsample_mode="off",
                effort=_AVIF_EFFORT,
                keep="icc",
            )
        case _:
            raise ValueError(f"{encoding.format.value} is only read")


def _for_avif(image: Any, bits: int) -> Any:
    """RGB, since libvips writes no grey AVIF; of more than 8 bits the upper ones of 16, rounded."""
    if image.bands <= 2:
        grey, alpha = image[0], ([image[1]] if image.bands == 2 else [])
        colour = "srgb" if bits == 8 else "rgb16"
        image = grey.bandjoin([grey, grey, *alpha]).copy(interpretation=colour)
    if bits == 8:
        return image
    narrow = (image * ((2**bits - 1) / 65_535)).rint() * 2 ** (16 - bits)
    return narrow.cast("ushort").copy(interpretation=image.interpretation)


def _read_back(temp: Path, meant: Any, encoding: Encoding) -> Written:
    """Open the finished file as anyone would, and compare it with what was meant."""
    # libtiff warns of odd tags too, such as a text without an end, which are the photo's own.
    fail_on = "error" if encoding.format is Format.TIFF else "warning"
    with temp.open("rb") as file, loaded(file, encoding.format, fail_on=fail_on) as image:
        if (image.height, image.width) != (meant.height, meant.width):
            raise WrongOutput(f"the file written has {image.width} x {image.height} pixels")
        if image.format != meant.format:
            raise WrongOutput(
                f"the file written has not the {encoding.bits} bits for each colour that it should"
            )
        try:
            worst = _worst_difference(image, meant, encoding)
        except CODEC_ERRORS as error:
            raise WrongOutput(f"the file written cannot be read back: {reason_of(error)}") from error
    if worst > (0 if encoding.exact else _tolerance(encoding)):
        levels = np.iinfo(dtype_of(encoding.bits)).max
        raise WrongOutput(f"the file written differs from the picture by {worst:.0f} of {levels} levels")
    writing.verify(temp, encoding.format, encoding.metadata)
    with temp.open("rb") as file:
        return Written(temp.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _worst_difference(image: Any, meant: Any, encoding: Encoding) -> float:
    """The largest difference in levels: of single numbers, or of the means over whole blocks after a loss.

    A codec's loss averages out over a block; a black, stale or shifted region does not. Nor quite does what
    is lost with half the resolution of colours, where they change from pixel to pixel and some end beyond
    black or white: as far as the spread within a block explains a difference, it does not count.
    """
    full = 255 if meant.format == "uchar" else 65_535
    if meant.bands in (2, 4) and image.bands in (1, 3):  # WebP drops alpha that is full
        if meant[meant.bands - 1].min() < full:
            raise WrongOutput("the file written has lost its transparency")
        meant = meant.extract_band(0, n=meant.bands - 1)
    if image.bands >= 3 and meant.bands <= 2:  # WebP has no grey
        image = image[0] if image.bands == 3 else image[0].bandjoin(image[3])
    difference = image.cast("int") - meant.cast("int")
    if encoding.exact:
        return float(difference.abs().max())
    if meant.bands in (2, 4):
        # Colours count as far as they are seen; of what is not, a lossy codec makes what is short to write.
        seen = difference.extract_band(0, n=meant.bands - 1) * (meant[meant.bands - 1] / full)
        difference = seen.bandjoin(difference[meant.bands - 1])
    if min(image.width, image.height) < _CHECK_BLOCK_PX:
        return float(difference.abs().max())
    difference = _block_means(difference).abs()
    if encoding.format is Format.WEBP:
        variance = _block_means(meant * meant) - _block_means(meant) ** 2
        difference -= (variance.abs() ** 0.5).bandmean() * _EXPLAINED_BY_SPREAD
    return float(difference.max())


def _block_means(image: Any) -> Any:
    """Of whole blocks, a pixel each."""
    side = _CHECK_BLOCK_PX
    return image.crop(0, 0, image.width // side * side, image.height // side * side).shrink(side, side)


def _tolerance(encoding: Encoding) -> float:
    """Levels by which a lossy codec may move the mean of a block, at least twice what was measured.

    Of photographs, noise and stripes of full contrast, JPEG moved none by more than 6 at quality 50 and up;
    WebP moved flat blocks beside saturated colours by 15. A false alarm would cost a photo; below quality 50,
    and of pictures smaller than a block, pixels are not compared.
    """
    small = min(encoding.height, encoding.width) < _CHECK_BLOCK_PX  # too little is averaged
    level = np.iinfo(dtype_of(encoding.bits)).max / 255
    if small or encoding.quality < 50:
        return 255.0 * level
    if encoding.format is Format.WEBP:
        return 30.0 * level
    return (24.0 if encoding.quality < 75 else 12.0) * level

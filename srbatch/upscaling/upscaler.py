"""From a photo's pixels to bands of rows of the enlarged photo: passes, tiles, batches and their blend."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray

from srbatch.errors import DeviceError, OutOfMemory, UsageError
from srbatch.network import SuperResolutionNet
from srbatch.upscaling import tile_memory, tiling, transfer
from srbatch.upscaling.arrays import (
    AlphaRows,
    Pixels,
    as_grey,
    as_rgb,
    colour_channels,
    cut_tile,
    enlargement,
    is_neutral,
    largest_level,
    to_integers,
)
from srbatch.upscaling.inference import Batch, NetworkOnDevice
from srbatch.upscaling.resample import LANCZOS, BandResampler
from srbatch.upscaling.tile_memory import Tiles

log = logging.getLogger(__name__)

Tick = Callable[[float], None]
"""Told how many pixels of the photo were done since the last call; may raise to stop the photo.

Of a tile that is seen in eight views, each is an eighth of its pixels.
"""
Spool = Callable[[int, int, int], NDArray[np.uint16]]
"""Gives an array (height, width, C), in memory or on disk, that is ours until the photo is done."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A photo that is to share a batch with others."""

    pixels: Pixels
    size: tuple[int, int]
    """(height, width) of the result."""
    tick: Tick = lambda _: None
    bits: int | None = None
    """Of each number of the result; None for the photo's own."""

    @property
    def levels(self) -> int:
        """What stands for 1.0 in the result."""
        return largest_level(self.pixels, self.bits)


def head_for(factor: float, scales: Collection[int]) -> int:
    """The smallest of the heads that reaches the factor; the largest, for two passes, where none does."""
    return min((scale for scale in scales if scale >= factor), default=max(scales))


def in_memory(height: int, width: int, channels: int) -> NDArray[np.uint16]:
    """The `Spool` that takes nothing but memory."""
    return np.empty((height, width, channels), np.uint16)


_LANES = {"cpu": 1, "mps": 1, "cuda": 2}
_ROWS_AT_ONCE = 128
"""Of the result, given out together."""
_SHARE_OF_FIRST = 1 / 3
"""Of a photo's time, about, that the network takes which is run first: a half at x1, a quarter at x4."""


class Upscaler:
    """Enlarges photos with one network on one device. Not to be called from two threads at once.

    A photo is integer pixels of shape (H, W, C): C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha;
    the result has the same type and channels. Grey goes through the network as three equal channels, whose
    results, which differ a little, are averaged. A photo in RGB whose channels are all equal is grey too.
    Alpha is not a picture: it takes a path of its own, bicubic.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        scales: tuple[int, ...],
        halo: int,
        ramp: int,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        batch: int | None = None,
        strength: float = 1.0,
        tta: bool = False,
        first: Upscaler | None = None,
    ) -> None:
        """``network(x, scale)`` returns the residual over the bicubic enlargement, as

        :class:`srbatch.network.SuperResolutionNet` does, for sides that are multiples of its stride;
        ``scales`` are its heads; ``halo`` and ``ramp`` (input pixels) what its tiles need; ``tta`` averages
        it over eight views of each tile. ``first`` is run before, at the photo's own size and on the same
        device, and is ours from then on; what it makes is held in 16 bits.

        Raises:
            DeviceError: the device does not exist.
            UsageError: the tile is all overlap, or the device cannot do the precision.
        """
        self._on_device = NetworkOnDevice(
            network, device=device, precision=precision, strength=strength, tta=tta
        )
        self._heads = tuple(sorted(scales))
        self._margins = tiling.Margins(halo, ramp, SuperResolutionNet.stride)
        self._first = first
        self._smallest = self._margins.overlap + 2 * self._margins.stride
        if tile is not None and tile < self._smallest:
            raise UsageError(f"--tile {tile}: the tiles of this model overlap; at least {self._smallest}")
        self._strips = tile_memory.StripMemory(self.device, margins=self._margins, smallest=self._smallest)
        self._tiles = tile_memory.fitting(
            self.device,
            by_blocks=self._on_device.by_blocks,
            precision=self.precision,
            largest=self._heads[-1],
            stride=self._margins.stride,
            smallest=self._smallest,
            tile=tile,
            batch=batch,
        )

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._on_device.device

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16`` or ``fp16``."""
        return self._on_device.precision

    @property
    def network(self) -> torch.nn.Module:
        """What is run in the upscaler's precision: the one given, or the same by blocks or fused kernels."""
        return self._on_device.network

    @property
    def engine(self) -> str:
        """What the network is run by: ``torch``, unless the network says that it is something else."""
        return self._on_device.engine

    def lanes(self) -> list[Upscaler]:
        """As many as keep the device busy, this one among them: on CUDA, one photo's end is another's middle.

        They share the network, and each has tiles of its own; there is to be a thread for each.
        """
        return [self] + [self._another() for _ in range(_LANES[self.device.type] - 1)]

    def _another(self) -> Upscaler:
        other = copy(self)
        if self._first is not None:
            other._first = copy(self._first)
        return other

    def lane(self) -> AbstractContextManager[None]:
        """For all calls of one thread: on CUDA, its work does not queue behind that of others."""
        return self._on_device.stream()

    @property
    def tiles(self) -> Tiles:
        """What is in use now; it only ever shrinks during a run."""
        return self._tiles

    def shrink(self) -> bool:
        """Go one step down, smaller batches first, then smaller tiles; False where there is none."""
        # Both: which of the two had no room is not known, and what is smaller than need be costs little.
        smaller = [one._shrink() for one in (self, self._first) if one is not None]
        if any(smaller) and self.device.type == "cuda":
            torch.cuda.empty_cache()
        return any(smaller)

    def _shrink(self) -> bool:
        tile, batch = self._tiles.tile, self._tiles.batch
        if batch > 1:
            self._tiles = Tiles(tile, batch // 2)
        elif tile > self._smallest:
            stride = self._margins.stride
            self._tiles = Tiles(max(tile // 2 // stride * stride, self._smallest), 1)
        else:
            return False
        log.warning("out of memory on %s: going on with %s", self.device, self._tiles)
        return True

    def work_px(self, height: int, width: int) -> int:
        """Pixels that the network sees of a photo in colours: its own, the overlap of tiles and padding."""
        return self._plan(height, width, 3, self._heads[-1]).work_px

    def enlarge(
        self,
        pixels: Pixels,
        size: tuple[int, int],
        *,
        spool: Spool = in_memory,
        tick: Tick = lambda _: None,
        bits: int | None = None,
    ) -> Iterator[Pixels]:
        """Yield the enlarged photo from top to bottom as arrays (rows, width, C).

        ``size`` is (height, width); ``bits``, 8 or 16, is the depth of the result, or None for the photo's
        own. Floats are rounded to it once. Beyond the largest head the photo takes two passes, with the
        first one's result held in 16 bits; the network that is run first is a pass of its own, likewise.

        Raises:
            OutOfMemory: what was yielded is void.
            WrongOutput: the network returned another shape, or numbers that are none even in fp32.
            NoRoom: the photo is so wide that a row of tiles does not fit into the memory.
            DeviceError: the device failed.
        """
        seen, as_photo = _as_seen(pixels)
        with self._on_device.explained():
            yield from as_photo(self._passes(seen, size, largest_level(pixels, bits), spool, tick))

    def enlarge_whole(
        self, pixels: Pixels, size: tuple[int, int], *, spool: Spool = in_memory, bits: int | None = None
    ) -> Pixels:
        """The enlarged photo in one array, in smaller and smaller tiles where memory is short.

        Raises:
            WrongOutput, DeviceError: as :meth:`enlarge`; the latter also if not even the smallest tiles fit.
        """
        while True:
            try:
                return np.concatenate(list(self.enlarge(pixels, size, spool=spool, bits=bits)))
            except OutOfMemory:
                if not self.shrink():
                    raise DeviceError(
                        f"{self.device} has too little memory even for the smallest tiles; use --device cpu"
                    ) from None

    def batch_key(self, pixels: Pixels, size: tuple[int, int]) -> Hashable | None:
        """What photos must have in common to share a batch, or None where this one fills its own."""
        if self._tiles.batch == 1 or self._two_passes(pixels, size):
            return None
        head = self._head(pixels, size)
        plan = self._plan_of(pixels, head)
        if plan.tiles > 1:
            return None
        first = None
        if self._first is not None and (first := self._first.batch_key(pixels, pixels.shape[:2])) is None:
            return None
        colours = 1 if is_neutral(pixels) else colour_channels(pixels)
        return head, plan.rows.tile, plan.columns.tile, colours, pixels.dtype, first

    def enlarge_together(self, photos: Sequence[Wanted]) -> list[Iterator[Pixels]]:
        """Run photos of one :meth:`batch_key`, at most a batch of them, through the network at once.

        For each there is an iterator as :meth:`enlarge` gives.

        Raises:
            OutOfMemory, WrongOutput, DeviceError: as :meth:`enlarge`; the iterators may raise them too.
        """
        seen, as_photos = zip(*(_as_seen(photo.pixels) for photo in photos), strict=True)
        enlarged = self._together([replace(p, pixels=pixels) for p, pixels in zip(photos, seen, strict=True)])
        return [as_photo(bands) for as_photo, bands in zip(as_photos, enlarged, strict=True)]

    def _together(self, photos: Sequence[Wanted]) -> list[Iterator[Pixels]]:
        if self._first is not None:
            photos = _after_first(self._first, photos)
        head = self._head(photos[0].pixels, photos[0].size)
        tiles = []
        for photo in photos:
            plan = self._plan_of(photo.pixels, head)
            colours = photo.pixels[:, :, : colour_channels(photo.pixels)]
            tiles.append(cut_tile(colours, plan.rows.source(0), plan.columns.source(0)))
        # Few batch shapes, as there are few tile shapes: algorithms are chosen for each.
        padded = 1 << (len(tiles) - 1).bit_length()
        stacked = np.stack(tiles + [tiles[-1]] * (padded - len(tiles)))
        with self._on_device.explained():
            enlarged = self._on_device.enlarged(self._on_device.begin(stacked, head))
        return [self._finish(photo, whole) for photo, whole in zip(photos, enlarged, strict=False)]

    def _finish(self, photo: Wanted, whole: torch.Tensor) -> Iterator[Pixels]:
        with self._on_device.explained():
            yield from self._pass(photo.pixels, photo.size, photo.levels, photo.tick, whole)

    def _plan(self, height: int, width: int, colours: int, head: int) -> tiling.Plan:
        highest = self._strips.highest(width, colours, head)
        return tiling.plan(height, width, tile=self._tiles.tile, margins=self._margins, highest=highest)

    def _plan_of(self, pixels: Pixels, head: int) -> tiling.Plan:
        height, width, _ = pixels.shape
        return self._plan(height, width, colour_channels(pixels), head)

    def _two_passes(self, pixels: Pixels, size: tuple[int, int]) -> bool:
        return enlargement(pixels, size) > self._heads[-1]

    def _head(self, pixels: Pixels, size: tuple[int, int]) -> int:
        return head_for(enlargement(pixels, size), self._heads)

    def _passes(
        self, pixels: Pixels, size: tuple[int, int], levels: int, spool: Spool, tick: Tick
    ) -> Iterator[Pixels]:
        height, width, channels = pixels.shape
        largest = self._heads[-1]
        if self._first is not None:
            self._strips.check(width, colour_channels(pixels), self._head(pixels, size))  # not after the work
            bands = self._first._pass(pixels, (height, width), 65_535, _part(tick, _SHARE_OF_FIRST))
            pixels = _filled(spool(height, width, channels), bands)
            tick = _part(tick, 1 - _SHARE_OF_FIRST)
        if self._two_passes(pixels, size):
            middle = (height * largest, width * largest)
            tick = _part(tick, 1 / (1 + largest**2))  # the second pass sees largest² as many pixels
            pixels = _filled(spool(*middle, channels), self._pass(pixels, middle, 65_535, tick))
        yield from self._pass(pixels, size, levels, tick)

    def _pass(
        self,
        pixels: Pixels,
        size: tuple[int, int],
        levels: int,
        tick: Tick,
        whole: torch.Tensor | None = None,
    ) -> Iterator[Pixels]:
        """One pass through the network; ``whole`` is its result where the photo's one tile has been run."""
        rows = self._enlarged_rows(pixels, size, levels, tick, whole)
        yield from transfer.fetched(rows, self.device)

    def _enlarged_rows(
        self,
        pixels: Pixels,
        size: tuple[int, int],
        levels: int,
        tick: Tick,
        whole: torch.Tensor | None,
    ) -> Iterator[torch.Tensor]:
        """(rows, width, C) integers on the device."""
        height, width, channels = pixels.shape
        head, colours = self._head(pixels, size), colour_channels(pixels)
        self._strips.check(width, colours, head)
        full = (height * head, width * head)
        fit = BandResampler(full, size, LANCZOS, self.device) if full != size else None
        alpha = AlphaRows(pixels[:, :, colours:], size, self.device) if channels > colours else None
        for band in self._bands(pixels[:, :, :colours], head, tick, whole):
            rows = fit.push(band) if fit else band
            if alpha:
                rows = torch.cat([rows, alpha.take(rows.shape[1])])
            yield to_integers(rows, levels)

    def _bands(
        self, pixels: Pixels, head: int, tick: Tick, whole: torch.Tensor | None
    ) -> Iterator[torch.Tensor]:
        """Blend rows of tiles into (C, rows, W * head) floats, the photo's rows without its padding.

        What is yielded is overwritten afterwards: it is to be copied before the next is asked for.
        """
        height, width, colours = pixels.shape
        plan = self._plan(height, width, colours, head)
        across = [torch.from_numpy(w).to(self.device) for w in plan.columns.weights(head)]
        down = [torch.from_numpy(w).to(self.device) for w in plan.rows.weights(head)]
        px_per_tile = height * width / plan.tiles
        # Of a tile in several views, all but one were told of when they were made.
        px_left = px_per_tile / self._on_device.views if whole is None else px_per_tile
        carried = None
        enlarged = self._enlarged_tiles(pixels, plan, head, tick) if whole is None else iter([(0, whole)])
        # One buffer for all strips, given out a few rows at a time: as wide as the result and as high as a
        # tile, it is by far the largest thing in memory, and copies of parts of it are small.
        strip = torch.empty(colours, plan.rows.tile * head, plan.columns.padded * head, device=self.device)
        for index, origin in enumerate(plan.rows.origins):
            strip.zero_()
            for column, tile in islice(enlarged, len(plan.columns)):
                left = plan.columns.origins[column] * head
                weight = down[index][:, None] * across[column]
                strip[:, :, left : left + plan.columns.tile * head].addcmul_(tile, weight)
                tick(px_left)
            if carried is not None:
                strip[:, : carried.shape[1]] += carried
            last = index == len(plan.rows) - 1
            end = (height - origin if last else plan.rows.origins[index + 1] - origin) * head
            carried = strip[:, end:].clone()
            for top in range(0, end, _ROWS_AT_ONCE):
                yield strip[:, top : min(top + _ROWS_AT_ONCE, end), : width * head]

    def _enlarged_tiles(
        self, pixels: Pixels, plan: tiling.Plan, head: int, tick: Tick
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(column, tile (C, h, w)) of all tiles, row by row, sent in batches that are all of one size."""
        sent = self._sent(pixels, plan, head, tick)
        # CUDA gets a batch before the one ahead of it is looked at, so that it never waits for us.
        for columns, batch in transfer.one_ahead(sent) if self.device.type == "cuda" else sent:
            yield from zip(columns, self._on_device.enlarged(batch), strict=False)

    def _sent(
        self, pixels: Pixels, plan: tiling.Plan, head: int, tick: Tick
    ) -> Iterator[tuple[range, Batch]]:
        count = len(plan.columns)
        px_per_view = pixels.shape[0] * pixels.shape[1] / plan.tiles / self._on_device.views
        for row in range(len(plan.rows)):
            rows = plan.rows.source(row)
            batch = ceil(count / ceil(count / self._tiles.batch))
            for start in range(0, count, batch):
                columns = range(start, min(start + batch, count))
                tiles = [cut_tile(pixels, rows, plan.columns.source(c)) for c in columns]
                tiles += [tiles[-1]] * (batch - len(tiles))
                pause = partial(tick, px_per_view * len(columns))
                yield columns, self._on_device.begin(np.stack(tiles), head, pause)


def _as_seen(pixels: Pixels) -> tuple[Pixels, Callable[[Iterator[Pixels]], Iterator[Pixels]]]:
    """The photo as the network is to see it, and what gives the bands of its result the photo's channels."""
    if is_neutral(pixels):
        return as_grey(pixels), partial(map, as_rgb)
    return pixels, lambda bands: bands


def _part(tick: Tick, share: float) -> Tick:
    """For a pass that is a part of the work."""
    return lambda px: tick(px * share)


def _after_first(first: Upscaler, photos: Sequence[Wanted]) -> list[Wanted]:
    """What the network that is run first makes of a batch, in 16 bits, with what is still to be done.

    Nobody is told of it: a batch takes a moment, and of one that fails later every photo begins again.
    """
    sent = [Wanted(photo.pixels, photo.pixels.shape[:2], bits=16) for photo in photos]
    return [
        replace(photo, pixels=np.concatenate(list(bands)), bits=photo.bits or 8 * photo.pixels.itemsize)
        for photo, bands in zip(photos, first.enlarge_together(sent), strict=True)
    ]


def _filled(whole: NDArray[np.uint16], bands: Iterator[Pixels]) -> NDArray[np.uint16]:
    """``whole`` with the bands in it, from top to bottom."""
    row = 0
    for band in bands:
        whole[row : row + len(band)] = band
        row += len(band)
    return whole

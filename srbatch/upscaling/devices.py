"""The threads that drive the devices: the network runs in them alone, while others read and write."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from srbatch.errors import DeviceOutOfMemory, OutOfMemory

if TYPE_CHECKING:
    from srbatch.upscaling.arrays import Pixels
    from srbatch.upscaling.tile_memory import Tiles
    from srbatch.upscaling.upscaler import Spool, Tick, Upscaler

log = logging.getLogger(__name__)

_BANDS_AHEAD = 8
"""Bands that wait to be written while the device goes on; each is a few rows of the output."""
_POLL_S = 0.1


class _Cancelled(Exception):
    """Nobody wants the photo any more."""


@dataclass(eq=False)
class Enlargement:
    """One photo on its way through a device. A context manager: leaving it early stops the device."""

    pixels: Pixels
    size: tuple[int, int]
    spool: Spool
    tick: Tick
    bits: int | None
    taken_by: tuple[Upscaler, Tiles] | None = None
    """The device that it is in, with the tiles in use there; None as long as it waits for one."""
    _bands: queue.Queue[Pixels | BaseException | None] = field(
        default_factory=lambda: queue.Queue(_BANDS_AHEAD)
    )
    _unwanted: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Enlargement:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unwanted.set()

    def bands(self, check: Callable[[], None]) -> Iterator[Pixels]:
        """Yield rows of the result, (rows, width, C), from top to bottom; ``check`` may raise while waiting.

        Raises:
            OutOfMemory: what was yielded is void, and the device goes on with smaller tiles: ask again.
            DeviceOutOfMemory: not even the smallest tiles fit.
            SrbatchError: as :meth:`srbatch.upscaling.upscaler.Upscaler.enlarge`.
        """
        while True:
            try:
                band = self._bands.get(timeout=_POLL_S)
            except queue.Empty:
                check()
                continue
            if band is None:
                return
            if isinstance(band, BaseException):
                try:
                    raise band
                finally:
                    del band  # this frame is in its traceback
            yield band

    @property
    def unwanted(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._unwanted.is_set()

    def progress(self, px: float) -> None:
        """Tell that so many more pixels are done; nobody hears of a photo that is not wanted any more."""
        if self.unwanted:
            raise _Cancelled
        self.tick(px)

    def deliver(self, band: Pixels | BaseException | None) -> None:
        """Hand over a band, the error that ended it, or None for the end; waits while enough lie ready."""
        while not self.unwanted:
            try:
                self._bands.put(band, timeout=_POLL_S)
                return
            except queue.Full:
                continue
        raise _Cancelled


class Devices:
    """A thread for each lane of each device, begun with the first photo. Use it as a context manager.

    A photo goes to whichever device is free. Photos that fit into one tile, and wait at the same time, share
    a batch.
    """

    def __init__(self, upscalers: Callable[[], Sequence[Upscaler]]) -> None:
        """``upscalers`` gives one for each device; it is called when the first photo comes."""
        self._make = upscalers
        self._threads: list[threading.Thread] = []
        self._waiting: deque[Enlargement] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __enter__(self) -> Devices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL_S)  # on Windows no signal is seen before a wait ends

    def enlarge(
        self, pixels: Pixels, size: tuple[int, int], *, spool: Spool, tick: Tick, bits: int | None
    ) -> Enlargement:
        """Ask for a photo; its result comes out of :meth:`Enlargement.bands`.

        The arguments are those of :meth:`srbatch.upscaling.upscaler.Upscaler.enlarge`. ``tick`` is
        called from the device's thread; what it raises comes out of the bands.
        """
        wanted = Enlargement(pixels, size, spool, tick, bits)
        with self._changed:
            if not self._threads:
                self._start()
            self._waiting.append(wanted)
            self._changed.notify()
        return wanted

    def _start(self) -> None:
        made = self._make()
        for one in made:
            log.info("on %s in %s by %s: %s", one.device, one.precision, one.engine, one.tiles)
        for upscaler in [lane for one in made for lane in one.lanes()]:
            thread = threading.Thread(target=self._serve, args=(upscaler,), name=f"srbatch {upscaler.device}")
            thread.start()
            self._threads.append(thread)

    def _serve(self, upscaler: Upscaler) -> None:
        try:
            with upscaler.lane():
                while self._serve_next(upscaler):
                    pass
        except Exception as error:  # the device does not let itself be used; who waits for it is to hear that
            while (wanted := self._take()) is not None:
                with contextlib.suppress(_Cancelled):
                    wanted.deliver(error)

    def _serve_next(self, upscaler: Upscaler) -> bool:
        """Run the next photo, with those that share its batch; False when the run is over.

        Nothing of them is kept while the next one is waited for: it would keep their scratch files.
        """
        first = self._take()
        if first is None:
            return False
        taken = [first]
        try:
            taken += self._companions(first, upscaler)
            if len(taken) == 1:
                _alone(first, upscaler)
            else:
                _together(taken, upscaler)
        except BaseException as error:  # whatever it is, they would wait for ever
            for wanted in taken:
                with contextlib.suppress(_Cancelled):
                    wanted.deliver(error)
        return True

    def _take(self) -> Enlargement | None:
        with self._changed:
            self._changed.wait_for(self._ready)
            return None if self._closed else self._waiting.popleft()

    def _companions(self, first: Enlargement, upscaler: Upscaler) -> list[Enlargement]:
        """Waiting photos that share a batch with this one; they wait no longer."""
        key = _key(first, upscaler)
        if key is None:
            return []
        with self._changed:
            same = [other for other in self._waiting if _key(other, upscaler) == key]
            taken = same[: upscaler.tiles.batch - 1]
            self._waiting = deque(other for other in self._waiting if other not in taken)
        return taken

    def _ready(self) -> bool:
        while self._waiting and self._waiting[0].unwanted:
            self._waiting.popleft()
        return bool(self._waiting) or self._closed


def _key(wanted: Enlargement, upscaler: Upscaler) -> Hashable | None:
    return upscaler.batch_key(wanted.pixels, wanted.size)


def _deliver(wanted: Enlargement, bands: Iterator[Pixels], upscaler: Upscaler) -> None:
    """Run one photo; out of memory, the device goes on with smaller tiles if there are any."""
    wanted.taken_by = upscaler, upscaler.tiles
    try:
        for band in bands:
            wanted.deliver(band)
        wanted.deliver(None)
        return
    except _Cancelled:
        return
    except OutOfMemory as error:
        _free_what_had_no_room(error)
        ended: BaseException = OutOfMemory()
    except BaseException as error:
        ended = error
    if isinstance(ended, OutOfMemory) and not upscaler.shrink():
        ended = DeviceOutOfMemory(
            "it does not fit into the device's memory even in the smallest tiles; use --device cpu"
        )
    with contextlib.suppress(_Cancelled):
        wanted.deliver(ended)


def _free_what_had_no_room(error: OutOfMemory) -> None:
    """Its traceback, and that of its cause, hold the tensors of the tiles that did not fit."""
    for known in (error, error.__cause__):
        if known is not None:
            traceback.clear_frames(known.__traceback__)


def _alone(wanted: Enlargement, upscaler: Upscaler) -> None:
    bands = upscaler.enlarge(
        wanted.pixels, wanted.size, spool=wanted.spool, tick=wanted.progress, bits=wanted.bits
    )
    _deliver(wanted, bands, upscaler)


def _together(taken: list[Enlargement], upscaler: Upscaler) -> None:
    """Run photos that share a batch; if it fails, each goes alone, so that none suffers for another."""
    from srbatch.upscaling.upscaler import Wanted  # not above: this module is imported before torch is needed

    tile, results, had_room = upscaler.tiles.tile, None, True
    try:
        results = upscaler.enlarge_together([Wanted(w.pixels, w.size, w.progress, w.bits) for w in taken])
    except Exception as error:
        had_room = not isinstance(error, OutOfMemory)
    if not had_room:
        upscaler.shrink()
    for index, wanted in enumerate(taken):
        if results is None or upscaler.tiles.tile != tile:  # what came of the batch is of larger tiles
            _alone(wanted, upscaler)
        else:
            _deliver(wanted, results[index], upscaler)

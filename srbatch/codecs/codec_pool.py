"""Codecs in worker processes that can be killed: a damaged file costs itself, never the run."""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait as await_any
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pebble

from srbatch.codecs import encode, picture
from srbatch.codecs.encode import Encoding, Written
from srbatch.codecs.picture import Header, Picture
from srbatch.errors import CodecFailed, PhotoError, SrbatchError, WrongOutput
from srbatch.limits import cores, total_memory
from srbatch.metadata.reading import Metadata
from srbatch.options import Options
from srbatch.outputs.commit import destination_error, discard

log = logging.getLogger(__name__)

T = TypeVar("T")
Check = Callable[[], None]
"""Called a few times a second while a worker is waited for; raises to give up."""

_POLL_S = 0.1
_MOST_WORKERS = 16
_TRIES = 3
_TOO_MUCH_MEMORY = "its codec needs more memory than --codec-memory allows"
_SECONDS_PER_MEGAPIXEL = 6.0  # AVIF and HEIC take one or more where JPEG takes a hundredth


def encode_limit_s(pixels: float, timeout_s: float) -> float:
    """How long an output may take: it may have 64 times the pixels of a photo, which has ``timeout_s``."""
    return timeout_s + pixels / 1e6 * _SECONDS_PER_MEGAPIXEL


class CodecPool:
    """Runs the functions of ``picture`` and ``encode`` in worker processes, replaced when they die.

    Use it as a context manager. Several threads may use it.
    """

    def __init__(
        self, *, timeout_s: float, memory_mb: int, workers: int | None = None, check: Check = lambda: None
    ) -> None:
        """``workers`` is the number of processes, by default what the machine's cores and memory allow."""
        self._timeout_s = timeout_s
        self._check = check
        self.workers = workers or _default_workers(memory_mb)
        # libvips' threads, in all workers together, are as many as there are cores.
        os.environ.setdefault("VIPS_CONCURRENCY", str(max(1, cores() // self.workers)))
        self._processes = _Processes(self.workers, memory_mb)
        self._cut_off: list[Path] = []
        """Files that a worker may begin to write although nobody waits for them any more."""

    @classmethod
    def of(cls, options: Options, check: Check, *, workers: int | None = None) -> CodecPool:
        """As the options say, but for the number of ``workers`` where that is given."""
        return cls(
            timeout_s=options.codec_timeout_s,
            memory_mb=options.codec_memory_mb,
            workers=workers or options.workers,
            check=check,
        )

    def __enter__(self) -> CodecPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._processes.end()
        for path in self._cut_off:
            discard(path)

    def checked_by(self, check: Check) -> CodecPool:
        """The same workers, with another check while they are waited for."""
        view = copy.copy(self)
        view._check = check
        return view

    def probe(self, paths: Sequence[Path], max_pixels: float) -> list[Header | PhotoError]:
        """Read many headers; a failure stands in the place of its photo."""
        limit_s, found = self._header_limit_s, list[Header | PhotoError]()
        while len(found) < len(paths):
            rest = list(paths[len(found) :])
            try:
                found += self._run(_probe_many, (rest, max_pixels, limit_s / 2), limit_s, CodecFailed)
            except CodecFailed as error:
                if len(rest) == 1:
                    found.append(error)
                else:  # which of them ended the worker shows when each has one call
                    for path in rest:
                        found += self.probe([path], max_pixels)
        return found

    @property
    def _header_limit_s(self) -> float:
        """Shorter than for a whole photo: while a header hangs, no photo is begun."""
        return min(self._timeout_s, max(10.0, self._timeout_s / 5))

    def decode(self, source: Path, raw: Path, max_pixels: float) -> Picture:
        """As :func:`srbatch.codecs.picture.decode`; a crash or a time-out is a CodecFailed.

        Raises:
            DestinationError: the scratch file cannot be written.
        """
        try:
            return self._run(picture.decode, (source, raw, max_pixels), self._timeout_s, CodecFailed)
        except OSError as error:  # those of the photo are PhotoErrors
            raise destination_error(error, raw) from error

    def metadata(self, source: Path) -> Metadata:
        """As :func:`srbatch.codecs.picture.metadata_of`."""
        return self._run(picture.metadata_of, (source,), self._timeout_s, CodecFailed)

    def hash(self, source: Path) -> str:
        """As :func:`srbatch.codecs.picture.sha256_of`."""
        return self._run(picture.sha256_of, (source,), self._timeout_s, CodecFailed)

    def encode(self, raw: Path, temp: Path, encoding: Encoding) -> Written:
        """As :func:`srbatch.codecs.encode.encode`; a crash or a time-out is a WrongOutput."""
        limit_s = encode_limit_s(encoding.height * encoding.width, self._timeout_s)
        try:
            return self._run(encode.encode, (raw, temp, encoding), limit_s, WrongOutput, makes=temp)
        except PhotoError:
            raise
        except BaseException:
            self._cut_off.append(temp)
            raise

    def _run(
        self,
        function: Callable[..., T],
        arguments: tuple[Any, ...],
        limit_s: float,
        failure: type[PhotoError],
        *,
        makes: Path | None = None,
    ) -> T:
        """Call a function in a worker, again if it was none of its doing that the workers ended.

        ``makes`` is a new file that it writes, of which a try that was cut off may have left a part.
        """
        for _ in range(_TRIES):
            try:
                return self._try(function, arguments, limit_s, failure)
            except BrokenProcessPool:
                self._processes.renew()
                if makes is not None:
                    discard(makes)
        raise SrbatchError("the codecs' processes end time and again; is something here killing them?")

    def _try(
        self,
        function: Callable[..., T],
        arguments: tuple[Any, ...],
        limit_s: float,
        failure: type[PhotoError],
    ) -> T:
        pool = self._processes.pool
        try:
            future = pool.schedule(function, args=arguments, timeout=limit_s)
        except RuntimeError as error:  # it broke a moment ago
            raise BrokenProcessPool from error
        try:
            while not await_any([future], timeout=_POLL_S).done:
                self._check()
                if not pool.active and not future.done():
                    raise BrokenProcessPool
            result: T = future.result()
            return result
        except BrokenProcessPool:
            raise
        except FutureTimeout as error:
            if error.errno == errno.ETIMEDOUT:  # a network share's, and not ours
                raise
            raise failure(
                f"its codec did not finish within {limit_s:.0f} s and was stopped; --codec-timeout gives more"
            ) from None
        except pebble.ProcessExpired as error:
            time.sleep(_POLL_S)  # a signal to our whole process group may have reached the worker first
            self._check()
            raise failure(
                f"its codec crashed (exit code {error.exitcode}), perhaps for want of memory: --codec-memory"
            ) from None
        except MemoryError:
            raise failure(_TOO_MUCH_MEMORY) from None
        except BaseException:
            future.cancel()  # kills the worker if it is still at it
            raise


class _Processes:
    """The worker processes, a new set of which takes the place of one that broke.

    The death of a single one breaks a set if none is at work just then; out of memory, the system may choose
    such a one.
    """

    def __init__(self, workers: int, memory_mb: int) -> None:
        self._workers, self._memory_mb = workers, memory_mb
        self._turn = threading.Lock()
        self._pool = self._made()

    @property
    def pool(self) -> pebble.ProcessPool:
        """One that is not known to be broken."""
        self.renew()
        return self._pool

    def renew(self) -> None:
        """Make new ones if they are broken, and see to it that none of the old ones goes on."""
        with self._turn, _signals_of_a_terminal_held_back():
            if not self._pool.active:  # which starts it where it is new
                log.warning("a codec's process was ended by something else; going on with new ones")
                self.end()
                self._pool = self._made()

    def end(self) -> None:
        """End them, whatever they are at."""
        self._pool.stop()
        self._pool.join()

    def _made(self) -> pebble.ProcessPool:
        return pebble.ProcessPool(
            max_workers=self._workers,
            # A fork would copy threads' locks and the GPU's state in whatever condition they are.
            context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._memory_mb,),
        )


@contextmanager
def _signals_of_a_terminal_held_back() -> Iterator[None]:
    """What is started within never gets a SIGINT or SIGHUP: a worker would die before it can ignore them.

    A terminal sends them to all processes of a run. This thread has them back afterwards; the run's main
    thread, which deals with them, mostly is another one.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # multiprocessing's tracker dies of it
    try:
        # As it is started, it lets SIGINT through again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _default_workers(memory_mb: int) -> int:
    """One for each core, as far as half of the memory holds what each may take."""
    return max(1, min(cores(), _MOST_WORKERS, total_memory() // 2 // (memory_mb << 20)))


def _probe_many(paths: list[Path], max_pixels: float, enough_s: float) -> list[Header | PhotoError]:
    """The headers of all, or of the first ones where they take longer: many slow ones are no hanging one."""
    end, found = time.monotonic() + enough_s, list[Header | PhotoError]()
    for path in paths:
        found.append(_probe_one(path, max_pixels))
        if time.monotonic() > end:
            break
    return found


def _probe_one(path: Path, max_pixels: float) -> Header | PhotoError:
    try:
        return picture.probe(path, max_pixels)
    except PhotoError as error:
        return error
    except MemoryError:
        return CodecFailed(_TOO_MUCH_MEMORY)
    except Exception as error:  # whatever it is, it must not cost the other photos
        return PhotoError(f"a bug in srbatch, please report it: {error!r}")


def _start_worker(memory_mb: int) -> None:
    """Leave signals to the main process, end with it, and take no more than the memory allowed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    # Data, not address space: mapped scratch files may be larger than any sensible limit. One that is lower
    # already, by whoever started us, can only be lowered further.
    _, highest = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_mb << 20 if highest == resource.RLIM_INFINITY else min(memory_mb << 20, highest)
    with contextlib.suppress(OSError, ValueError):  # some sandboxes refuse; photos are done without it there
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)

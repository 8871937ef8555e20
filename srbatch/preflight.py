"""Before the first photo is done: what there is to do, and whether it can be done at all."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

from srbatch.codecs.codec_pool import CodecPool
from srbatch.codecs.picture import Header
from srbatch.discovery.apart import marks_of_folders
from srbatch.discovery.found import Photo
from srbatch.errors import PhotoError, PhotoTooLarge
from srbatch.formats import Format
from srbatch.model import Model
from srbatch.options import MAX_FACTOR, Options
from srbatch.outputs.commit import unfit_folder
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.rows import Row
from srbatch.outputs.sidecars import Stamps
from srbatch.places import Mark, is_gone
from srbatch.recipe import recipe
from srbatch.reporting.outcome import Outcome
from srbatch.resume import Looks, Settled, Todo, judge, source_path, tried_with

_PROBE_AT_ONCE = 64
_RECORDED_AT_ONCE = 256


@dataclass(frozen=True)
class Settings:
    """What a run was asked for, and the model that it will be done with."""

    options: Options
    model: Model

    @cached_property
    def originals(self) -> set[Mark]:
        """The marks of the input folders."""
        return marks_of_folders(self.options.inputs)

    def recipe_of(self, photo: Photo) -> str:
        """What decides the output's pixels, beside the photo itself."""
        lossy = photo.format is not None and photo.format.lossy
        first = self.model.first.sha256 if self.model.first else None
        return recipe(self.options, self.model.sha256, lossy=lossy, first_sha256=first)


@dataclass(frozen=True, slots=True)
class Job:
    """A photo that is to be done and, by its header, can be."""

    photo: Photo
    todo: Todo
    header: Header
    format: Format
    """Of the output."""
    size: tuple[int, int]
    """(height, width) of the output, by the header."""

    @property
    def pixels(self) -> int:
        """Of the photo as it is: what progress is counted in."""
        return self.header.height * self.header.width

    @property
    def bits(self) -> int:
        """For each channel of the output: the photo's own, as far as the format goes."""
        return min(self.header.bits, self.format.bits)

    @property
    def factor(self) -> float:
        """Of the enlargement: the larger of the two sides', which rounding may part."""
        return factor_of(self.header, self.size)


@dataclass(frozen=True, slots=True)
class SidecarDue(Outcome):
    """What will be the outcome of a photo that was done before, once its sidecar has been carried again."""

    row: Row = field(kw_only=True)


def prepare(
    photos: list[Photo], settings: Settings, ledger: Ledger, codecs: CodecPool, check: Callable[[], None]
) -> Generator[Outcome | Job]:
    """Yield the outcome of each photo that is done or cannot be, and a job for each that is to be done.

    The outcome of one whose sidecar alone has changed is a :class:`SidecarDue`.

    Headers of all photos are read here, so that a size that a format cannot hold is known before the
    first photo is done and not after days.
    """
    waiting: list[tuple[Photo, Todo]] = []
    sidecars = Stamps(len(photos))
    with Recorder(settings, ledger) as recorder, _Headers(settings, recorder, codecs) as headers:
        for photo in photos:
            check()
            verdict = _verdict(photo, settings, ledger, codecs, sidecars)
            if isinstance(verdict, Todo):
                waiting.append((photo, verdict))
                if len(waiting) == _PROBE_AT_ONCE:
                    yield from headers.read(waiting)
                    waiting = []
            else:
                if verdict.refreshed:
                    recorder.add(verdict.refreshed)
                if verdict.sidecar_due:
                    recorder.write()  # as this row is going to be replaced
                    yield SidecarDue(photo, verdict.status, verdict.reason, row=verdict.sidecar_due)
                    continue
                outcome = Outcome(photo, verdict.status, verdict.reason, verdict.error)
                if verdict.status == "failed" and not verdict.on_record:
                    recorder.remember(outcome)
                yield outcome
        yield from headers.read(waiting)
        yield from headers.rest()


def _verdict(
    photo: Photo, settings: Settings, ledger: Ledger, codecs: CodecPool, sidecars: Stamps
) -> Todo | Settled:
    (row, failure), out = ledger.look_up(photo.relative.as_posix()), settings.options.out
    source = source_name(photo, out)
    looks = Looks(lambda: codecs.hash(photo.source), lambda: sidecars.of(photo.source))
    try:
        verdict = judge(photo, source, row, settings.recipe_of(photo), settings.options, looks, failure)
        # Now, and not after the work of a photo that nothing can come of.
        if isinstance(verdict, Todo) and (unfit := unfit_folder(photo.target.parent, out)):
            return Settled.failure(unfit)
        return verdict
    except PhotoError as error:
        return Settled.failure(error)


class Recorder:
    """Records rows in the ledger, many at once: each time it waits for the disk.

    A row that is lost, by a kill, costs no more than that the photo is judged again.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._rows: dict[str, Row] = {}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()

    def add(self, row: Row) -> None:
        """Record a row, now or soon."""
        self._rows[row.target] = row
        if len(self._rows) == _RECORDED_AT_ONCE:
            self.write()

    def remember(self, outcome: Outcome) -> None:
        """Record a photo that failed or needed no enlarging, now or soon; an output of it stays on record."""
        target = outcome.photo.relative.as_posix()
        row, failure = self._ledger.look_up(target)
        if outcome.status == "skipped" and row is not None and row.status == "done":
            if failure is not None:
                self.add(row)  # it has not failed any more
        elif news := _news(outcome, self._settings, self._rows.get(target) or failure or row):
            self.add(news)

    def write(self) -> None:
        """Record what was added."""
        if self._rows:
            self._ledger.record_all(self._rows.values())
            self._rows.clear()


class _Headers:
    """Reads the headers of many photos in all codec workers at once; what comes of them keeps its order."""

    def __init__(self, settings: Settings, recorder: Recorder, codecs: CodecPool) -> None:
        self._settings, self._recorder, self._codecs = settings, recorder, codecs
        self._pool = ThreadPoolExecutor(codecs.workers, "srbatch headers")  # they wait for the workers
        self._due: deque[tuple[list[tuple[Photo, Todo]], Future[list[Header | PhotoError]]]] = deque()

    def __enter__(self) -> _Headers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def read(self, waiting: list[tuple[Photo, Todo]]) -> Iterator[Outcome | Job]:
        """Begin with these; yield what has come of earlier ones where enough are being read."""
        if waiting:
            paths = [photo.source for photo, _ in waiting]
            future = self._pool.submit(self._codecs.probe, paths, self._settings.options.max_pixels)
            self._due.append((waiting, future))
        while len(self._due) > self._codecs.workers:
            yield from self._first()

    def rest(self) -> Iterator[Outcome | Job]:
        """Yield what has come of all the others."""
        while self._due:
            yield from self._first()

    def _first(self) -> Iterator[Outcome | Job]:
        waiting, future = self._due.popleft()
        for (photo, todo), header in zip(waiting, future.result(), strict=True):
            made = _job(photo, todo, header, self._settings)
            if isinstance(made, Outcome):
                self._recorder.remember(made)
            yield made


def _job(photo: Photo, todo: Todo, header: Header | PhotoError, settings: Settings) -> Job | Outcome:
    """A job, or the outcome of a photo that cannot be done or need not be enlarged."""
    try:
        if isinstance(header, PhotoError):
            raise header
        fmt = photo.format or header.format
        size = output_size(header, fmt, settings.options, settings.model.reach)
    except PhotoError as error:
        return Outcome.failure(photo, error)
    if size is None:
        reason = f"as large as {settings.options.size} already"
        return Outcome(photo, "skipped", reason, size_in=(header.height, header.width))
    return Job(photo, todo, header, fmt, size)


def output_size(
    header: Header, fmt: Format, options: Options, reach: int = MAX_FACTOR
) -> tuple[int, int] | None:
    """(height, width) of the output, or None for a photo that is as large as was asked already.

    Args:
        reach: the largest factor of the model.

    Raises:
        PhotoTooLarge: beyond the largest factor, or more than the format can hold.
    """
    size = options.size.of(header.height, header.width)
    if size is None:
        return None
    factor = factor_of(header, size)
    if factor > reach * (1 + 1 / max(header.height, header.width)):  # rounding of tiny photos
        raise PhotoTooLarge(
            f"{header.width} x {header.height} px would have to grow {factor:.3g} times; the most is {reach}"
            f"{f' with the model {options.model}' if reach < MAX_FACTOR else ''}"
        )
    if max(size) > fmt.max_side_px:
        raise PhotoTooLarge(
            f"the output would have {size[1]} x {size[0]} px and {fmt.value} holds {fmt.max_side_px} a side;"
            " use --format tiff or a smaller --scale"
        )
    return size


def factor_of(header: Header, size: tuple[int, int]) -> float:
    """How many times larger ``size`` (height, width) is than the photo, on the side where it is more."""
    return max(size[0] / header.height, size[1] / header.width)


def source_name(photo: Photo, out: os.PathLike[str]) -> str:
    """How the ledger names a source: as seen from the output folder, so that both can move together."""
    source = os.path.abspath(photo.source)
    try:
        return os.path.relpath(source, out).replace(os.sep, "/")
    except ValueError:  # another drive
        return source


def forget_vanished(ledger: Ledger, out: os.PathLike[str], folders: Iterable[os.PathLike[str]]) -> None:
    """Forget the failures of files below some folders that are there no more."""
    # The top of a drive ends in a separator already.
    below = tuple(os.path.abspath(folder).rstrip(os.sep) + os.sep for folder in folders)
    failed = ((row.target, source_path(row, out)) for row in ledger.failures())
    ledger.forget_failures(
        target for target, source in failed if os.fspath(source).startswith(below) and is_gone(source)
    )


def remember(outcome: Outcome, settings: Settings, ledger: Ledger) -> None:
    """Record a photo that failed."""
    if row := _news(outcome, settings, ledger.latest(outcome.photo.relative.as_posix())):
        ledger.record(row)


def _news(outcome: Outcome, settings: Settings, known: Row | None) -> Row | None:
    """The row of a photo that failed or needed no enlarging, if it says more than the latest on record."""
    photo = outcome.photo
    row = Row(
        target=photo.relative.as_posix(),
        status=outcome.status,
        source=source_name(photo, settings.options.out),
        size=photo.size,
        mtime_ns=photo.mtime_ns,
        sha256=None,
        recipe=settings.recipe_of(photo),
        error=outcome.error,
        reason=outcome.reason,
        finished=round(time.time(), 3),
        details=tried_with(settings.options) if outcome.status == "failed" else "{}",
    )
    return None if known and replace(known, finished=row.finished) == row else row

"""One photo through all steps, and a run over many, several of which are in hand at once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from srbatch.codecs.codec_pool import CodecPool
from srbatch.codecs.decisions import encoding_of, notes_on
from srbatch.codecs.encode import Encoding
from srbatch.codecs.picture import Picture
from srbatch.dates import set_dates
from srbatch.discovery.apart import among_originals
from srbatch.discovery.found import Photo
from srbatch.errors import (
    DeviceError,
    DeviceOutOfMemory,
    NoRoom,
    OutOfMemory,
    PhotoError,
    SrbatchError,
    TargetExists,
    WrongOutput,
)
from srbatch.metadata import carrying
from srbatch.metadata.provenance import SOFTWARE, Provenance, provenance_of
from srbatch.model import Model
from srbatch.names import show
from srbatch.options import Options
from srbatch.outputs.commit import (
    commit,
    destination_error,
    discard,
    make_folder,
    output_error,
    temp_path,
    unfit_folder,
)
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.permissions import permissions_of
from srbatch.outputs.rows import Row
from srbatch.outputs.scratch import PhotoScratch, Scratch
from srbatch.outputs.sidecars import (
    Sidecar,
    details_text,
    put_in_place,
    ready_path,
    sidecar_of,
    written_before,
)
from srbatch.overlap import Overlap
from srbatch.places import surroundings
from srbatch.preflight import Job, Recorder, Settings, SidecarDue, output_size, prepare, remember, source_name
from srbatch.reporting.estimate import Room, scratch_budget, scratch_bytes, space_of, too_little
from srbatch.reporting.outcome import Outcome, Summary
from srbatch.reporting.report import Reporter
from srbatch.sidecar_update import carry_again
from srbatch.upscaling.devices import Devices, Enlargement

log = logging.getLogger(__name__)

Check = Callable[[], None]
"""Called often, from several threads; raises ``Interrupted`` when the run shall stop."""


_BESIDE_CODECS = 2
"""Photos in hand beyond those that a codec works on: one in the device, and one ready for it."""


@dataclass(frozen=True)
class Run:
    """What the steps of all photos share."""

    settings: Settings
    codecs: CodecPool
    devices: Devices
    ledger: Ledger
    scratch: Scratch
    reporter: Reporter
    check: Check
    goes_on: Callable[[], bool] = lambda: True
    """Once false, no further photo is begun."""

    def checked_by(self, check: Check) -> Run:
        """The same run, with another check."""
        return replace(self, check=check, codecs=self.codecs.checked_by(check))

    @property
    def options(self) -> Options:
        """What the user chose."""
        return self.settings.options

    @property
    def model(self) -> Model:
        """The weights of the run."""
        return self.settings.model


def upscale_photo(job: Job, run: Run) -> Outcome:
    """Do one photo, from its file to the output's.

    Raises:
        PhotoError: it cannot be done; nothing of it is left behind.
        SrbatchError: the run cannot go on.
    """
    start = time.monotonic()
    run.reporter.started(job.photo, job.pixels)
    with run.scratch.for_photo() as scratch:
        picture = run.codecs.decode(job.photo.source, scratch.path(), run.options.max_pixels)
        size_in = (picture.header.height, picture.header.width)
        size = output_size(picture.header, job.format, run.options, run.model.reach) or size_in
        provenance = provenance_of(
            picture.sha256, size_in, size, job.format, run.options, run.model, lossless=picture.lossless
        )
        encoding = encoding_of(picture, job.format, size, quality=run.options.quality, provenance=provenance)
        sidecar = _sidecar(job, picture, encoding, provenance, run.ledger)
        notes = notes_on(job.photo.source, picture, encoding) + sidecar.notes
        raw, made_by = _infer(job, picture, encoding, scratch, run)
        details = {
            **_for_later_sidecars(picture, encoding, run.options),
            "seconds": round(time.monotonic() - start, 3),
            "notes": notes,
            **sidecar.details(),
            **made_by,
        }
        row, further = _write(raw, encoding, sidecar, job, _row(job, picture, run), details, run)
    return Outcome(
        job.photo,
        "done",
        seconds=time.monotonic() - start,
        size_in=size_in,
        size_out=size,
        bytes_out=row.target_size or 0,
        notes=notes + further,
    )


def _sidecar(
    job: Job, picture: Picture, encoding: Encoding, provenance: Provenance | None, ledger: Ledger
) -> Sidecar:
    """What shall lie beside the output: the photo's sidecar, corrected as the XMP within the photo is."""
    known = ledger.row(job.photo.relative.as_posix())
    return sidecar_of(
        job.photo.source,
        job.photo.target,
        written_before=written_before(ledger.details(known)) if known else None,
        corrected=partial(
            carrying.packet_for_output,
            picture.metadata,
            fmt=encoding.format,
            width=encoding.width,
            height=encoding.height,
            new_colours=picture.header.cmyk,
            provenance=provenance,
        ),
    ).of_new_output()


def _infer(
    job: Job, picture: Picture, encoding: Encoding, scratch: PhotoScratch, run: Run
) -> tuple[Path, dict[str, Any]]:
    """Enlarge the pixels into a raw file; returns it, and how it was made.

    Out of memory, the photo starts again with smaller tiles.
    """
    pixels, raw = picture.pixels()[:, :, : encoding.channels], scratch.path()
    size, done_px = (encoding.height, encoding.width), 0.0

    def tick(px: float) -> None:
        nonlocal done_px
        done_px += px
        run.reporter.progress(job.photo, px)
        run.check()

    while True:
        try:
            with (
                raw.open("wb") as file,
                run.devices.enlarge(
                    pixels, size, spool=scratch.spool(), tick=tick, bits=8 * encoding.sample_bytes
                ) as enlargement,
            ):
                written = sum(file.write(band.data) for band in enlargement.bands(run.check))
            break
        except OutOfMemory:
            run.reporter.progress(job.photo, -done_px)
            done_px = 0.0
        except BrokenPipeError:
            raise  # somebody does not listen to the reporter any more; no file says that
        except OSError as error:
            raise destination_error(error, raw) from error
    if written != encoding.height * encoding.width * encoding.channels * encoding.sample_bytes:
        raise WrongOutput("the network's result has not as many pixels as it should")
    return raw, _made_by(enlargement)


def _made_by(enlargement: Enlargement) -> dict[str, Any]:
    assert enlargement.taken_by is not None, "its bands have come"
    upscaler, tiles = enlargement.taken_by
    return {
        "device": str(upscaler.device),
        "engine": upscaler.engine,
        "precision": upscaler.precision,
        "tile": tiles.tile,
        "batch": tiles.batch,
    }


def _write(
    raw: Path,
    encoding: Encoding,
    sidecar: Sidecar,
    job: Job,
    row: Row,
    details: dict[str, Any],
    run: Run,
) -> tuple[Row, tuple[str, ...]]:
    """Encode beside the target, check, and put it in place; the ledger knows of it before and after.

    The sidecar waits beside it for the output to have its name: a photo that is not done after all, or not
    done again, keeps the sidecar it has. Cut off between the two, it is put in place as the next run begins.

    Returns the row, with the details as they are then, and notes on the sidecar.
    """
    target = job.photo.target
    _check_apart(target.parent, run)
    make_folder(target.parent, explained=partial(_folder_error, out=run.options.out))
    temp = temp_path(target)
    mode = permissions_of(job.photo.source) if run.options.keep_permissions else None
    run.ledger.begin(row.target, os.path.relpath(temp, run.options.out))
    committing = False
    try:
        row = _encoded(raw, temp, mode, encoding, target, row, run)
        run.check()
        details = {**details, **sidecar.make_ready(temp, mode)}
        job.todo.check_still_ours(job.photo)
        run.ledger.about_to_commit(replace(row, details=details_text(details)))
        committing = True
        commit(temp, target, replace=job.todo.replace)
    except BaseException as error:
        discard(temp)
        # Cut off in the commit, the output may have its name; the next run tells by the hash in the note.
        if not committing or isinstance(error, PhotoError):
            discard(ready_path(temp))
            run.ledger.drop(row.target)
        raise
    details, notes = put_in_place(details, target, temp)
    row = replace(row, details=details_text({**details, "notes": (*details["notes"], *notes)}))
    run.ledger.record(row)
    return row, notes


def _folder_error(error: OSError, folder: Path, out: Path) -> SrbatchError:
    return unfit_folder(folder, out) or output_error(error, folder)


def _check_apart(folder: Path, run: Run) -> None:
    """A link may have been made since the photos were found, which can be days ago."""
    originals = run.settings.originals
    if originals and not originals.isdisjoint(surroundings(folder)):
        raise TargetExists(among_originals(folder))


def _encoded(
    raw: Path, temp: Path, mode: int | None, encoding: Encoding, target: Path, row: Row, run: Run
) -> Row:
    """Write the temporary file, with the permissions ``mode``; returns the row with its size and hash."""
    try:
        written = run.codecs.encode(raw, temp, replace(encoding, private=mode is not None))
        if not set_dates(temp, accessed_ns=time.time_ns(), modified_ns=row.mtime_ns):
            log.warning("%s is dated today: its disk does not take the date of its photo", show(target))
        if mode is not None:
            temp.chmod(mode)
    except OSError as error:
        raise output_error(error, target) from error
    return replace(
        row, target_size=written.size, target_sha256=written.sha256, finished=round(time.time(), 3)
    )


def _row(job: Job, picture: Picture, run: Run) -> Row:
    """The row of a photo done, but for its details and what is known once its output is written."""
    return Row(
        target=job.photo.relative.as_posix(),
        status="done",
        source=source_name(job.photo, run.options.out),
        size=picture.size,
        mtime_ns=picture.mtime_ns,
        sha256=picture.sha256,
        recipe=run.settings.recipe_of(job.photo),
    )


def _for_later_sidecars(picture: Picture, encoding: Encoding, options: Options) -> dict[str, Any]:
    """Details by which a sidecar is corrected later as it was for this output."""
    return {
        "size_in": [picture.header.height, picture.header.width],
        "size_out": [encoding.height, encoding.width],
        "software": SOFTWARE,
        "provenance": options.provenance,
        "lossless": picture.lossless,
        "new_colours": picture.header.cmyk,
    }


# ---- a run over many -----------------------------------------------------------------------------

Finish = Callable[[Outcome], None]
"""Counts and reports how a photo ended."""


def run_all(run: Run, photos: list[Photo], summary: Summary) -> None:
    """Do every photo that needs doing; each ends as exactly one outcome, reported and remembered.

    While one photo is in the device, others are read and written. The outputs do not depend on it.

    Raises:
        SrbatchError: the run cannot go on; what was done before is kept and known.
    """

    def finish(outcome: Outcome) -> None:
        summary.add(outcome)
        run.reporter.finished(outcome)

    if jobs := _with_room(_prepared(photos, run, finish), run, finish):
        _do(jobs, run, finish)


def _prepared(photos: list[Photo], run: Run, finish: Finish) -> list[Job]:
    """What there is to do; photos that are done or cannot be end here, sidecars are carried."""
    jobs: list[Job] = []
    with closing(prepare(photos, run.settings, run.ledger, run.codecs, run.check)) as all_prepared:
        for prepared in all_prepared:
            if isinstance(prepared, Job):
                jobs.append(prepared)
            elif isinstance(prepared, SidecarDue):
                finish(_outcome_of(prepared.photo, partial(carry_again, prepared, run), run))
            else:
                finish(prepared)
    return jobs


def _with_room(jobs: list[Job], run: Run, finish: Finish) -> list[Job]:
    """The photos that there is room for on the disks; the others fail here."""
    if not jobs:
        return []
    room = Room(run.options.out, run.scratch.folder, passes=run.model.passes)
    jobs, without_room = _parted_by_room(jobs, room)
    with Recorder(run.settings, run.ledger) as recorder:
        for job, why in without_room:
            recorder.remember(outcome := Outcome.failure(job.photo, NoRoom(why)))
            finish(outcome)
    return jobs


def _do(jobs: list[Job], run: Run, finish: Finish) -> None:
    at_once, scratch, passes = photos_at_once(run.codecs), run.scratch.folder, run.model.passes
    space = space_of(jobs, run.options.out, scratch, at_once=at_once, passes=passes)
    if not space.fits:
        log.warning("%s", too_little(space))
    run.reporter.begin(len(jobs), sum(job.pixels for job in jobs))
    overlap = Overlap(
        lambda job, check: _outcome_of(job.photo, partial(upscale_photo, job, run.checked_by(check)), run),
        at_once=at_once,
        cost=partial(scratch_bytes, passes=passes),
        budget=scratch_budget(scratch),
        check=run.check,
        goes_on=run.goes_on,
    )
    out_of_memory = 0
    with closing(overlap.results(jobs)) as outcomes:
        for outcome in outcomes:
            out_of_memory += outcome.error == DeviceOutOfMemory.__name__
            finish(outcome)
    if out_of_memory == len(jobs):
        raise DeviceError(
            "no photo fits into the device's memory, even in the smallest tiles; use --device cpu"
        )


def _parted_by_room(jobs: list[Job], room: Room) -> tuple[list[Job], list[tuple[Job, str]]]:
    """(those to be begun, those that would fill the disk and cost the others their turn, and why).

    Where none has room, the disk is full, and not one photo too large: then they are begun, and the run ends
    when the disk says so. But for those that no emptier disk of its size could hold.
    """
    reasons = [room.lacking(job) for job in jobs]
    if all(reasons):
        reasons = [why if room.can_never_hold(job) else None for job, why in zip(jobs, reasons, strict=True)]
    parted = list(zip(jobs, reasons, strict=True))
    return [job for job, why in parted if why is None], [(job, why) for job, why in parted if why is not None]


def photos_at_once(codecs: CodecPool) -> int:
    """How many photos are in hand at once, if scratch space allows."""
    return codecs.workers + _BESIDE_CODECS


def _outcome_of(photo: Photo, work: Callable[[], Outcome], run: Run) -> Outcome:
    """Where the failure of a photo in hand is caught."""
    start = time.monotonic()
    try:
        return work()
    except PhotoError as error:
        outcome = Outcome.failure(photo, error)
    except (SrbatchError, BrokenPipeError):
        raise
    except Exception as error:
        log.exception("a bug in srbatch, please report it: %s", show(photo.source))
        outcome = Outcome(photo, "failed", f"a bug: {error!r}", type(error).__name__)
    outcome = replace(outcome, seconds=time.monotonic() - start)
    remember(outcome, run.settings, run.ledger)
    return outcome

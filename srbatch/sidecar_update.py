"""A sidecar that was edited, added or removed after its photo was done: it alone is carried again."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from srbatch.discovery.found import Photo
from srbatch.metadata import carrying
from srbatch.metadata.provenance import SOFTWARE, Provenance, provenance_of
from srbatch.outputs.commit import discard, temp_path, unfit_folder
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.permissions import permissions_of
from srbatch.outputs.rows import Row
from srbatch.outputs.sidecars import (
    Sidecar,
    details_text,
    orphan_left,
    put_in_place,
    ready_path,
    sidecar_of,
    written_before,
)
from srbatch.preflight import SidecarDue
from srbatch.reporting.outcome import Outcome
from srbatch.resume import CURRENT, SIDECAR_LEFT

if TYPE_CHECKING:
    from srbatch.batch import Run


def carry_again(due: SidecarDue, run: Run) -> Outcome:
    """Correct the photo's sidecar and write it beside the output, which stays as it is.

    Raises:
        PhotoError: the photo, by which the sidecar is corrected, cannot be read, or the folder is closed.
        LedgerError: the details of its row are damaged.
        SrbatchError: the run cannot go on.
    """
    photo, row, details = due.photo, due.row, run.ledger.details(due.row)

    def corrected(packet: bytes) -> tuple[bytes | None, tuple[str, ...]]:
        height, width = _size(run.ledger, details, "size_out")
        meta = run.codecs.metadata(photo.source)
        provenance = _provenance(photo, row, details, run)
        assert photo.format is not None, "it was done"
        return carrying.packet_for_output(
            meta,
            packet,
            photo.format,
            width=width,
            height=height,
            new_colours=details.get("new_colours", False),
            provenance=provenance,
        )

    sidecar = sidecar_of(
        photo.source, photo.target, written_before=written_before(details), corrected=corrected
    )
    details |= sidecar.details()
    notes, reason = sidecar.notes, CURRENT
    if sidecar.is_due():
        details, further = _write(sidecar, photo, row, details, run)
        notes += further
        reason = SIDECAR_LEFT if further else due.reason
    elif sidecar.is_orphan():
        notes += (orphan_left(sidecar.path),)
    if notes and sidecar.data is None:
        reason = SIDECAR_LEFT
    run.ledger.record(replace(row, details=details_text(details)))
    return Outcome(photo, "skipped", reason, notes=notes)


def _provenance(photo: Photo, row: Row, details: dict[str, Any], run: Run) -> Provenance | None:
    """What the output itself declares, also where an earlier srbatch made it."""
    assert photo.format is not None, "it was done"
    assert row.sha256 is not None, "it was done"
    options = replace(run.options, provenance=details.get("provenance", run.options.provenance))
    made = provenance_of(
        row.sha256,
        _size(run.ledger, details, "size_in"),
        _size(run.ledger, details, "size_out"),
        photo.format,
        options,
        run.model,
        lossless=details.get("lossless", False),
    )
    match details.get("software", SOFTWARE):
        case str(software):
            return made and replace(made, software=software)
        case other:
            raise run.ledger.damaged(other)


def _size(ledger: Ledger, details: dict[str, Any], key: str) -> tuple[int, int]:
    match details.get(key):
        case [int(height), int(width)]:
            return height, width
        case other:
            raise ledger.damaged(other)


def _write(
    sidecar: Sidecar, photo: Photo, row: Row, details: dict[str, Any], run: Run
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Put it in place; returns the details of the row from then on, and notes. Cut off, it is put right."""
    if unfit := unfit_folder(photo.target.parent, run.options.out):
        raise unfit
    temp = temp_path(photo.target)
    mode = permissions_of(photo.source) if run.options.keep_permissions else None
    run.ledger.begin(row.target, os.path.relpath(temp, run.options.out))
    try:
        details = {**details, **sidecar.make_ready(temp, mode)}
        run.ledger.about_to_commit(replace(row, details=details_text(details)))
    except BaseException:
        discard(ready_path(temp))
        run.ledger.drop(row.target)
        raise
    return put_in_place(details, photo.target, temp)

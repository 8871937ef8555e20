"""A sidecar that was edited, added or removed after its photo was done: it alone is carried again."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from srbatch import metadata
from srbatch.commit import discard, temp_path, unfit_folder
from srbatch.discover import Photo
from srbatch.errors import TargetExists
from srbatch.ledger import Ledger, Row
from srbatch.names import show
from srbatch.permissions import permissions_of
from srbatch.preflight import SidecarDue
from srbatch.provenance import Provenance, provenance_of
from srbatch.report import Outcome
from srbatch.resume import CURRENT, SIDECAR_LEFT
from srbatch.sidecars import Sidecar, details_text, sidecar_of, written_before

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
        return metadata.packet_for_output(
            meta, packet, photo.format, width=width, height=height, provenance=provenance
        )

    sidecar = sidecar_of(
        photo.source, photo.target, written_before=written_before(details), corrected=corrected
    )
    done = replace(row, details=details_text({**details, **sidecar.details()}))
    notes, reason = sidecar.notes, CURRENT
    if sidecar.is_due():
        try:
            _write(sidecar, photo, row, run)
            reason = due.reason
        except TargetExists as error:
            return replace(_skipped(photo, SIDECAR_LEFT), notes=(*notes, str(error)))
    elif sidecar.is_orphan():
        notes = (*notes, f"its sidecar is gone; {show(sidecar.path.name)} beside the output was left")
    if notes and sidecar.data is None:
        reason = SIDECAR_LEFT
    run.ledger.record(done)
    return replace(_skipped(photo, reason), notes=notes)


def _skipped(photo: Photo, reason: str) -> Outcome:
    return Outcome(photo, "skipped", reason)


def _provenance(photo: Photo, row: Row, details: dict[str, Any], run: Run) -> Provenance | None:
    """What the output itself declares, also where an earlier srbatch made it."""
    assert photo.format is not None, "it was done"
    assert row.sha256 is not None, "it was done"
    options = replace(run.options, provenance=details.get("provenance", run.options.provenance))
    lossless = details.get("lossless", False)
    made = provenance_of(
        row.sha256,
        _size(run.ledger, details, "size_in"),
        _size(run.ledger, details, "size_out"),
        photo.format,
        options,
        run.model,
        lossless=lossless,
    )
    return made and replace(made, software=details.get("software", made.software))


def _size(ledger: Ledger, details: dict[str, Any], key: str) -> tuple[int, int]:
    match details.get(key):
        case [int(height), int(width)]:
            return height, width
        case other:
            raise ledger.damaged(other)


def _write(sidecar: Sidecar, photo: Photo, row: Row, run: Run) -> None:
    """Put it in place. Cut off, the next run finds the old row, which knows it for our own all the same."""
    if unfit := unfit_folder(photo.target.parent, run.options.out):
        raise unfit
    temp = temp_path(photo.target)
    mode = permissions_of(photo.source) if run.options.keep_permissions else None
    details = {**run.ledger.details(row), "sidecar_coming": sidecar.sha256}
    coming = replace(row, details=details_text(details))
    run.ledger.begin(row.target, os.path.relpath(temp, run.options.out), coming)
    try:
        sidecar.write(temp, mode)
    except BaseException:
        discard(temp)
        run.ledger.drop(row.target)
        raise

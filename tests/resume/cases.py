"""A photo with what is on record of it and what lies in its place, and what is made of that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from srbatch.discovery.found import Photo
from srbatch.formats import Format
from srbatch.options import Options
from srbatch.outputs.rows import Row
from srbatch.outputs.sidecars import Stamp
from srbatch.resume import CURRENT, OTHER_SETTINGS, Looks, Settled, Todo, judge, tried_with

SOURCE, RECIPE = "../photos/a.jpg", "the recipe"
MOVED, NEW = "../moved/a.jpg", "another recipe"
HASH, OTHER_HASH = "aa" * 32, "bb" * 32
SIZE, MTIME_NS = 1000, 1_700_000_000_000_000_000
OUTPUT = b"the output as it was written"
OUTPUT_HASH = hashlib.sha256(OUTPUT).hexdigest()
TOO_LARGE = "as large as x4 already"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is on record, what lies there, and what was asked."""

    row: str | None = "done"
    """done, skipped, failed (of a kind that is remembered), or failed for now."""
    target: str | None = "ours"
    """ours, edited, or not there."""
    photo: str = "same"
    """same, touched (another date, the same content), changed (another date and content), or crept (the
    same date, another content)."""
    source: str = SOURCE
    recipe: str = RECIPE
    flags: str = ""

    @property
    def date_differs(self) -> bool:
        return self.photo in ("touched", "changed")

    @property
    def content_differs(self) -> bool:
        return self.photo in ("changed", "crept")

    def known(self) -> Row | None:
        if self.row is None:
            return None
        row = Row(
            target="a.jpg",
            status="failed" if self.row == "failed for now" else self.row,
            source=SOURCE,
            size=SIZE,
            mtime_ns=MTIME_NS,
            sha256=None,
            recipe=RECIPE,
        )
        if self.row == "done":
            return replace(row, sha256=HASH, target_size=len(OUTPUT), target_sha256=OUTPUT_HASH)
        if self.row == "skipped":
            return replace(row, reason=TOO_LARGE)
        error = "UnreadablePhoto" if self.row == "failed" else "PhotoChanged"
        within = tried_with(Options(inputs=(Path(),), out=Path()))
        return replace(row, error=error, reason="it is damaged", details=within)


@dataclass
class Judged:
    """What ``judge`` said, in a word, and how often it read the photo."""

    verdict: Todo | Settled
    reads: int

    @property
    def word(self) -> str:
        verdict = self.verdict
        if isinstance(verdict, Todo):
            return "replace" if verdict.replace else "make"
        if verdict.status == "skipped":
            return {CURRENT: "current", OTHER_SETTINGS: "other settings"}.get(verdict.reason, verdict.reason)
        return "failed as before" if "as before" in verdict.reason else str(verdict.error)


def looks(sha256: Callable[[], str], sidecar: Stamp | None = None) -> Looks:
    return Looks(sha256, lambda: sidecar)


def judged(case: Case, folder: Path, failure: Row | None = None) -> Judged:
    target = folder / "a.jpg"
    target.unlink(missing_ok=True)
    if case.target is not None:
        target.write_bytes(OUTPUT if case.target == "ours" else b"edited")
    mtime_ns = MTIME_NS + case.date_differs
    photo = Photo(folder / case.source, Path("a.jpg"), target, Format.JPEG, SIZE, mtime_ns)
    flags = dict.fromkeys(case.flags.split(), True)
    options = Options(inputs=(folder,), out=folder, **flags)  # type: ignore[arg-type]
    reads = 0

    def hash_source() -> str:
        nonlocal reads
        reads += 1
        return OTHER_HASH if case.content_differs else HASH

    verdict = judge(photo, case.source, case.known(), case.recipe, options, looks(hash_source), failure)
    return Judged(verdict, reads)

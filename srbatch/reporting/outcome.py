"""How a photo ended, and a whole run: for programs as records, for people as lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from srbatch.discovery.found import Photo
from srbatch.errors import ExitCode, PhotoError, one_line
from srbatch.names import as_text, show

_MANY_FAILURES = 20

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one photo ended. Every photo of a run has exactly one."""

    photo: Photo
    status: Status
    reason: str = ""
    error: str | None = None
    """The class of a failure."""
    seconds: float = 0.0
    size_in: tuple[int, int] | None = None
    """(height, width) of the photo, where it was read."""
    size_out: tuple[int, int] | None = None
    bytes_out: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def failure(cls, photo: Photo, error: PhotoError) -> Outcome:
        """Of a photo that cannot be done."""
        return cls(photo, "failed", str(error), type(error).__name__)

    def as_record(self) -> dict[str, Any]:
        """For JSON and CSV."""
        height_in, width_in = self.size_in or (None, None)
        height_out, width_out = self.size_out or (None, None)
        return {
            "source": as_text(self.photo.source),
            "target": as_text(self.photo.target),
            "status": self.status,
            "reason": self.reason,
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "width_in": width_in,
            "height_in": height_in,
            "width_out": width_out,
            "height_out": height_out,
            "bytes_out": self.bytes_out,
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class Summary:
    """The run as a whole."""

    counts: Counter[str] = field(default_factory=Counter)
    """Photos by status."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Skipped photos by reason."""
    failures: list[Outcome] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that were passed over, by reason."""
    unreadable_folders: list[tuple[Path, str]] = field(default_factory=list)
    noted: int = 0
    """Photos done with something to note."""
    megapixels: float = 0.0
    """Of the photos done, as they were."""
    megapixels_out: float = 0.0
    seconds: float = 0.0
    photos: int | None = None
    """How many were found, once that is known."""
    dry: bool = False
    """Whether it was only looked at what would be done."""

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.counts[outcome.status] += 1
        if outcome.status == "failed":
            self.failures.append(outcome)
        elif outcome.status == "skipped":
            self.skipped[outcome.reason] += 1
        else:
            self.noted += bool(outcome.notes)
            self.megapixels += _megapixels(outcome.size_in)
            self.megapixels_out += _megapixels(outcome.size_out)

    @property
    def exit_code(self) -> ExitCode:
        """3 where a photo failed or a folder could not be listed."""
        return ExitCode.SOME_FAILED if self.failures or self.unreadable_folders else ExitCode.DONE


def _megapixels(size: tuple[int, int] | None) -> float:
    return size[0] * size[1] / 1e6 if size else 0.0


def outcome_line(outcome: Outcome) -> str:
    """One photo's end in one line, and a line below it for each note."""
    photo = outcome.photo
    name = show(photo.relative if outcome.status == "done" else photo.called)
    if outcome.status == "done" and outcome.size_in and outcome.size_out:
        (height, width), (tall, wide) = outcome.size_in, outcome.size_out
        line = f"done     {name}  {width} x {height} -> {wide} x {tall}, {outcome.seconds:.1f} s"
    else:
        line = f"{outcome.status:8} {name}: {one_line(outcome.reason)}"
    return line + "".join(f"\n         note: {one_line(note)}" for note in outcome.notes)


def summary_lines(summary: Summary) -> list[str]:
    """The end of a run for people: counts, why photos were skipped, and every failure with its reason."""
    counts = summary.counts
    lines = [
        f"{counts['done']} done, {counts['skipped']} skipped, {counts['failed']} failed"
        f" in {duration(summary.seconds)}"
    ]
    if summary.dry:
        lines = [
            f"a dry run, of {duration(summary.seconds)}: {counts['skipped']} would be skipped,"
            f" {counts['failed']} would fail"
        ]
    if summary.photos == 0:
        lines.append("  no photo was found in what was named")
    if summary.megapixels_out:
        lines[0] += f": {summary.megapixels:.1f} megapixels became {summary.megapixels_out:.1f}"
    lines += [f"  {count:6} skipped: {one_line(reason)}" for reason, count in summary.skipped.most_common()]
    lines += [f"  {count:6} ignored: {reason}" for reason, count in summary.ignored.most_common()]
    if summary.noted:
        lines.append(f"  {summary.noted:6} done with a note: see above, or the report")
    lines += [f"  folder {show(path)} could not be listed: {why}" for path, why in summary.unreadable_folders]
    shown = summary.failures[:_MANY_FAILURES]
    lines += [f"  failed {show(outcome.photo.source)}: {one_line(outcome.reason)}" for outcome in shown]
    if len(summary.failures) > len(shown):
        lines.append(
            f"  and {len(summary.failures) - len(shown)} more: `srbatch status OUT` lists all of them"
        )
    return lines


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as people write them.

    >>> duration(7), duration(75), duration(3725)
    ('7 s', '1 min 15 s', '1 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"

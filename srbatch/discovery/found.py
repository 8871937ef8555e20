"""The photos of a run, as they are found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from srbatch.errors import PhotoError
from srbatch.formats import Format


@dataclass(frozen=True, slots=True)
class Photo:
    """A file to upscale and where the result goes."""

    source: Path
    relative: Path
    """Of the target within the output folder."""
    target: Path
    format: Format | None
    """Of the target by its name; None where the source's kind of picture is not supported."""
    size: int
    """Of the source file in bytes, when it was found."""
    mtime_ns: int
    problem: PhotoError | None = None
    """Why it cannot be done, where that is known before it is opened."""

    @property
    def called(self) -> Path:
        """Where it lies below its input, for people; its target may have another name."""
        return self.relative.with_name(self.source.name)


@dataclass(slots=True)
class Found:
    """The photos of a run in the order in which they are done, and what was passed over."""

    photos: list[Photo] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """Files passed over, by the reason in the words of the summary."""
    unreadable_folders: list[tuple[Path, str]] = field(default_factory=list)
    """Folders that were not gone into, each with the reason."""

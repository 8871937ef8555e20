"""What a watcher says of itself, in a small file in the state folder."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import psutil

from srbatch.errors import one_line

FILE = "watch.json"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
"""As people read it, in the time of their place."""


def local_time(seconds: float) -> str:
    """Seconds since 1970 for people; of a number that is no time, that."""
    try:
        return time.strftime(TIME_FORMAT, time.localtime(seconds))
    except (OSError, OverflowError, ValueError):
        return f"{seconds:g} s"


@dataclass(slots=True)
class Snapshot:
    """What the file says."""

    host: str
    pid: int
    begun: float
    """When the process began, in seconds since 1970, by which it is told from a later one of its number."""
    folder: str
    state: str
    """For people: idle, at work, or what it waits for."""
    written: float = 0.0
    queue: int = 0
    """Photos that stand still and are to be done."""
    unsettled: int = 0
    """Photos that are still being written."""
    in_hand: list[str] = field(default_factory=list)
    done: int = 0
    """Since the process began, as the next two."""
    failed: int = 0
    megapixels: float = 0.0
    rate: float = 0.0
    """Megapixels a second, over the latest photos."""
    errors: list[tuple[float, str, str]] = field(default_factory=list)
    """The latest failures: (seconds since 1970, photo, reason)."""

    @property
    def alive(self) -> bool | None:
        """Whether the process runs; None where it runs on another machine, if at all."""
        if self.host != socket.gethostname():
            return None
        try:
            begun: float = psutil.Process(self.pid).create_time()
        except (psutil.Error, ValueError):  # ValueError: there is no such number
            return False
        return abs(begun - self.begun) < 2

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        errors = [{"time": t, "source": source, "reason": reason} for t, source, reason in self.errors]
        return {**asdict(self), "errors": errors, "alive": self.alive}

    @property
    def headline(self) -> str:
        """For people: who watches what, and what it is at."""
        who = f"process {self.pid} on {self.host}"
        if self.alive is False:
            return f"nothing watches {self.folder}: {who} has ended ({self.state})"
        as_of = local_time(self.written)
        since = "" if self.alive else f", by its word of {as_of}"
        return f"watching {self.folder}: {self.state} ({who}{since})"

    @property
    def numbers(self) -> str:
        """For people: the queue and what was done."""
        rate = f", {self.rate:.2f} megapixels/s" if self.rate else ""
        return (
            f"{self.queue} waiting, {self.unsettled} still being written;"
            f" {self.done} done and {self.failed} failed since its start{rate}"
        )


def read(state: Path) -> Snapshot | None:
    """The latest snapshot in a state folder; None where no watcher ever wrote one that can be read."""
    try:
        found = json.loads((state / FILE).read_text(encoding="utf-8"))
        errors = [
            (_as(float, t), _as(str, source), _as(str, reason)) for t, source, reason in found["errors"]
        ]
        in_hand = [_as(str, name) for name in found["in_hand"]]
        others = {key: _as(_KINDS[key], value) for key, value in found.items() if key not in _LISTS}
        return Snapshot(**others, errors=errors, in_hand=in_hand)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


_KINDS = get_type_hints(Snapshot)
_LISTS = ("errors", "in_hand")


def _as(kind: type, value: Any) -> Any:
    """A value of the file, of text one line; raises TypeError where it is of another kind."""
    if not isinstance(value, (int, float) if kind is float else kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return one_line(value) if isinstance(value, str) else value

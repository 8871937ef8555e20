"""The memory and the processor cores that this process may have: those of the machine, or of its container.

A container, a service and a job of a batch system are control groups: with more memory than theirs the kernel
kills them, whatever the machine has (Linux' admin guide: cgroup-v2, and cgroup-v1/memory and sched-bwc).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath

import psutil

_ROOT = Path("/")
_UNLIMITED = 1 << 60  # version 1 has no word for it, but a number of that kind


@dataclass(frozen=True, slots=True)
class _Names:
    """The files of one version of control groups."""

    limit: str
    used: str
    cache: str
    """The entry of ``memory.stat`` that counts what the kernel gives up when memory is short."""


_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Names("memory.max", "memory.current", "inactive_file")


def available_memory(root: Path = _ROOT) -> int:
    """Bytes that nobody uses now and that this process may take; ``/proc`` and ``/sys`` lie in ``root``."""
    free = [int(psutil.virtual_memory().available)]
    for group, names in _memory_groups(root):
        limit, used = _number(group / names.limit), _number(group / names.used)
        if limit is not None and used is not None and limit < _UNLIMITED:
            free.append(limit - used + _cached(group, names))
    return max(0, min(free))


def total_memory(root: Path = _ROOT) -> int:
    """Bytes that this process and those beside it may have together."""
    limits = [_number(group / names.limit) for group, names in _memory_groups(root)]
    return min([int(psutil.virtual_memory().total), *(limit for limit in limits if limit is not None)])


def cores(root: Path = _ROOT) -> int:
    """Processor cores that this process may keep busy; a part of one counts as one."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [quota / period for quota, period in _quotas(root) if quota > 0 and period > 0]
    return max(1, min([there, *(ceil(share) for share in shares)]))


def _memory_groups(root: Path) -> Iterator[tuple[Path, _Names]]:
    yield from ((group, _V1) for group in _groups(root, "memory"))
    yield from ((group, _V2) for group in _groups(root, ""))


def _quotas(root: Path) -> Iterator[tuple[int, int]]:
    """(microseconds that may be used, of how many)."""
    for group in _groups(root, "cpu"):
        quota, period = (_number(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota is not None and period is not None:
            yield quota, period
    for group in _groups(root, ""):
        words = _text(group / "cpu.max").split()
        if len(words) == 2 and all(word.isdecimal() for word in words):
            yield int(words[0]), int(words[1])


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and of those around it; version 2 has no names of controllers.

    Within a container that does not see its own path, the group is the topmost folder.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and path.startswith("/"):
            top = root / "sys/fs/cgroup" / controllers
            within = PurePosixPath(path.lstrip("/"))
            yield from (top / part for part in (within, *within.parents))


def _cached(group: Path, names: _Names) -> int:
    for line in _text(group / "memory.stat").splitlines():
        name, _, number = line.partition(" ")
        if name == names.cache and number.isdecimal():
            return int(number)
    return 0


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, as of a group without a limit."""
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""

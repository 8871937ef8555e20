"""The lock of a state folder: one run at a time, and who has it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from srbatch.errors import LedgerError
from srbatch.names import show
from srbatch.outputs.commit import held, held_by_reading
from srbatch.outputs.ledger import Ledger


@contextmanager
def locked(state: Path, out: Path | None = None, *, by_reading: bool = False) -> Iterator[None]:
    """Hold the state folder of ``out`` for one run; the system lets go of it whenever the process ends.

    Raises:
        LockedError: another run has it; the message names its host and process.
        DestinationError: the folder cannot be made.
        OSError: ``by_reading``, as :func:`srbatch.outputs.commit.held_by_reading`.
    """
    hold = held_by_reading if by_reading else held
    with hold(state, lambda: _who_holds(state, out or state.parent)):
        yield


def _who_holds(state: Path, out: Path) -> str:
    try:
        with closing(Ledger.open_readonly(state)) as ledger:
            holder = ledger.last_run()
    except LedgerError:
        holder = None
    # The ledger may be that of an earlier run, where the one that holds the folder has another --state.
    ended = holder and holder[0] == socket.gethostname() and not _is_running(holder[1])
    who = f"process {holder[1]} on {holder[0]}" if holder and not ended else "another process"
    return f"{show(out)} is being written to by {who}; wait for it to end, or choose another --out"


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.pid_exists(pid))
    except OverflowError:
        return False

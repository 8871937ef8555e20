"""What can be wrong with a ledger, in words that say what to do about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from srbatch.errors import LedgerError, UnfitRow
from srbatch.names import show
from srbatch.outputs.commit import MAKE_ROOM, is_full

_START_AFRESH = (
    "move the ledger away to start afresh (existing outputs are then not overwritten unless asked)"
)
_UNFIT = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    TypeError,
    UnicodeEncodeError,
)
"""What a value raises that is too large, of another kind than SQLite's, or no text."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours: all of them end the run."""
    try:
        yield
    except _UNFIT as error:
        raise UnfitRow(f"the ledger cannot hold what it was given: {error}") from error
    except sqlite3.Error as error:
        raise LedgerError(f"{show(path)}: the ledger cannot be used: {error}; {_advice(error)}") from error


def damaged(path: Path, value: object) -> LedgerError:
    """The error where a value in the ledger at ``path`` is not what srbatch writes there."""
    return LedgerError(f"{show(path)}: the ledger is damaged: it holds {repr(value)[:80]}; {_START_AFRESH}")


def _advice(error: sqlite3.Error) -> str:
    """What to do about it. A ledger that is whole is not to be moved away: its outputs would be strangers."""
    if is_full(error):
        return MAKE_ROOM
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return (
            "you may not write to it or to its folder, or that was moved or removed during the run;"
            " see to that and run the same command again: what is finished is kept"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another program has it open (a backup, or one that shows databases); end that, and run again"
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL):
        return "see to the disk, and run the same command again: what is finished is kept"
    return f"see to the disk, or {_START_AFRESH}"

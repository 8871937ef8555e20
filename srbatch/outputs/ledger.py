"""What was done, from which bytes, with which settings: an SQLite file beside the outputs.

``photos`` holds the last outcome of each target; a failure of a photo whose output is on record leaves that
as it is and is held by ``failures``. ``pending`` holds those being written right now, ``runs`` each
command. Paths are relative to the output folder and stored as the bytes of the file system, so
the tree can be moved and any name works. The rollback journal is used because write-ahead logging
does not work on network shares. Each note is on the disk when the method that takes it returns.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srbatch import __version__
from srbatch.errors import LedgerError, UnfitRow, one_line
from srbatch.names import show
from srbatch.outputs.group_commit import GroupCommit
from srbatch.outputs.ledger_errors import damaged, explained
from srbatch.outputs.rows import COLUMNS, PATHS, TABLE, Row, misfits, to_json

STATE_FOLDER = ".srbatch"
_FILE = "ledger.sqlite"
_SCHEMA_VERSION = 1
_COLUMNS = ",".join(COLUMNS)
# A ledger may be older than these.
_FAILURES = f"""
CREATE TABLE IF NOT EXISTS failures {TABLE}
CREATE INDEX IF NOT EXISTS failed_photos ON photos (source) WHERE status='failed';
CREATE INDEX IF NOT EXISTS failed_again ON failures (source);
"""
_SCHEMA = f"""
CREATE TABLE photos {TABLE}
{_FAILURES}
CREATE TABLE pending (
    target BLOB PRIMARY KEY,
    temp BLOB NOT NULL,           -- below the output folder
    row TEXT                      -- JSON: the row of photos to come, once the temporary file is whole
) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    command TEXT NOT NULL,
    started REAL NOT NULL
);
"""


class Ledger:
    """The open ledger of one output folder; the caller holds the lock of that folder.

    Several threads may use it. All that can go wrong with it is a LedgerError that names the file.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path
        self._turn = threading.RLock()
        self._changes = GroupCommit(connection, self._turn)

    @classmethod
    def open(cls, state: Path) -> Ledger:
        """Open or create the ledger in a state folder that exists.

        Raises:
            LedgerError: it is damaged, made by a newer srbatch, or a link: that may lead to any database.
        """
        path = state / _FILE
        if path.is_symlink():
            raise LedgerError(f"{show(path)} is a link; put the ledger itself there, or use --state")
        with suppress(OSError):  # SQLite says why not, and would make one that the group may never write to
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o666))
        return cls._opened(path, "PRAGMA synchronous=FULL")

    @classmethod
    def open_readonly(cls, state: Path) -> Ledger:
        """Open an existing ledger to read it, also while a run is writing to it.

        Raises:
            LedgerError: there is none, it is damaged, or one may not look at it.
        """
        if not cls.is_in(state):
            raise LedgerError(f"{show(state)} holds no ledger: no finished or unfinished run wrote there")
        return cls._opened(state / _FILE, "PRAGMA query_only=ON", read_only=True)

    @staticmethod
    def is_in(state: Path) -> bool:
        """Whether a state folder has a ledger. One that is empty is none: a run was killed as it made it.

        Raises:
            LedgerError: one may not look at it.
        """
        path = state / _FILE
        try:
            return path.is_file() and path.stat().st_size > 0
        except OSError as error:
            raise LedgerError(f"{show(path)}: {error.strerror}; see to its permissions") from error

    @classmethod
    def in_memory(cls) -> Ledger:
        """For a single file as target: nothing is remembered."""
        return cls._opened(Path(":memory:"), "PRAGMA synchronous=OFF")

    @classmethod
    def copy_in_memory(cls, state: Path) -> Ledger:
        """What the ledger of a state folder says now, in a copy that can be changed without a trace.

        Raises:
            LedgerError: as :meth:`open_readonly`.
        """
        with closing(cls.open_readonly(state)) as original, explained(state / _FILE):
            copy = cls.in_memory()
            copy._path = original._path  # what is wrong with the one is wrong with the other
            original._db.backup(copy._db)
            copy._db.executescript(_FAILURES)
        return copy

    @classmethod
    def _opened(cls, path: Path, pragma: str, *, read_only: bool = False) -> Ledger:
        with explained(path), ExitStack() as stack:
            # Not bound to one thread: they take turns.
            connection = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
            stack.callback(connection.close)
            connection.execute(pragma)
            connection.execute("PRAGMA fullfsync=ON")  # means something on macOS alone
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _SCHEMA_VERSION:
                raise LedgerError(f"{show(path)} was written by a newer srbatch; update this one")
            if version == 0:
                connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={_SCHEMA_VERSION};COMMIT;")
            elif not read_only:
                connection.executescript(_FAILURES)
            stack.pop_all()
            return cls(connection, path)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def row(self, target: str) -> Row | None:
        """The last outcome of a target."""
        with self._explained():
            found = self._db.execute(
                f"SELECT {_COLUMNS} FROM photos WHERE target=?", (os.fsencode(target),)
            ).fetchone()
        return self._row(found) if found else None

    def look_up(self, target: str) -> tuple[Row | None, Row | None]:
        """(the last outcome of a target, what has failed since if its output is on record)."""
        key = os.fsencode(target)
        with self._explained():
            found = self._db.execute(
                f"SELECT 'photos',{_COLUMNS} FROM photos WHERE target=?"
                f" UNION ALL SELECT 'failures',{_COLUMNS} FROM failures WHERE target=?",
                (key, key),
            ).fetchall()
        rows = {table: self._row(values) for table, *values in found}
        return rows.get("photos"), rows.get("failures")

    def latest(self, target: str) -> Row | None:
        """What became of a photo at last, also where that leaves an output of before on record."""
        row, failure = self.look_up(target)
        return failure or row

    def rows(self) -> Iterator[Row]:
        """All rows in the order of their targets, read in pages: an open cursor would hold up a run."""
        last = b""
        query = f"SELECT {_COLUMNS} FROM photos WHERE target>? ORDER BY target LIMIT 1000"
        while True:
            with self._explained():
                page = self._db.execute(query, (last,)).fetchall()
            if not page:
                return
            yield from map(self._row, page)
            last = page[-1][0]

    def done(self) -> list[tuple[str, int, int]]:
        """(recipe, photos, bytes of their outputs) of what is done; added up here, as it may be millions."""
        with self._explained():
            return self._db.execute(
                "SELECT recipe, count(*), coalesce(sum(target_size), 0) FROM photos"
                " WHERE status='done' GROUP BY recipe"
            ).fetchall()

    def skipped(self) -> list[tuple[str, int]]:
        """(reason, photos) of what was skipped."""
        with self._explained():
            return self._db.execute(
                "SELECT coalesce(reason, ''), count(*) FROM photos WHERE status='skipped' GROUP BY reason"
            ).fetchall()

    def failures(self) -> list[Row]:
        """The rows of photos that failed, and were neither done nor skipped since."""
        with self._explained():
            # One that is opened to be read may be older than the second table.
            tables = self._db.execute(
                "SELECT name FROM sqlite_master WHERE name IN ('photos', 'failures')"
            ).fetchall()
            query = " UNION ALL ".join(
                f"SELECT {_COLUMNS} FROM {table} WHERE status='failed'" for (table,) in tables
            )
            found = self._db.execute(f"{query} ORDER BY target").fetchall()
        return [self._row(values) for values in found]

    def forget_failures(self, targets: Iterable[str]) -> None:
        """Forget that photos failed; what was done or skipped stays known."""
        keys = [(os.fsencode(target),) for target in targets]
        if keys:

            def make() -> None:
                self._db.executemany("DELETE FROM photos WHERE target=? AND status='failed'", keys)
                self._db.executemany("DELETE FROM failures WHERE target=?", keys)

            self._commit(make)

    def begin(self, target: str, temp: str, row: Row | None = None) -> None:
        """Note that a temporary file is about to be written for a target, and what its row is meanwhile."""
        self._execute(
            "INSERT OR REPLACE INTO pending VALUES (?,?,?)",
            (os.fsencode(target), os.fsencode(temp), to_json(row) if row else None),
        )

    def about_to_commit(self, row: Row) -> None:
        """Note what the target will be, just before the rename."""
        self._execute("UPDATE pending SET row=? WHERE target=?", (to_json(row), os.fsencode(row.target)))

    def record(self, row: Row) -> None:
        """Note an outcome; what was pending for the target no longer is.

        The failure of a photo whose output is on record is noted beside the row of that, which stays.
        A failure or a skip leaves a write pending that may have given an output its name: by that note alone
        the output is known for our own.

        Raises:
            UnfitRow: it has a value that the ledger cannot hold, which only one that was read can have.
        """
        self.record_all([row])

    def record_all(self, rows: Collection[Row]) -> None:
        """Note several outcomes as one, all or none: each such note waits for the disk."""

        def make() -> None:
            for row in rows:
                self._insert(row)
                self._db.execute(
                    "DELETE FROM pending WHERE target=? AND (row IS NULL OR ?)",
                    (os.fsencode(row.target), row.status == "done"),
                )

        self._commit(make)

    def drop(self, target: str) -> None:
        """Forget that a target was being written."""
        self._execute("DELETE FROM pending WHERE target=?", (os.fsencode(target),))

    def pending(self) -> list[tuple[str, str, Row | None]]:
        """(target, temporary file, the row that was to come) of each write that a crash cut off."""
        with self._explained():
            found = self._db.execute("SELECT target, temp, row FROM pending").fetchall()
        return [
            (self._path_of(t), self._path_of(f), self._row_of(row) if row else None) for t, f, row in found
        ]

    def start_run(self, command: str) -> None:
        """Note who works on this folder, for the message of a second run that finds it locked."""
        self._execute(
            "INSERT INTO runs (host, pid, version, command, started) VALUES (?,?,?,?,?)",
            (socket.gethostname(), os.getpid(), __version__, show(command), time.time()),
        )

    def last_run(self) -> tuple[str, int, float] | None:
        """(host, pid, seconds since 1970) of the latest run.

        Raises:
            LedgerError: it holds no such; the ledger is damaged.
        """
        with self._explained():
            found = self._db.execute(
                "SELECT host, pid, started FROM runs ORDER BY id DESC LIMIT 1"
            ).fetchone()
        try:
            return (one_line(str(found[0])), int(found[1]), float(found[2])) if found else None
        except (TypeError, ValueError) as error:
            raise self.damaged(found) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with self._turn, explained(self._path):
            yield

    def _execute(self, statement: str, values: Sequence[Any]) -> None:
        self._commit(lambda: self._db.execute(statement, values))

    def _commit(self, make: Callable[[], object]) -> None:
        with explained(self._path):
            self._changes.commit(make)

    def details(self, row: Row) -> dict[str, Any]:
        """The details of a row as an object.

        Raises:
            LedgerError: they are none; the ledger is damaged.
        """
        return self.read_json(row.details)

    def damaged(self, value: object) -> LedgerError:
        """The error where a value in the ledger is not what srbatch writes there."""
        return damaged(self._path, value)

    def _row(self, values: Sequence[object]) -> Row:
        named = dict(zip(COLUMNS, values, strict=True))
        named.update({key: self._path_of(named[key]) for key in PATHS})
        for value in misfits(named):  # SQLite keeps to no types
            raise self.damaged(value)
        return Row(**named)  # type: ignore[arg-type]

    def _path_of(self, value: Any) -> str:
        try:
            return os.fsdecode(value)
        except TypeError as error:
            raise self.damaged(value) from error

    def _row_of(self, text: str) -> Row:
        try:
            return Row(**self.read_json(text))
        except TypeError as error:
            raise self.damaged(text) from error

    def read_json(self, text: str) -> dict[str, Any]:
        """An object that it keeps as JSON.

        Raises:
            LedgerError: it is none; the ledger is damaged.
        """
        try:
            found = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:  # a column may hold anything
            raise self.damaged(text) from error
        if not isinstance(found, dict):
            raise self.damaged(text)
        return found

    def _insert(self, row: Row) -> None:
        for value in misfits(asdict(row)):  # of a row that came as JSON; taken, it could not be read again
            raise UnfitRow(f"the ledger cannot hold what it was given: {value!r}")
        values = [os.fsencode(v) if k in PATHS else v for k, v in asdict(row).items()]
        key, table = (os.fsencode(row.target),), "photos"
        has_output = "SELECT 1 FROM photos WHERE target=? AND status='done'"
        if row.status == "failed" and self._db.execute(has_output, key).fetchone():
            table = "failures"
        else:
            self._db.execute("DELETE FROM failures WHERE target=?", key)
        self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(values))})", values)
        # What became of the photo under another name of its output, in another format or tree, is past.
        past = (os.fsencode(row.source), *key)
        for table in ("photos", "failures"):
            self._db.execute(f"DELETE FROM {table} WHERE source=? AND target<>? AND status='failed'", past)

"""Group commit: changes of several threads that wait for the disk at the same time go to it together.

After DeWitt et al. 1984, "Implementation techniques for main memory database systems" (SIGMOD).
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock


@dataclass(slots=True, eq=False)
class _Change:
    make: Callable[[], object]
    tried: bool = False
    """Whether a transaction was begun that several share, this one among them."""
    is_on_disk: bool = False


class GroupCommit:
    """Makes changes to a database whose one connection several threads use in turns.

    A commit waits for the disk several times, and while one thread waits, others come with changes of their
    own. The first of them to have its turn makes all of these in one transaction.
    """

    def __init__(self, connection: sqlite3.Connection, turn: RLock) -> None:
        """``connection`` is in autocommit mode (``isolation_level=None``) and used by who holds ``turn``."""
        self._db = connection
        self._turn = turn
        self._waiting: deque[_Change] = deque()

    def commit(self, make: Callable[[], object]) -> None:
        """Make a change, all of it or nothing; it is on the disk when this returns.

        ``make`` may be called twice: where one of several changes fails, each is made by itself.

        Raises:
            Exception: what ``make`` or the commit raises; other changes are none the worse for it.
        """
        mine = _Change(make)
        self._waiting.append(mine)
        with self._turn:
            if not mine.is_on_disk and not mine.tried:
                self._try_together([self._waiting.popleft() for _ in range(len(self._waiting))])
            if not mine.is_on_disk:
                with self._transaction():
                    make()

    def _try_together(self, changes: Sequence[_Change]) -> None:
        if len(changes) < 2:
            return
        for change in changes:
            change.tried = True
        try:
            with self._transaction():
                for change in changes:
                    change.make()
        except Exception:  # whose it is, and what it says, each finds out by itself
            return
        for change in changes:
            change.is_on_disk = True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite has ended it where the disk is full
                self._db.execute("ROLLBACK")
            raise

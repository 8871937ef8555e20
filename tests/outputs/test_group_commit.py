"""Changes of several threads that wait for the disk at once share a commit, and nothing else."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from srbatch.outputs.group_commit import GroupCommit

SCHEMA = """
CREATE TABLE parents (id INTEGER PRIMARY KEY);
CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED
);
"""


class Database:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.executescript(SCHEMA)
        self.connection.execute("PRAGMA foreign_keys=ON")
        self.turn = threading.RLock()
        self.group = GroupCommit(self.connection, self.turn)
        self.commits = 0
        self.connection.set_trace_callback(self._count)

    def _count(self, statement: str) -> None:
        self.commits += statement == "COMMIT"

    def add(self, note: int, parent: int | None = None) -> None:
        self.connection.execute("INSERT INTO notes VALUES (?,?)", (note, parent))

    def on_disk(self) -> list[int]:
        """As another program sees it."""
        with closing(sqlite3.connect(self.path)) as other:
            return [note for (note,) in other.execute("SELECT id FROM notes ORDER BY id")]

    def commit_at_once(self, changes: list[Callable[[], None]]) -> list[BaseException | list[int]]:
        """Have each change made by a thread while another has its turn; what each raises, or saw then."""
        ends: list[BaseException | list[int]] = [[] for _ in changes]

        def commit(index: int) -> None:
            try:
                self.group.commit(changes[index])
                ends[index] = self.on_disk()
            except BaseException as error:
                ends[index] = error

        threads = [threading.Thread(target=commit, args=(index,)) for index in range(len(changes))]
        with self.turn:
            for thread in threads:
                thread.start()
            while len(self.group._waiting) < len(changes):
                time.sleep(0.001)
        for thread in threads:
            thread.join()
        return ends


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "a.sqlite")
    yield database
    database.connection.close()


def test_those_that_wait_at_once_share_one_commit(database: Database) -> None:
    ends = database.commit_at_once([lambda note=note: database.add(note) for note in range(8)])
    assert database.commits == 1
    assert ends == [list(range(8))] * 8, "each was on the disk when its thread went on"


def test_one_by_itself_is_on_the_disk_when_it_returns(database: Database) -> None:
    for note in range(3):
        database.group.commit(lambda note=note: database.add(note))
        assert database.on_disk() == list(range(note + 1))
    assert database.commits == 3


@pytest.mark.parametrize(
    "failing",
    [
        lambda database: database.add(0),  # there is such a note
        lambda database: database.add(9, parent=1),  # there is no such parent, as the commit finds out
        lambda database: [database.add(9), database.add(9)],
        lambda database: {}["a bug"],
    ],
    ids=["at once", "in the commit", "after a part of it", "a bug"],
)
def test_one_that_fails_costs_the_others_nothing(
    database: Database, failing: Callable[[Database], object]
) -> None:
    database.add(0)
    changes = [lambda note=note: database.add(note) for note in range(1, 6)]
    changes.insert(2, lambda: failing(database))
    ends = database.commit_at_once(changes)
    assert isinstance(ends.pop(2), sqlite3.IntegrityError | KeyError)
    assert all(note in end for note, end in enumerate(ends, 1) if isinstance(end, list))
    assert database.on_disk() == list(range(6)), "and nothing of the one that failed"
    assert not database.connection.in_transaction


def test_an_interruption_in_one_leaves_the_others_to_be_made(database: Database) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    ends = database.commit_at_once([lambda: database.add(1), interrupted, lambda: database.add(2)])
    assert sum(isinstance(end, KeyboardInterrupt) for end in ends) >= 1
    assert isinstance(ends[1], KeyboardInterrupt)
    for note, end in ((1, ends[0]), (2, ends[2])):  # the one in whose thread it came is told, too
        assert isinstance(end, KeyboardInterrupt) or note in end
    assert not database.connection.in_transaction


def test_a_rollback_that_the_database_made_itself_is_an_error_like_others(database: Database) -> None:
    """As SQLite does on a full disk."""

    def rolled_back() -> None:
        database.connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    ends = database.commit_at_once([lambda: database.add(1), rolled_back, lambda: database.add(2)])
    assert isinstance(ends[1], sqlite3.OperationalError)
    assert database.on_disk() == [1, 2]

"""Several threads note in one ledger, which has one connection."""

from __future__ import annotations

import threading
import time

import pytest

from srbatch.errors import LedgerError
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.rows import Row
from tests.outputs.conftest import row


def test_what_several_threads_note_at_once_goes_to_the_disk_together(ledger: Ledger) -> None:
    targets = [f"{n}.jpg" for n in range(4)]
    threads = [threading.Thread(target=ledger.record, args=(row(target=target),)) for target in targets]
    commits: list[str] = []
    ledger._db.set_trace_callback(lambda said: commits.append(said) if "COMMIT" in said else None)
    with ledger._turn:
        for thread in threads:
            thread.start()
        while len(ledger._changes._waiting) < len(threads):
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert commits == ["COMMIT"]
    assert [found.target for found in ledger.rows()] == targets


def test_a_thread_waits_until_another_has_noted_what_it_notes(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have one connection, and the end of one's transaction would be that of the other's."""
    insert, errors = Ledger._insert, list[LedgerError]()

    def note_another() -> None:
        try:
            ledger.record(row("b.jpg", source="b"))
        except LedgerError as error:
            errors.append(error)

    def insert_slowly(self: Ledger, noted: Row) -> None:
        insert(self, noted)
        if noted.target == "a.jpg":
            other.start()
            other.join(0.3)

    other = threading.Thread(target=note_another)
    monkeypatch.setattr(Ledger, "_insert", insert_slowly)
    ledger.record(row())
    other.join()
    assert errors == []
    assert [found.target for found in ledger.rows()] == ["a.jpg", "b.jpg"]

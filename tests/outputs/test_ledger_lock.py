"""The lock of a state folder: one run at a time, until its process ends."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from srbatch.errors import DestinationError, LockedError
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.ledger_lock import locked
from tests.processes import running

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.ledger_lock import locked

with locked(Path(sys.argv[1])):
    ledger = Ledger.open(Path(sys.argv[1]))
    ledger.start_run("srbatch upscale")
    print("ready", flush=True)
    sys.stdin.read()
    ledger.close()
"""


def test_a_second_run_is_told_who_has_the_folder(state: Path) -> None:
    with running(HOLD_THE_LOCK, state) as holder:
        with pytest.raises(LockedError) as raised, locked(state):
            pass
        assert f"process {holder.pid} on {socket.gethostname()}" in str(raised.value)
        assert str(state.parent) in str(raised.value)


def test_a_folder_that_is_taken_can_be_read(state: Path) -> None:
    with running(HOLD_THE_LOCK, state) as holder:
        reader = Ledger.open_readonly(state)
        last = reader.last_run()
        reader.close()
        assert last is not None
        assert last[1] == holder.pid


def test_the_lock_ends_with_its_process_even_if_that_is_killed(state: Path) -> None:
    with running(HOLD_THE_LOCK, state) as holder:
        holder.kill()
        holder.wait()
        with locked(state):
            pass


def test_the_lock_ends_with_the_block(state: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked(state):
            raise ZeroDivisionError
    with locked(state):
        pass


def test_the_folder_of_the_lock_is_made(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "state"):
        assert (tmp_path / "new" / "state").is_dir()


def test_a_file_where_the_state_should_be_is_a_destination_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"a file")
    with pytest.raises(DestinationError, match="state"), locked(tmp_path / "state"):
        pass

"""Temporary folders, and what is said where there can be none."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from srbatch.errors import DestinationError
from srbatch.outputs.scratch import temporary_folder


@pytest.mark.parametrize("named", [True, False])
def test_where_no_temporary_folder_can_be_made_the_flag_that_names_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    parent = tmp_path / "scratch" if named else None
    with pytest.raises(DestinationError) as error, temporary_folder(parent):
        pass
    assert (str(parent) in str(error.value)) if parent else ("--scratch" in str(error.value))
    assert "Permission denied" in str(error.value)


def test_a_temporary_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "new") as folder:
        (folder / "a").write_bytes(b"")
        assert folder.parent == tmp_path / "new"
    assert not folder.exists()

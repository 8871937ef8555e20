"""Outputs with the permissions of their photos, at each moment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Originals, crop
from tests.files import PACKET
from tests.networks import upscaled


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")
@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_nobody_else_may_read_an_output_before_it_has_the_permissions_of_its_photo(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    crop().save(originals.folder / name)
    (originals.folder / f"{name}.xmp").write_text(PACKET.format(1))
    (originals.folder / name).chmod(0o640)
    originals.remember()
    before, chmod = list[int](), Path.chmod

    def recorded(path: Path, mode: int, **how: Any) -> None:
        before.append(path.stat().st_mode & 0o777)
        chmod(path, mode, **how)

    monkeypatch.setattr(Path, "chmod", recorded)
    upscaled(originals.folder, tmp_path / "hi", keep_permissions=True)
    assert before == [0o600, 0o600]
    assert (tmp_path / "hi" / name).stat().st_mode & 0o777 == 0o640

"""Outputs with the permissions of their photos, at each moment."""

from __future__ import annotations

import os
import struct
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


@pytest.mark.skipif(sys.platform != "linux", reason="lists are kept in another way")
@pytest.mark.parametrize(("group", "mask", "mode"), [(0, 6, 0o600), (4, 6, 0o640), (6, 4, 0o640)])
def test_a_group_gets_no_more_than_the_photos_access_control_list_says(
    originals: Originals, tmp_path: Path, group: int, mask: int, mode: int
) -> None:
    photo, nobody = originals.folder / "a.jpg", 2**32 - 1
    crop().save(photo)
    somebody_else = (0x02, 6, 12345)
    entries = [
        (0x01, 6, nobody),
        somebody_else,
        (0x04, group, nobody),
        (0x10, mask, nobody),
        (0x20, 0, nobody),
    ]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(photo, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error.strerror}")
    assert photo.stat().st_mode & 0o070 == mask << 3, "that is not what the group may do"
    originals.remember()
    upscaled(originals.folder, tmp_path / "hi", keep_permissions=True)
    assert (tmp_path / "hi" / "a.jpg").stat().st_mode & 0o777 == mode

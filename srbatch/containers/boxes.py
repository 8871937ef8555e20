"""Boxes, of which files of ISO's base media format (14496-12) and of JPEG 2000 (15444-1) are made."""

from __future__ import annotations

from typing import BinaryIO


class BrokenBoxes(ValueError):
    """The boxes are not what they should be."""


def box_at(file: BinaryIO, at: int, end: int) -> tuple[bytes, int, int]:
    """(kind, where its content begins, where it ends) of a box in what ends at ``end``, a file or a box.

    Raises:
        BrokenBoxes: its head is cut off, or it leads out of what it is in.
    """
    file.seek(at)
    head = file.read(16)
    size, start = int.from_bytes(head[:4], "big"), at + 8
    if size == 1:
        size, start = int.from_bytes(head[8:16], "big"), at + 16
    stop = at + size if size else end
    if len(head) < 8 or not start <= stop <= end:
        raise BrokenBoxes(f"its box at byte {at} leads to byte {stop}, and it ends at byte {end}")
    return head[4:8], start, stop

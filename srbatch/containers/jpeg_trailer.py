"""What lies behind the picture in a JPEG file: the video of a motion photo, or a program's own records.

No standard has a place there, and decoders do not look; it is found by reading the file to the picture's end.
"""

from __future__ import annotations

import re
from collections import deque
from contextlib import suppress
from io import SEEK_CUR, BytesIO
from itertools import islice
from typing import BinaryIO

from srbatch.containers.blocks import behind_picture
from srbatch.containers.jpeg import EOI, MPF_ENTRIES, MPF_ENTRY_BYTES, MPF_ID, segments
from srbatch.containers.tiff_structure import BrokenTiff, TiffReader
from srbatch.errors import UnreadablePhoto

_CHUNK = 1 << 16
_MOST_PICTURES = 64
"""That are looked for: a crafted index could have the file read thousands of times."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""In coded data FF is followed by 00, or begins a restart marker (T.81, B.1.1.5); FF may precede a marker."""


def note(file: BinaryIO) -> str | None:
    """What to tell of the bytes behind the picture; None where there are none, or padding alone.

    The further pictures of a multi-picture file are told of with its index, and do not count.
    """
    starts = [0, *islice(dict.fromkeys(_indexed(file)), _MOST_PICTURES)]
    ends = [_end_of_picture(file, start) for start in starts]
    if ends[0] is None:
        return None
    return behind_picture(file, max(end for end in ends if end is not None))


def _indexed(file: BinaryIO) -> list[int]:
    """Where further pictures begin by an MPF index; of its sizes not all writers' are right."""
    file.seek(0)
    with suppress(UnreadablePhoto, BrokenTiff):
        for _, body in segments(file):
            if body.startswith(MPF_ID):
                base = file.tell() - len(body) + len(MPF_ID)
                reader = TiffReader(BytesIO(body[len(MPF_ID) :]))
                entry = reader.ifd0.find(MPF_ENTRIES)
                listed = reader.raw(entry) if entry else b""
                offsets = (listed[at + 8 : at + 12] for at in range(0, len(listed), MPF_ENTRY_BYTES))
                # Of the first picture it is 0.
                return [base + offset for raw in offsets if (offset := reader.layout.number(raw))]
    return []


def _end_of_picture(file: BinaryIO, start: int) -> int | None:
    """Where the EOI ends of the picture that starts there; None where there is none."""
    file.seek(start)
    try:
        deque(segments(file), maxlen=0)
    except UnreadablePhoto:
        return None
    marker: int | None = None
    while marker != EOI:
        length = int.from_bytes(file.read(2), "big")  # of a scan's head, or of a table between two scans
        file.seek(max(length - 2, 0), SEEK_CUR)
        marker = _next_marker(file)
        if marker is None:
            return None
    return file.tell()


def _next_marker(file: BinaryIO) -> int | None:
    """The next marker of any kind but a restart, and the position behind it."""
    at = file.tell()
    while chunk := file.read(_CHUNK):
        if found := _MARKER.search(chunk):
            file.seek(at + found.end())
            return chunk[found.end() - 1]
        # A marker may be cut in two.
        at += len(chunk) - (len(chunk) > 1 and chunk.endswith(b"\xff"))
        file.seek(at)
    return None

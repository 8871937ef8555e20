"""What the file formats have in common: the blocks that are found, and how they get into new files.

No pixel is decoded and no picture data read: a file may be gigabytes. What a block says is not looked at
here nor in the modules of the formats, except that the parts of one block that a format spreads over the file
are put together.
"""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from io import SEEK_END
from typing import BinaryIO

from srbatch.errors import UnreadablePhoto, WrongOutput

EXIF_ID = b"Exif\0\0"
XMP_ID = b"http://ns.adobe.com/xap/1.0/\0"
C2PA_LOST = "the C2PA manifest does not survive re-encoding and was not carried"
GAIN_MAP_LOST = "the gain map, which shows the photo in high dynamic range, was not carried"

_LARGEST_BLOCK = 1 << 28  # no photo's metadata comes near it; a crafted file's may
LARGEST_INFLATED = 1 << 26
_MOST_NOTES = 50
_LONGEST_NAME = 100  # a crafted file may have one of megabytes, which would go to logs and the ledger
_CHUNK = 1 << 16
_PADDING = re.compile(rb"[\x00\xff\s]*")
_VIDEO = re.compile(rb"ftyp(?:mp4|iso|avc|qt  |M4V|3gp)")
"""How a file of ISO's base media format (14496-12) begins, with the brands that videos have."""


@dataclass(slots=True)
class Blocks:
    """What was found in a file."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    extended_xmp: list[bytes] = field(default_factory=list)
    """Bodies of APP1 segments."""
    comments: list[bytes] = field(default_factory=list)
    """Bodies of JPEG's COM segments."""
    png_text: list[bytes] = field(default_factory=list)
    """Type and data of tEXt, zTXt and iTXt chunks."""
    png_colour: list[bytes] = field(default_factory=list)
    """Type and data of the chunks that give RGB a meaning without an ICC profile."""
    extra_is_data: bool = False
    """Whether the channel beside the colours is not said to be transparency: infrared, a mask."""
    lossless: bool = False
    """Whether the format could have lost something of the picture and did not."""
    turned: bool = False
    """Whether the format's own means, not EXIF, say that the stored picture must be turned."""
    notes: list[str] = field(default_factory=list)
    """What is there and will not be carried, in sentences for people."""
    _told: set[str] = field(default_factory=set)

    def note(self, sentence: str) -> None:
        """Say something, once; of thousands of odd blocks the first ones are told, and how many more."""
        if sentence in self._told:
            return
        self._told.add(sentence)
        more = len(self._told) - _MOST_NOTES
        if more <= 0:
            self.notes.append(sentence)
        else:
            self.notes[_MOST_NOTES:] = [f"further blocks were not carried either: {more:,}"]


class HeadSplicer:
    """Stands between an encoder and a file, and changes what is written near the start.

    ``spliced`` is called with all that the encoder has written so far, until it returns what is to stand
    there instead; None asks for more.
    """

    def __init__(self, file: BinaryIO, spliced: Callable[[bytes], bytes | None]) -> None:
        self._file = file
        self._spliced = spliced
        self._head: bytearray | None = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Pass on what the encoder has written; any object that is a buffer will do."""
        view = memoryview(data)
        if self._head is None:
            self._file.write(view)
            return view.nbytes
        self._head += view
        head = self._spliced(bytes(self._head))
        if head is not None:
            self._file.write(head)
            self._head = None
        return view.nbytes

    def finish(self) -> None:
        """Call it when the encoder is done.

        Raises:
            WrongOutput: it ended before it came to the place.
        """
        if self._head is not None:
            raise WrongOutput("the encoder stopped within the header")


class Rewriter(ABC):
    """Collects a file and writes it with its metadata at the end; the encoder holds it all anyway.

    Subclasses say how the metadata gets into the file.
    """

    def __init__(self, file: BinaryIO, *, exif_block: bytes | None, xmp: bytes | None) -> None:
        self._file = file
        self._exif = exif_block
        self._xmp = xmp
        self._data = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take what the encoder has written; any object that is a buffer will do."""
        view = memoryview(data)
        self._data += view
        return view.nbytes

    def finish(self) -> None:
        """Write the file.

        Raises:
            WrongOutput: what was collected is not a file of that format.
        """
        self._file.write(self._with_metadata(bytes(self._data), exif_block=self._exif, xmp=self._xmp))

    @staticmethod
    @abstractmethod
    def _with_metadata(data: bytes, /, *, exif_block: bytes | None, xmp: bytes | None) -> bytes:
        """The file with its metadata."""


def read_block(file: BinaryIO, size: int) -> bytes:
    """The next bytes of a file.

    Raises:
        UnreadablePhoto: they are more than any photo's metadata.
    """
    if size > _LARGEST_BLOCK:
        raise UnreadablePhoto(f"it has a metadata block of {size:,} bytes; no photo has one so large")
    return file.read(size)


def size_of(file: BinaryIO) -> int:
    """How long a file is; the position in it is kept."""
    here = file.tell()
    size = file.seek(0, SEEK_END)
    file.seek(here)
    return size


def behind_picture(file: BinaryIO, start: int) -> str | None:
    """What to tell of what lies there; None where there is nothing, or padding alone."""
    file.seek(start)
    is_video, is_padding, before = False, True, b""
    while chunk := file.read(_CHUNK):
        is_padding = is_padding and _PADDING.fullmatch(chunk) is not None
        is_video = is_video or _VIDEO.search(before + chunk) is not None
        before = chunk[-7:]
    if is_padding:
        return None
    what = "a video, as motion photos have one" if is_video else "of unknown kind"
    return f"{file.tell() - start:,} bytes behind the picture ({what}) were not carried"


def inflated(packed: bytes, most: int = LARGEST_INFLATED) -> bytes | None:
    """Uncompressed data; None if it is damaged or blows up beyond ``most`` bytes, which no photo needs."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, most)
    except zlib.error:
        return None
    return data if inflater.eof else None


def note_ratio(blocks: Blocks, across: int, down: int) -> None:
    """Tell of a ratio of densities that stands in a file without their unit, where pixels are not square."""
    if across and down and across != down:
        blocks.note(f"its pixels are not square ({down}:{across}), which its output does not say")


def cut_off(what: str) -> str:
    """The message for a file that ends early."""
    return f"the {what} file is cut off"


def printable(name: bytes) -> str:
    """The name of a chunk or text for people, whatever bytes it is made of."""
    shown = ascii(name[:_LONGEST_NAME].decode("latin-1"))
    return f"{shown}..." if len(name) > _LONGEST_NAME else shown

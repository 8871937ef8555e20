"""What can go wrong, and the exit code of each.

::

    SrbatchError
      UsageError            2   wrong flags, output inside input
      WeightsError          4   weights missing, corrupt, of another architecture
      DeviceError           5   no such device, device lost, out of memory for every photo
      DestinationError      6   output folder not writable, disk full
      LedgerError           6   the ledger cannot be read or written
        UnfitRow                it cannot hold a value
      LockedError           7   another run owns this output folder
      Interrupted 129/130/143   SIGHUP, Ctrl-C or SIGTERM; what was done is remembered
      PhotoError            -   costs this photo only; the run goes on and ends with 3
        UnreadablePhoto         damaged, or not an image
          CodecFailed           its codec crashed, or ran out of time or memory
        UnsupportedPhoto        it would not come back whole, or not under its name
        PhotoTooLarge           beyond a limit of the format, the factor or the memory
        PhotoChanged            vanished, changed while it was read, or may not be read
        TargetExists            the output's name, or its folder's, is taken by a file that is not ours
        TargetClosed            nothing may be written into the folder of the output
        NoRoom                  its pixels and its output do not fit on the disk, even alone
        WrongOutput             what came out of the network or the encoder is not sound
        DeviceOutOfMemory       it does not fit into the device's memory in the smallest tiles

    OutOfMemory                 not an outcome: the photo starts again with smaller tiles

A message says what happened, to which file, and what to do about it. That of a photo is one line.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of the ``srbatch`` command. They are stable: scripts may rely on them."""

    DONE = 0
    BUG = 1
    USAGE = 2
    SOME_FAILED = 3
    WEIGHTS = 4
    DEVICE = 5
    DESTINATION = 6
    LOCKED = 7
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


def one_line(text: str) -> str:
    """Text of others (a codec, a file, a ledger) for people: nothing in it moves a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SrbatchError(Exception):
    """Base of every error that srbatch raises on purpose; ``str(error)`` is meant for the user."""

    exit_code: ExitCode = ExitCode.BUG
    """Of a command that ends with it."""


class UsageError(SrbatchError):
    """The command line asks for something that cannot be done."""

    exit_code = ExitCode.USAGE


class WeightsError(SrbatchError):
    """A weights file is missing, corrupt, or belongs to another network."""

    exit_code = ExitCode.WEIGHTS


class DeviceError(SrbatchError):
    """The device does not exist, was lost, or has too little memory for any photo."""

    exit_code = ExitCode.DEVICE


class DestinationError(SrbatchError):
    """The output folder cannot be written, or its disk is full."""

    exit_code = ExitCode.DESTINATION


class LedgerError(SrbatchError):
    """The ledger cannot be read or written. Going on without it could redo or overwrite things."""

    exit_code = ExitCode.DESTINATION


class UnfitRow(LedgerError):
    """The ledger cannot hold a value that was given to it."""


class LockedError(SrbatchError):
    """Another run owns this output folder."""

    exit_code = ExitCode.LOCKED


class Interrupted(SrbatchError):
    """The user or the system asked the run to stop; nothing of a photo in hand is left behind."""

    def __init__(self, signal_number: int, why: str = "interrupted") -> None:
        super().__init__(f"{why}; run the same command again to go on")
        self.exit_code = ExitCode(128 + signal_number)


class PhotoError(SrbatchError):
    """One photo cannot be done; the run goes on."""

    exit_code = ExitCode.SOME_FAILED
    remembered: ClassVar[bool] = False
    """Whether the same file would fail again, so that a rerun reports it without trying.

    ``--retry-failed`` tries it all the same.
    """
    of_output: ClassVar[bool] = False
    """Whether the photo is sound, and only its output has no place: a watcher waits until it has one."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UnreadablePhoto(PhotoError):
    """The file is damaged or not an image."""

    remembered = True


class CodecFailed(UnreadablePhoto):
    """The codec of the file crashed, or ran out of time or memory, which may be the machine's fault."""

    remembered = False


class UnsupportedPhoto(PhotoError):
    """Something in the file would be lost or damaged on the way, or no output can have its name."""

    remembered = True


class PhotoTooLarge(PhotoError):
    """The photo or its enlargement is beyond a limit of the format, the factor or the memory."""

    remembered = True


class PhotoChanged(PhotoError):
    """The file vanished, changed while it was read, or may not be read."""


class TargetExists(PhotoError):
    """The output's name is taken by a file that the ledger does not know, or its folder's name by any."""

    of_output = True


class TargetClosed(PhotoError):
    """Nothing may be written into the folder of the output, though it may into that of all outputs."""

    of_output = True


class NoRoom(PhotoError):
    """The photo alone needs more of a disk or of memory than is free, where others have enough."""

    of_output = True


class WrongOutput(PhotoError):
    """The pixels that came out of the network or of the encoder are not sound; nothing was kept."""


class DeviceOutOfMemory(PhotoError):
    """The photo does not fit into the device's memory, even in the smallest tiles."""


def is_of_output(error: str | None) -> bool:
    """Whether a failure of the class of that name is one of the output's place, and none of the photo."""
    return bool(getattr(globals().get(error or ""), "of_output", False))


class OutOfMemory(Exception):
    """A batch of tiles did not fit: a signal to start the photo again, which no user sees."""

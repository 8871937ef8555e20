"""Dates of files, as far as a ledger and a file system can hold them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_MOST_NS = 2**63 - 1
"""What SQLite holds: until April 2262, and back as far."""

_NO_SUCH_DATE = {errno.EINVAL, errno.EOVERFLOW, errno.ERANGE}
_NOT_FOR_US = {errno.EPERM, errno.EACCES}
"""Of a share that says that our own new file is another user's."""


def mtime_of(status: os.stat_result) -> int:
    """When a file was written to, in nanoseconds since 1970, from -(2**63 - 1) to 2**63 - 1."""
    return max(-_MOST_NS, min(status.st_mtime_ns, _MOST_NS))


def set_dates(path: Path, *, accessed_ns: int, modified_ns: int) -> bool:
    """Give a file its dates, in nanoseconds since 1970; returns whether its file system takes them.

    Raises:
        OSError: they cannot be written for another reason.
    """
    try:
        os.utime(path, ns=(accessed_ns, modified_ns))
    except OverflowError:
        return False
    except OSError as error:
        if error.errno not in _NO_SUCH_DATE | _NOT_FOR_US:
            raise
        return False
    return True

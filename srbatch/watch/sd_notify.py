"""What a service manager is told: ready, alive, stopping.

The protocol of systemd's sd_notify(3): lines of ``NAME=value`` in a datagram to the socket that the
environment names. Where none is named, nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping


class Notifier:
    """Sends to the socket named when it was made; a manager that does not listen is no error."""

    def __init__(self, environ: Mapping[str, str] = os.environ, *, clock: Callable[[], float]) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._clock = clock
        self._pinged = float("-inf")
        self.ping_every_s = _watchdog_s(environ) / 2
        """How often the manager wants to hear of us, halved as sd_watchdog_enabled(3) recommends; or inf."""

    def ready(self) -> None:
        """Start-up is over."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """A line for people, shown by ``systemctl status``."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def ping(self) -> None:
        """We are alive; sent as often as the manager wants it, however often it is called."""
        now = self._clock()
        if self.ping_every_s < float("inf") and now - self._pinged >= self.ping_every_s:
            self._pinged = now
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(1)
            channel.sendto(message.encode("utf-8", "backslashreplace"), self._address)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(usec) / 1e6 if usec.isdigit() and int(usec) and pid == str(os.getpid()) else float("inf")

"""A command as a process: its signals, its streams and its exit code; also that of the trainer."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from srbatch.errors import ExitCode, Interrupted, SrbatchError

_WINDOWS = "win32"
HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none


def ending_signals() -> tuple[signal.Signals, ...]:
    """What a command ends by: Ctrl-C, SIGTERM and, but under nohup, SIGHUP of a terminal that is closed."""
    if HANG_UP is None or signal.getsignal(HANG_UP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, HANG_UP


def options_of(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One decorator for options that several commands have, in the order in which help lists them."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


class Stop:
    """Ctrl-C, SIGTERM and SIGHUP: the photo in hand is dropped at the next step.

    A second Ctrl-C or SIGTERM ends at once. SIGHUP, which comes when the terminal is closed, may come twice,
    from the system and from the shell; under ``nohup`` it does nothing.
    """

    def __init__(self) -> None:
        self._signal: int | None = None

    def __enter__(self) -> Stop:
        self._previous = {number: signal.signal(number, self._note) for number in ending_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise ``Interrupted`` if the run shall stop."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None and number != HANG_UP:
            os._exit(128 + number)  # outputs are whole or absent at any moment, so this is safe
        self._signal = self._signal or number


class OutputGroup(click.Group):
    """A group whose output may lose its reader."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would end with 1, which means a bug here.

        Raises:
            Interrupted: nobody reads standard output any more.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise Interrupted(signal.SIGTERM, "nobody reads standard output any more") from None
        return result


def with_globs_expanded(
    _context: click.Context, _parameter: click.Parameter, paths: tuple[Path, ...]
) -> tuple[Path, ...]:
    """What to take for the paths of an argument: Windows' shells leave globs as they are."""
    if sys.platform != _WINDOWS:
        return paths
    return tuple(
        found
        for path in paths
        for found in ([] if path.exists() else sorted(path.parent.glob(path.name))) or [path]
    )


def run_command(command: click.Command, arguments: list[str] | None, name: str) -> NoReturn:
    """Run a command called ``name`` and turn what ends it into an exit code; also that of the trainer."""
    _open_missing_streams()
    _survive_odd_names()
    try:
        # Windows has no shell that expands globs, and click would expand those of --exclude too.
        command.main(args=arguments, prog_name=name, standalone_mode=False, windows_expand_args=False)
    except SrbatchError as error:
        with contextlib.suppress(OSError):
            click.echo(f"{name}: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except click.Abort:
        sys.exit(ExitCode.SIGINT)
    except Exception:
        with contextlib.suppress(OSError):
            traceback.print_exc()
            click.echo(f"{name}: this is a bug; please report it with the lines above", err=True)
        sys.exit(ExitCode.BUG)
    finally:
        _give_up_broken_streams()
    sys.exit(ExitCode.DONE)


def _open_missing_streams() -> None:
    """Whoever started us may have closed some; a file of ours must not get the number of one of them."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w"))


def _give_up_broken_streams() -> None:
    """What cannot be written any more would be told of by the interpreter as it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _survive_odd_names() -> None:
    """File names need not be text; printing one must never end a run."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

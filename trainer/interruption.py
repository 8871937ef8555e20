"""Ctrl-C, SIGTERM and a closed terminal: a fit ends after the step in hand, in all processes at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fastai.callback.core import Callback

from srbatch.entry import HANG_UP, ending_signals
from srbatch.errors import Interrupted


class Interrupt:
    """What a run ends by: the step in hand is finished and saved; a second signal ends it at once."""

    def __init__(self) -> None:
        self._signal: int | None = None

    @property
    def pending(self) -> bool:
        """Whether the run is to stop."""
        return self._signal is not None

    def error(self) -> Interrupted:
        """What it is to end with, by the first signal; where another process had it, as by SIGTERM."""
        return Interrupted(self._signal or signal.SIGTERM)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals.

        Raises:
            Interrupted: in place of what a worker's end causes that was hit by the same signal as it started.
        """
        before = {number: signal.signal(number, self._note) for number in ending_signals()}
        try:
            yield
        except RuntimeError as error:
            if self.pending:
                raise self.error() from error
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        # Of a terminal that is closed the kernel and the shell tell, one after the other.
        if self._signal is not None and number != HANG_UP:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signal = self._signal or number


class Stop(Callback):
    """Ends a fit where gradients are not being added up, in all processes at the same step."""

    order = 75
    """Before the checkpoint of this step, which looks at `pending`."""
    run_valid = False

    def __init__(self, interrupt: Interrupt, agreed: Callable[[bool], bool], accumulate: int) -> None:
        self._interrupt, self._agreed, self._accumulate = interrupt, agreed, accumulate
        self.pending = self.whole = False

    def after_batch(self) -> None:
        self.whole = self.train_iter % self._accumulate == 0
        self.pending = self.whole and self._agreed(self._interrupt.pending)

    def end(self) -> None:
        """End the fit."""
        self.learn.ending.end_with(self._interrupt.error())


class EndAtOnce(Callback):
    """Ends a search for a rate, of which nothing is to be saved, when the run is to stop."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def after_batch(self) -> None:
        if self._interrupt.pending:
            self.learn.ending.end_with(self._interrupt.error())

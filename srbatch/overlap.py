"""Several photos in hand at once, within a budget, so that reading, the device and writing overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

from srbatch.errors import SrbatchError

Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_S = 0.1


class Abandoned(SrbatchError):
    """Raised in the threads of a run that ends because of something else; no user sees it."""


class Overlap(Generic[Item, Result]):
    """Does items in threads, a bounded number at once, begun in their order.

    An item waits until its cost fits into the budget beside those in hand; one that is beyond the budget is
    done alone. None is overtaken while it waits, so a large one never starves.
    """

    def __init__(
        self,
        do: Callable[[Item, Callable[[], None]], Result],
        *,
        at_once: int,
        cost: Callable[[Item], float],
        budget: float,
        check: Callable[[], None] = lambda: None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """``do(item, check)`` does one item and calls ``check`` as often as it can be stopped.

        Once ``goes_on`` is false no further item is begun, and those in hand are the last. ``check``, called
        from every thread, raises to stop the whole run at once; so does an error out of ``do``.
        """
        self._do = do
        self._at_once = at_once
        self._cost = cost
        self._budget = budget
        self._check = check
        self._goes_on = goes_on
        self._in_hand, self._cost_in_hand = 0, 0.0
        self._ending = threading.Event()
        self._ended: queue.SimpleQueue[tuple[Item, Result | None, BaseException | None]] = queue.SimpleQueue()

    def results(self, items: Sequence[Item]) -> Generator[Result]:
        """Yield each item's result as it comes. To be called once.

        However this ends, by the first error or by the caller's leaving, no thread is left behind. Of an item
        that reaches its end although the run is ending, the result is yielded before the error is raised.
        """
        waiting, ending = list(reversed(items)), None
        try:
            while self._in_hand or (waiting and ending is None and self._goes_on()):
                try:
                    if ending is None:
                        self._begin(waiting)
                    if not self._in_hand:
                        break  # just now it was decided not to go on
                    result = self._next(self._check if ending is None else lambda: None)
                except BaseException as error:
                    ending = ending or error
                    self._ending.set()
                    continue
                yield result
            if ending is not None:
                raise ending
        finally:
            del ending  # this frame is in its traceback
            self._ending.set()
            while self._in_hand:
                self._await(lambda: None)

    def _begin(self, waiting: list[Item]) -> None:
        while waiting and self._goes_on() and self._fits(waiting[-1]):
            threading.Thread(target=self._work, args=(waiting[-1],), name="srbatch photo").start()
            self._in_hand += 1
            self._cost_in_hand += self._cost(waiting.pop())

    def _fits(self, item: Item) -> bool:
        if self._in_hand == 0:
            return True
        return self._in_hand < self._at_once and self._cost_in_hand + self._cost(item) <= self._budget

    def _next(self, check: Callable[[], None]) -> Result:
        result, error = self._await(check)
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # without an error there is one

    def _await(self, check: Callable[[], None]) -> tuple[Result | None, BaseException | None]:
        while True:
            check()
            try:
                item, result, error = self._ended.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            self._in_hand -= 1
            self._cost_in_hand -= self._cost(item)
            return result, error

    def _work(self, item: Item) -> None:
        try:
            self._ended.put((item, self._do(item, self._check_item), None))
        except BaseException as error:
            self._ended.put((item, None, error))

    def _check_item(self) -> None:
        if self._ending.is_set():
            raise Abandoned("the run is ending")
        self._check()

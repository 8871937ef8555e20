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
    ) -> None:
        """``do(item, check)`` does one item and calls ``check`` as often as it can be stopped.

        ``check``, called from every thread, raises to stop the whole run; so does an error out of ``do``.
        """
        self._do = do
        self._at_once = at_once
        self._cost = cost
        self._budget = budget
        self._check = check
        self._ending = threading.Event()
        self._ended: queue.SimpleQueue[tuple[Item, Result | None, BaseException | None]] = queue.SimpleQueue()

    def results(self, items: Sequence[Item]) -> Generator[Result]:
        """Yield each item's result as it comes.

        However this ends, by the first error or by the caller's leaving, no thread is left behind.
        """
        waiting, in_hand, cost = list(reversed(items)), 0, 0.0
        try:
            while waiting or in_hand:
                while waiting and self._fits(waiting[-1], in_hand, cost):
                    item = waiting.pop()
                    cost += self._cost(item)
                    in_hand += 1
                    threading.Thread(target=self._work, args=(item,), name="srbatch photo").start()
                item, result, error = self._next()
                cost -= self._cost(item)
                in_hand -= 1
                if error is not None:
                    raise error
                yield result  # type: ignore[misc]  # without an error there is one
        finally:
            self._ending.set()
            for _ in range(in_hand):
                self._ended.get()

    def _fits(self, item: Item, in_hand: int, cost: float) -> bool:
        return in_hand == 0 or (in_hand < self._at_once and cost + self._cost(item) <= self._budget)

    def _next(self) -> tuple[Item, Result | None, BaseException | None]:
        while True:
            self._check()
            try:
                return self._ended.get(timeout=_POLL_S)
            except queue.Empty:
                continue

    def _work(self, item: Item) -> None:
        try:
            self._ended.put((item, self._do(item, self._check_item), None))
        except BaseException as error:
            self._ended.put((item, None, error))

    def _check_item(self) -> None:
        if self._ending.is_set():
            raise Abandoned("the run is ending")
        self._check()

"""Several photos in hand at once: order, budget, errors, and that nothing is left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srbatch.overlap import Abandoned, Overlap

Check = Callable[[], None]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def _until_stopped(check: Check) -> None:
    while True:
        check()
        time.sleep(0.001)


class Hands:
    """Counts what is in hand."""

    def __init__(self, costs: list[int]) -> None:
        self.costs, self.turn = costs, threading.Lock()
        self.in_hand: list[int] = []
        self.begun: list[int] = []
        self.worst_count, self.worst_cost = 0, 0

    def do(self, item: int, check: Check) -> int:
        with self.turn:
            self.in_hand.append(item)
            self.begun.append(item)
            self.worst_count = max(self.worst_count, len(self.in_hand))
            if len(self.in_hand) > 1:
                self.worst_cost = max(self.worst_cost, sum(self.costs[i] for i in self.in_hand))
        time.sleep(0.0005)
        with self.turn:
            self.in_hand.remove(item)
        return item * item


@settings(max_examples=30)
@given(st.lists(st.integers(0, 100), max_size=12), st.integers(1, 4), st.integers(1, 150))
def test_each_item_once_within_the_budget(costs: list[int], at_once: int, budget: int) -> None:
    hands = Hands(costs)
    overlap = Overlap(hands.do, at_once=at_once, cost=lambda i: costs[i], budget=budget)
    results = list(overlap.results(range(len(costs))))
    assert sorted(results) == [i * i for i in range(len(costs))]
    assert hands.worst_count <= at_once
    assert hands.worst_cost <= budget


def test_items_do_overlap() -> None:
    together = threading.Barrier(3)
    overlap = Overlap(lambda i, check: together.wait(timeout=10), at_once=3, cost=lambda i: 1, budget=3)
    assert sorted(overlap.results(range(9))) == sorted([0, 1, 2] * 3), "also when others were done before"


def test_a_large_item_is_not_overtaken_while_it_waits_and_then_goes_alone() -> None:
    costs = [1, 1, 1000, 1, 1]
    hands = Hands(costs)
    list(Overlap(hands.do, at_once=2, cost=lambda i: costs[i], budget=10).results(range(5)))
    assert hands.begun.index(2) == 2
    assert hands.worst_cost <= 10


def test_the_first_error_ends_the_others_and_comes_out() -> None:
    stopped: list[BaseException] = []
    begun = threading.Event()

    def do(item: int, check: Check) -> None:
        if item == 1:
            begun.wait(10)
            raise OSError("the disk is full")
        begun.set()
        try:
            _until_stopped(check)
        except BaseException as error:
            stopped.append(error)
            raise

    overlap = Overlap(do, at_once=2, cost=lambda i: 1, budget=10)
    with pytest.raises(OSError, match="the disk is full"):
        list(overlap.results(range(5)))
    assert [type(error) for error in stopped] == [Abandoned]


def test_a_check_that_raises_ends_all() -> None:
    ended: list[int] = []
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise KeyboardInterrupt

    def do(item: int, check: Check) -> None:
        stop.set()
        try:
            _until_stopped(check)
        finally:
            ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        list(Overlap(do, at_once=3, cost=lambda i: 1, budget=10, check=check).results(range(5)))
    assert set(ended) <= {0, 1, 2}
    assert ended


def test_once_it_does_not_go_on_what_is_in_hand_is_the_last() -> None:
    going = threading.Event()
    going.set()

    def do(item: int, check: Check) -> int:
        if item == 1:
            going.clear()
        return item

    overlap = Overlap(do, at_once=1, cost=lambda i: 1, budget=10, goes_on=going.is_set)
    assert list(overlap.results(range(9))) == [0, 1]
    assert list(Overlap(do, at_once=1, cost=lambda i: 1, budget=10, goes_on=going.is_set).results([5])) == []


def test_who_leaves_early_leaves_nothing_running() -> None:
    done: list[int] = []

    def do(item: int, check: Check) -> int:
        if item:
            with pytest.raises(Abandoned):
                _until_stopped(check)
        done.append(item)
        return item

    with closing(Overlap(do, at_once=3, cost=lambda i: 1, budget=10).results(range(9))) as results:
        assert next(results) == 0
    assert sorted(done) == [0, 1, 2]


def test_what_reaches_its_end_while_the_run_is_ending_is_not_lost() -> None:
    def do(item: int, check: Check) -> int:
        if item == 0:
            raise OSError("the disk is full")
        with pytest.raises(Abandoned):
            _until_stopped(check)
        return item  # all the same, as from a commit, which asks nobody

    results: list[int] = []
    overlap = Overlap(do, at_once=3, cost=lambda i: 1, budget=10)
    with pytest.raises(OSError, match="the disk is full"):
        results.extend(overlap.results(range(5)))
    assert sorted(results) == [1, 2]


def test_a_thread_that_cannot_be_started_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = threading.Thread.start, 0

    def start(thread: threading.Thread) -> None:
        nonlocal started
        started += 1
        if started == 2:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    overlap = Overlap(lambda i, check: i, at_once=3, cost=lambda i: 1, budget=10)
    results: list[int] = []
    caller = threading.Thread(target=_collect, args=(overlap, results), daemon=True)
    real(caller)
    caller.join(10)
    assert not caller.is_alive(), "it waits for a thread that never was"
    assert results == [0]


def _collect(overlap: Overlap[int, int], results: list[int]) -> None:
    with pytest.raises(RuntimeError, match="new thread"):
        results.extend(overlap.results(range(5)))

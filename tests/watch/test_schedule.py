"""Which photos are due, and when a failure is tried again."""

from __future__ import annotations

from srbatch.watch.schedule import PAUSES_S, RetrySchedule
from tests.conftest import Clock
from tests.watch.conftest import photo


def test_new_and_changed_photos_are_judged_once(clock: Clock) -> None:
    retries, changed = RetrySchedule(clock=clock), photo(size=11)
    assert retries.pick([photo()]) == ([photo()], [])
    retries.ended(photo())
    assert retries.pick([photo()]) == ([], [])
    assert retries.pick([photo()], everything=True) == ([photo()], [])
    assert retries.pick([changed]) == ([changed], [])


def test_what_is_left_of_a_comparison_is_judged_too(clock: Clock) -> None:
    retries = RetrySchedule(clock=clock)
    for one in (photo(), photo("b.jpg")):
        retries.ended(one)
    both = [photo(), photo("b.jpg")]
    assert retries.pick(both, also={photo("b.jpg").source}) == ([photo("b.jpg")], [])


def test_a_failure_is_tried_again_with_growing_pauses_and_then_given_up(clock: Clock) -> None:
    retries = RetrySchedule(clock=clock)
    for pause_s in PAUSES_S:
        assert retries.failed(photo(), final=False) == pause_s
        assert retries.due == clock.time + pause_s
        assert retries.pick([photo()], everything=True) == ([], [])
        clock.time += pause_s
        assert retries.pick([photo()]) == ([], [photo()])
    assert retries.failed(photo(), final=False) is None
    assert retries.due is None
    assert retries.pick([photo()], everything=True) == ([], [])
    assert retries.failures == 1
    assert retries.pick([photo(mtime_ns=6)]) == ([photo(mtime_ns=6)], [])
    assert retries.failed(photo(mtime_ns=6), final=False) == PAUSES_S[0], "it begins anew"


def test_what_time_does_not_mend_is_given_up_at_once(clock: Clock) -> None:
    retries = RetrySchedule(clock=clock)
    assert retries.failed(photo(), final=True) is None
    retries.pick([])
    assert retries.failures == 0, "it is gone"


def test_what_may_last_is_tried_again_without_end_and_is_not_counted_among_other_failures(
    clock: Clock,
) -> None:
    retries = RetrySchedule(clock=clock)
    for pause_s in (*PAUSES_S, *[PAUSES_S[-1]] * 100):
        assert retries.failed(photo(), final=False, endless=True) == pause_s
        assert retries.due == clock.time + pause_s
        clock.time += pause_s
    for pause_s in (*PAUSES_S, None):
        assert retries.failed(photo(), final=False) == pause_s

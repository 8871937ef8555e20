"""Which photos are due, and when a failure is tried again."""

from __future__ import annotations

from srbatch.watch.agenda import PAUSES_S, Agenda
from tests.conftest import Clock
from tests.watch.conftest import photo


def test_new_and_changed_photos_are_judged_once(clock: Clock) -> None:
    agenda, changed = Agenda(clock=clock), photo(size=11)
    assert agenda.pick([photo()]) == ([photo()], [])
    agenda.ended(photo())
    assert agenda.pick([photo()]) == ([], [])
    assert agenda.pick([photo()], everything=True) == ([photo()], [])
    assert agenda.pick([changed]) == ([changed], [])


def test_a_failure_is_tried_again_with_growing_pauses_and_then_given_up(clock: Clock) -> None:
    agenda = Agenda(clock=clock)
    for pause_s in PAUSES_S:
        assert agenda.failed(photo(), final=False) == pause_s
        assert agenda.due == clock.time + pause_s
        assert agenda.pick([photo()], everything=True) == ([], [])
        clock.time += pause_s
        assert agenda.pick([photo()]) == ([], [photo()])
    assert agenda.failed(photo(), final=False) is None
    assert agenda.due is None
    assert agenda.pick([photo()], everything=True) == ([], [])
    assert agenda.failures == 1
    assert agenda.pick([photo(mtime_ns=6)]) == ([photo(mtime_ns=6)], [])
    assert agenda.failed(photo(mtime_ns=6), final=False) == PAUSES_S[0], "it begins anew"


def test_what_time_does_not_mend_is_given_up_at_once(clock: Clock) -> None:
    agenda = Agenda(clock=clock)
    assert agenda.failed(photo(), final=True) is None
    agenda.pick([])
    assert agenda.failures == 0, "it is gone"

"""How fast it goes and how long it will take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.reporting import report
from srbatch.reporting.outcome import duration
from srbatch.reporting.report import Pace
from tests.reporting.report.conftest import Clock, photo


def test_pace_is_by_pixels_and_time(clock: Clock) -> None:
    pace = Pace(1_000_000)
    assert pace.left_s is None
    pace.started(photo(), 400_000)
    clock.now += 10
    pace.progress(photo(), 100_000)
    assert (pace.done, pace.rate, pace.left_s) == (100_000, 10_000, 90)
    clock.now += 10
    pace.progress(photo(), 100_000)
    assert (pace.done, pace.rate, pace.left_s) == (200_000, 10_000, 80)


def test_all_of_a_photo_counts_when_it_ends_however(clock: Clock) -> None:
    pace = Pace(1_000_000)
    pace.started(photo(), 400_000)
    pace.progress(photo(), 1_000)
    pace.finished(photo())
    assert pace.done == 400_000
    pace.started(photo(), 600_000)
    assert pace.done == 400_000
    pace.finished(photo())
    assert pace.done == 1_000_000
    assert pace.left_s == 0


def test_a_photo_that_starts_again_is_not_counted_twice(clock: Clock) -> None:
    pace = Pace(1_000_000)
    pace.started(photo(), 400_000)
    pace.progress(photo(), 300_000)
    pace.progress(photo(), -300_000)
    assert (pace.done, pace.left_s) == (0, None)
    pace.progress(photo(), 100_000)
    assert pace.done == 100_000


def test_several_photos_in_hand_each_count_for_themselves(clock: Clock) -> None:
    pace = Pace(1_000_000)
    first, second = photo("a.jpg"), photo("b.jpg")
    pace.started(first, 400_000)
    pace.started(second, 600_000)
    pace.progress(second, 300_000)
    pace.progress(first, 100_000)
    assert pace.done == 400_000
    pace.finished(first)
    assert pace.done == 700_000
    assert [known.done for known in pace.in_hand.values()] == [300_000]


def test_a_photo_that_was_never_started_counts_for_nothing(clock: Clock) -> None:
    pace = Pace(1_000_000)
    pace.finished(photo())
    assert pace.done == 0


def test_no_time_at_all_is_no_division_by_zero(clock: Clock) -> None:
    pace = Pace(1_000_000)
    pace.started(photo(), 1_000_000)
    pace.progress(photo(), 500_000)
    assert pace.rate > 0
    assert "0.5 of 1.0 megapixels" in str(pace)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 1), st.floats(0, 1e5)), max_size=10))
def test_what_is_done_grows_to_all_pixels(photos: list[tuple[int, float, float]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(report, "time", SimpleNamespace(monotonic=clock.monotonic))
        pace, before = Pace(sum(pixels for pixels, _, _ in photos)), 0.0
        for pixels, share, seconds in photos:
            pace.started(photo(), pixels)
            clock.now += seconds
            pace.progress(photo(), pixels * share)
            assert before <= pace.done <= pace.pixels
            assert str(pace)
            pace.finished(photo())
            assert pace.done >= before
            before = pace.done
        assert pace.done == pace.pixels


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (100 * 3600 + 59 * 60, "100 h 59 min"),
    ],
)
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text

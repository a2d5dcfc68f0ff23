"""What the windows remember."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gpufn.scaling.windows import Growth, Peak, Steps

STEPS = st.lists(st.tuples(st.floats(0, 50), st.integers(0, 9)), min_size=1, max_size=30)


@given(STEPS, st.floats(1, 60))
def test_the_peak_is_that_of_the_window(steps: list[tuple[float, int]], seconds: float) -> None:
    """The peak is exactly the highest value of the last seconds."""
    peak, now, seen = Peak(60, now=0), 0.0, []
    for wait, value in steps:
        now += wait
        seen.append((now, value))
        peak.add(value, now=now)
        assert peak.over(seconds, now=now) == max(v for at, v in seen if at >= now - seconds)


@given(STEPS)
def test_the_mean_is_the_integral(steps: list[tuple[float, int]]) -> None:
    """The mean over a whole number of seconds is the exact integral, as far as it was watched, over its length."""
    window, now, value, segments = Steps(120, now=0), 0.0, 0, []
    for pause, following in steps:
        wait = float(round(pause))  # whole seconds: a cell that is cut counts by its mean
        segments.append((now, now + wait, value))
        now += wait
        window.add(following, now=now)
        value = following
    area = sum(max(0.0, min(end, now) - max(start, now - 30)) * v for start, end, v in segments)
    watched = min(30.0, now)
    assert window.area(30, now=now) == pytest.approx((area, watched))


def test_how_long_a_value_lasted() -> None:
    """Only the seconds within the window for which the condition holds are counted."""
    window = Steps(100, now=0)
    for at, value in ((0, 80), (10, 20), (15, 90), (20, 0)):
        window.add(value, now=at)
    assert window.lasting(lambda v: v > 50, 100, now=30) == pytest.approx(15)
    assert window.lasting(lambda v: v > 50, 20, now=30) == pytest.approx(5)


def test_the_size_of_a_window_is_bounded() -> None:
    """However often it is told something, and however long it is told nothing, it keeps a cell per second at most."""
    window = Steps(60, now=0)
    for n in range(20_000):
        window.add(n % 7, now=n / 100)
    assert len(window._cells) <= 62
    window.add(1, now=1e6)
    assert len(window._cells) <= 63
    assert window.mean(60, now=1e6) == pytest.approx(19_999 % 7)


def test_growth_is_that_of_the_last_seconds() -> None:
    """Growth is counted over the time asked for, and says over how much it could be."""
    growth = Growth(60, now=0)
    for second in range(1, 101):
        growth.add(second * 3, now=second)
    assert growth.over(10, now=100) == (30, 10)
    assert growth.over(60, now=100) == (180, 60)
    fresh = Growth(60, now=0)
    fresh.add(4, now=2)
    assert fresh.over(10, now=2) == (4, 2)

"""How many requests are to be served at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from gpufn.model.ids import AccountId, DeploymentId, FunctionId, InstanceId, SpecificationId, VersionId
from gpufn.model.instance import Instance
from gpufn.scaling.demand import START_UNKNOWN, Demand, Watch, needed, startup_time
from gpufn.scaling.load import Load

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def look(watch: Watch, now: float, *, startup: float = 5.0, present: bool = True) -> Demand:
    """The demand at ``now``."""
    return watch.demand(startup=startup, present=present, window=60.0, longest=300.0, now=now)


def test_the_first_request_that_waits_starts_an_instance() -> None:
    """With nothing there, anything queued needs an instance at once, however short requests are."""
    assert needed(Load(1), running=0, rate=0, service=None, wait=1, present=False) == 1
    assert needed(Load(1), running=0, rate=0, service=0.001, wait=30, present=False) == 1


def test_a_queue_that_is_soon_worked_off_starts_nothing() -> None:
    """Requests that are served by the present instances before another could start need none; long ones do."""
    queue = Load(20, 1)
    assert needed(queue, running=1, rate=0, service=0.01, wait=5, present=True) == 1
    assert needed(queue, running=1, rate=0, service=1.0, wait=5, present=True) == 5
    assert needed(queue, running=1, rate=0, service=60.0, wait=5, present=True) == 21
    assert needed(queue, running=1, rate=0, service=None, wait=5, present=True) == 21


def test_a_queue_shows_how_much_is_offered() -> None:
    """While requests wait, what arrives counts, not what the present instances can take of it."""
    assert needed(Load(1, 2), running=2, rate=10, service=1.0, wait=5, present=True) == 10


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0.001, 100), st.floats(1, 30))
def test_more_waiting_never_needs_less(queued: int, in_flight: int, service: float, wait: float) -> None:
    """The need grows with the queue, and is never more than everything at hand when nothing else arrives."""
    one = needed(Load(queued + 1, in_flight), running=in_flight, rate=0, service=service, wait=wait, present=True)
    two = needed(Load(queued + 2, in_flight), running=in_flight, rate=0, service=service, wait=wait, present=True)
    assert in_flight <= one <= two <= queued + 2 + in_flight


def test_a_blip_without_a_queue_starts_nothing() -> None:
    """Without a queue the mean of the burst window counts, so that a moment's load is not taken for more load."""
    watch = Watch(now=0)
    watch.see(Load(0, 4), now=0)
    watch.see(Load(0, 10), now=20)
    watch.see(Load(0, 4), now=20.5)
    assert look(watch, 21.0).requests == pytest.approx(4 + 6 * 0.5 / 6, abs=0.1)


def test_how_long_a_request_takes_is_learned() -> None:
    """Two at a time and ten served in ten seconds: each takes two seconds."""
    watch = Watch(now=0)
    for second in range(11):
        watch.see(Load(0, 2, served=100 + second), now=second)
    assert watch.service_time(now=10) == pytest.approx(20 / 11)


def test_long_requests_are_noticed_before_they_end() -> None:
    """While none ends, those that run are taken to be half done."""
    watch = Watch(now=0)
    for second in range(11):
        watch.see(Load(0, 1, served=second), now=second)
    assert watch.service_time(now=10) == pytest.approx(10 / 10.5)
    watch.see(Load(0, 1, served=10), now=200)
    assert watch.service_time(now=200) == pytest.approx(120)
    fresh = Watch(now=0)
    fresh.see(Load(0, 1), now=0)
    assert fresh.service_time(now=7) == pytest.approx(14)


def test_what_starts_slowly_is_kept_for_longer() -> None:
    """A load is remembered for a minute, or for as long as an instance takes to start, up to a limit."""
    watch = Watch(now=0)
    watch.see(Load(9), now=0)
    assert look(watch, 0, present=False).requests == 9
    watch.see(Load(0, 0, 0.0), now=1)
    assert look(watch, 59).peak == 9
    assert look(watch, 61).peak == 0
    assert look(watch, 61, startup=200).peak == 9
    assert look(watch, 301, startup=9999).peak == 0


def test_the_past_is_settled_after_a_window() -> None:
    """Until it has watched for as long as it would keep instances, nothing is known of the load before."""
    watch = Watch(now=0)
    assert [look(watch, now).settled for now in (0, 59, 60)] == [False, False, True]
    assert not look(watch, 100, startup=200).settled


def test_the_start_up_time_is_the_median_of_the_latest() -> None:
    """One slow start among five does not count, an old one neither; before the first, a guess stands in."""
    one = Instance(
        *(InstanceId("i"), DeploymentId("d"), SpecificationId("s"), VersionId("v"), FunctionId("f"), AccountId("a")),
        *("H100", "t", BEGIN, BEGIN),
    )
    assert startup_time([one]) == START_UNKNOWN
    taken = [500, 2, 3, 4, 90, 2]
    own = [
        replace(one, created_at=BEGIN + timedelta(hours=n), ready_at=BEGIN + timedelta(hours=n, seconds=s))
        for n, s in enumerate(taken)
    ]
    assert startup_time(own) == 3

"""Scaling against the reference's algorithm on simulated loads: the floor that must hold (docs/scaling.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scaling import Ours, compare, row
from scaling_reference import Reference
from scaling_scenarios import ALL, on_off
from scaling_world import Platform, Request, Scenario, simulate

CEILINGS = {
    "step": (5.0, 40),
    "ramp": (10.0, 30),
    "burst": (25.0, 180),
    "diurnal": (5.0, 50),
    "on-off": (32.0, 180),
}
"""95th percentile of the wait in seconds, and starts."""


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_ours_is_better(make: Callable[[], Scenario]) -> None:
    """On every load ours costs at least a quarter less, below ceilings; the page shows these very figures."""
    scenario = make()
    ours, reference = compare(scenario)
    longest, most = CEILINGS[scenario.name]
    assert ours.cost < 0.75 * reference.cost
    assert ours.p95_wait < longest
    assert ours.starts < most
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    assert row(scenario, "gpufn", ours) in page
    assert row(scenario, "reference", reference) in page


def test_ours_waits_less_where_the_load_changes() -> None:
    """Where a load comes at once, callers wait a fraction of the time."""
    ours, reference = compare(on_off())
    assert ours.mean_wait < reference.mean_wait / 10


def test_a_steady_load_does_not_flap() -> None:
    """Under an even load there is one start per instance, and no more."""
    steady = [Request(n * 2.0, 4.0) for n in range(900)]
    scenario = Scenario("steady", steady, 1800, startup=5.0)
    score = simulate(scenario, Ours(scenario))
    assert score.starts <= 3
    assert score.stops <= 1
    assert score.p95_wait < 1


def test_short_calls_need_few_instances() -> None:
    """A burst of calls that one instance serves in a moment does not start one for each."""
    calls = [Request(10.0 + n / 100, 0.5) for n in range(40)]
    scenario = Scenario("short", calls, 120, startup=20.0, slots=4)
    score = simulate(scenario, Ours(scenario))
    again = simulate(
        Scenario("again", [*calls, *(Request(r.at + 60, r.service) for r in calls)], 120, startup=20.0, slots=4),
        Ours(scenario),
    )
    assert again.starts == score.starts  # by then it is known how long they take


def test_the_maximum_holds() -> None:
    """There are never more instances to stay than the maximum."""

    class Watched(Ours):
        highest = 0

        def target(self, platform: Platform) -> int | None:
            self.highest = max(self.highest, len(platform.kept))
            return super().target(platform)

    scenario = Scenario("flood", [Request(1.0, 30.0)] * 100, 300, maximum=4)
    watched = Watched(scenario)
    simulate(scenario, watched)
    assert watched.highest == 4


def test_the_reference_as_its_page_says() -> None:
    """From zero one instance comes within a minute, and goes half an hour after the last request."""
    scenario = Scenario("one", [Request(60.0, 10.0)], 3600, startup=20.0)
    score = simulate(scenario, Reference())
    assert (score.starts, score.stops) == (1, 1)
    assert score.mean_wait < 60
    assert score.idle == pytest.approx(1800, abs=120)

"""From what gateways report to what a version needs now: how many requests are to be served at the same time.

Without a queue that is the mean of the running requests over the burst window, so that a blip starts nothing. With a
queue, what runs or arrives counts, and what the queue adds is counted by how long it would take: a new instance is
useful only after its start-up, so requests that the present ones will have served by then need none. ``wait`` is the
time within which a queue is to be worked off. A request that takes at least as long as ``wait`` counts in full; of
those that take a tenth of it, ten count as one. Where nothing has run yet nobody knows how long a request takes, and
each counts in full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpufn.model.instance import Instance
from gpufn.scaling.load import Load
from gpufn.scaling.windows import Growth, Peak, Steps

BURST = 6.0
"""Seconds of the window that looks for more load."""
STABLE = 60.0
"""Seconds of the window over which the time that a request takes is measured, and for which a load must have been lower
before instances go."""
WINDOWS = (BURST, 2 * BURST, 4 * BURST, STABLE)
"""Seconds of the windows in which arrivals are counted: the short ones see a burst soon, the long ones see it well."""
DOUBT = 1.5
"""Standard deviations by which a count of arrivals is taken to be smaller: what chance brings starts no instance."""
LONGEST_HOLD = 600.0
"""Seconds that are looked back at most: what starts slowly is kept for as long as its start takes."""
WAIT_MIN, WAIT_MAX = 1.0, 60.0
"""Seconds within which a queue is to be worked off, at least and at most."""
WAIT_STARTS = 2.0
"""In between, how many start-ups that is: one to start an instance, and as long again for it to be of use."""
START_UNKNOWN = 5.0
"""Seconds that an instance is taken to need for its start until one was seen to."""
STARTS = 5
"""How many of the latest starts the estimate is made of."""


@dataclass(frozen=True)
class Demand:
    """What a version needs. ``requests`` is how many are to be served at once; ``peak`` its highest value within
    ``hold`` seconds, which is worth something once ``settled``. ``idle``: seconds without any request, 0 under load.
    """

    load: Load
    requests: float
    peak: float
    hold: float
    settled: bool
    idle: float = 0.0


class Watch:
    """The recent past of one version."""

    def __init__(self, *, now: float) -> None:
        self._running = Steps(STABLE, now=now)
        self._served, self._arrived = Growth(STABLE, now=now), Growth(STABLE, now=now)
        self._needed = Peak(LONGEST_HOLD, now=now)
        self._load, self._service = Load(), 0.0
        self._served_before: int | None = None

    def see(self, load: Load, *, now: float) -> None:
        """Take what was reported."""
        if self._served_before is None:  # what was served before we watched says nothing
            self._served_before = load.served
        self._load = load
        served = load.served - self._served_before
        self._running.add(load.in_flight, now=now)
        self._served.add(served, now=now)
        self._arrived.add(served + load.in_flight + load.queued, now=now)

    def service_time(self, *, now: float) -> float | None:
        """Seconds that a request takes, or took when there last were any; None if that is not known.

        Those that still run are on average half done, which tells of long requests before the first has ended.
        """
        served, _ = self._served.over(STABLE, now=now)
        area, _ = self._running.area(STABLE, now=now)
        if area > 0 and (served or self._load.in_flight):
            self._service = area / (served + self._load.in_flight / 2)
        return self._service if self._service > 0 else None

    def demand(self, *, startup: float, present: bool, window: float, longest: float, now: float) -> Demand:
        """What is needed now. ``startup``: seconds an instance takes to start; ``present``: whether there is one;
        ``window``: seconds for which a load must have been lower before instances go; where they start more slowly
        than that, as long as their start takes, up to ``longest``.
        """
        requests = needed(
            self._load,
            running=self._running.mean(BURST, now=now),
            rate=self._rate(now),
            service=self.service_time(now=now),
            wait=min(max(WAIT_STARTS * startup, WAIT_MIN), WAIT_MAX),
            present=present,
        )
        self._needed.add(requests, now=now)
        hold = max(window, min(startup, longest, LONGEST_HOLD))
        idle = 0.0 if self._load.idle_since is None else now - self._load.idle_since
        return Demand(
            load=self._load,
            requests=requests,
            peak=self._needed.over(hold, now=now),
            hold=hold,
            settled=self._needed.has_watched(hold, now=now),
            idle=idle,
        )

    def _rate(self, now: float) -> float:
        """Arrivals per second that are beyond doubt: the highest, over several windows, of what chance can explain."""
        rate = 0.0
        for window in WINDOWS:
            arrived, seconds = self._arrived.over(window, now=now)
            if seconds >= 1.0:
                rate = max(rate, (arrived - DOUBT * math.sqrt(arrived)) / seconds)
        return rate


def needed(load: Load, *, running: float, rate: float, service: float | None, wait: float, present: bool) -> float:
    """How many requests are to be served at once. ``rate``: arrivals per second; the rest as in the module's text."""
    if not load.queued:
        return running
    backlog = load.queued * (1.0 if service is None else min(1.0, service / wait))
    busy = max(float(load.in_flight), rate * (service or 0.0))
    if not present:
        return max(1.0, busy + backlog)
    return busy + math.floor(backlog)


def startup_time(instances: Sequence[Instance]) -> float:
    """Seconds from an instance's creation until it was first ready: the median of the latest."""
    starts = sorted((i.ready_at, (i.ready_at - i.created_at).total_seconds()) for i in instances if i.ready_at)
    latest = sorted(seconds for _, seconds in starts[-STARTS:])
    return latest[len(latest) // 2] if latest else START_UNKNOWN

"""A simulated platform for one function: requests arrive, wait, are served by instances that take time to start.

Time goes in steps of ``STEP`` seconds. A scaler is asked for the number of instances at every step and may answer None
for no change. Nothing here is random: a scenario is a list of arrivals.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

STEP = 0.5
"""Seconds per step."""


@dataclass(frozen=True)
class Request:
    """When it arrives, and how long it takes to serve."""

    at: float
    service: float


@dataclass(frozen=True)
class Scenario:
    """What is asked of the function. ``startup``: seconds an instance takes to be ready."""

    name: str
    requests: Sequence[Request]
    seconds: float
    startup: float = 20.0
    slots: int = 1
    maximum: int = 20


@dataclass
class Machine:
    """One instance. ``going``: it takes nothing new and ends with its last request."""

    created: float
    ready: float
    ends: list[float] = field(default_factory=list)
    going: bool = False

    def is_ready(self, now: float) -> bool:
        return now >= self.ready


class Platform:
    """What scalers may look at."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = 0.0
        self.queue: deque[Request] = deque()
        self.machines: list[Machine] = []
        self.arrived = self.served = self.starts = self.stops = 0
        self.waits: list[float] = []
        self.busy_seconds = self.held_seconds = 0.0
        self.last_arrival = -math.inf
        self.startups: list[float] = []

    @property
    def kept(self) -> list[Machine]:
        """Those that are to stay."""
        return [m for m in self.machines if not m.going]

    @property
    def ready(self) -> int:
        return sum(m.is_ready(self.now) for m in self.kept)

    @property
    def in_flight(self) -> int:
        return sum(len(m.ends) for m in self.machines)


class Scaler(Protocol):
    """Says how many instances there are to be, and which go first when there are too many."""

    def target(self, platform: Platform) -> int | None:
        """The number of instances, or None for what there is."""
        ...

    def victims(self, platform: Platform, count: int) -> list[Machine]:
        """Up to ``count`` instances to end."""
        ...


@dataclass(frozen=True)
class Score:
    """What it cost. ``cost`` puts the three into one number of GPU-seconds: an idle GPU-second counts 1, a second that
    somebody waited for an instance 1, and a start ``PER_START`` beyond the time that it takes.
    """

    PER_START = 10.0

    mean_wait: float
    p95_wait: float
    waited: float
    idle: float
    starts: int
    stops: int

    @property
    def cost(self) -> float:
        return self.waited + self.idle + self.starts * self.PER_START


def simulate(scenario: Scenario, scaler: Scaler) -> Score:
    """Run the scenario to its end. What still waits then has waited until then."""
    platform = Platform(scenario)
    coming = deque(sorted(scenario.requests, key=lambda r: r.at))
    while platform.now < scenario.seconds:
        _finish(platform)
        while coming and coming[0].at <= platform.now:
            platform.queue.append(coming.popleft())
            platform.arrived += 1
            platform.last_arrival = platform.now
        _dispatch(platform)
        wanted = scaler.target(platform)
        if wanted is not None:
            _scale(platform, scaler, wanted)
        platform.held_seconds += STEP * len(platform.machines)
        platform.busy_seconds += STEP * sum(min(len(m.ends) / scenario.slots, 1.0) for m in platform.machines)
        platform.now += STEP
    return _score(platform)


def _finish(platform: Platform) -> None:
    for machine in list(platform.machines):
        left = [end for end in machine.ends if end > platform.now]
        platform.served += len(machine.ends) - len(left)
        machine.ends = left
        if machine.going and not left:
            platform.machines.remove(machine)


def _dispatch(platform: Platform) -> None:
    able = [m for m in platform.kept if m.is_ready(platform.now)]
    while platform.queue and able:
        machine = min(able, key=lambda m: len(m.ends))
        if len(machine.ends) >= platform.scenario.slots:
            return
        request = platform.queue.popleft()
        machine.ends.append(platform.now + request.service)
        platform.waits.append(platform.now - request.at)


def _scale(platform: Platform, scaler: Scaler, wanted: int) -> None:
    present = len(platform.kept)
    for _ in range(wanted - present):
        ready = platform.now + platform.scenario.startup
        platform.machines.append(Machine(platform.now, ready))
        platform.startups.append(ready)
        platform.starts += 1
    if wanted < present:
        for machine in scaler.victims(platform, present - wanted):
            machine.going = True
            platform.stops += 1
        _finish(platform)


def _score(platform: Platform) -> Score:
    waits = sorted([*platform.waits, *(platform.now - r.at for r in platform.queue)])
    return Score(
        mean_wait=sum(waits) / len(waits),
        p95_wait=waits[int(len(waits) * 0.95)],
        waited=sum(waits),
        idle=platform.held_seconds - platform.busy_seconds,
        starts=platform.starts,
        stops=platform.stops,
    )

"""How many instances a version should have. Pure arithmetic over its load.

Up at once: there are to be enough instances for everything queued or running, at ``TARGET`` of their slots; an instance
with one slot counts as one request, so that a single call never starts two instances. Down only to what the peak of the
last ``window`` seconds needs. To zero, where every minimum is 0, only after ``idle_to_zero`` seconds without any
request; from zero with the first one. GPU specifications are filled in their preferred order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from gpufn.model.deployment import GpuSpecification
from gpufn.model.ids import SpecificationId
from gpufn.scaling.load import Load

TARGET = 0.8
"""The share of its slots that an instance should have taken when the load is steady."""


@dataclass(frozen=True)
class Policy:
    """Times in seconds. ``window``: how long a load must have been lower before instances go."""

    window: float = 60.0
    idle_to_zero: float = 300.0


@dataclass(frozen=True)
class Desired:
    """The word on one specification, with the reason in one sentence."""

    specification_id: SpecificationId
    count: int
    reason: str


class Peak:
    """The highest of the values of the last ``window`` seconds. Remembers only those that can still become it."""

    def __init__(self, window: float, *, now: float) -> None:
        self._window, self._began = window, now
        self._falling: deque[tuple[float, int]] = deque()

    def add(self, value: int, *, now: float) -> int:
        """Take a value, and return the peak including it."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((now, value))
        while self._falling[0][0] < now - self._window:
            self._falling.popleft()
        return self._falling[0][1]

    def is_settled(self, *, now: float) -> bool:
        """Whether it has been watching for a whole window; before, the load may have been higher than it knows."""
        return now - self._began >= self._window


def fill(specs: Sequence[GpuSpecification], requests: int) -> dict[SpecificationId, int]:
    """Instances per specification for ``requests`` at once: the minimum, then more in preferred order."""
    counts = {spec.id: spec.min_instances for spec in specs}
    room = float(requests) - sum(spec.min_instances * _carries(spec) for spec in specs)
    for spec in sorted(specs, key=lambda s: s.preferred_order):
        if room <= 0:
            break
        more = min(spec.max_instances - spec.min_instances, math.ceil(room / _carries(spec)))
        counts[spec.id] += more
        room -= more * _carries(spec)
    return counts


def decide(
    specs: Sequence[GpuSpecification], load: Load, *, peak: int, settled: bool, now: float, policy: Policy
) -> list[Desired]:
    """The desired count of every specification, in their order.

    ``peak`` is the highest number of requests of the last window; unless ``settled``, nothing goes down.
    """
    requests = load.queued + load.in_flight
    needed = fill(specs, requests)
    counts = fill(specs, max(peak, requests))
    if not settled:
        counts = {s.id: min(max(counts[s.id], s.desired), s.max_instances) for s in specs}
    idle = now - load.idle_since if load.idle_since is not None else 0.0
    kept = None
    if sum(counts.values()) == 0 and any(s.desired > 0 for s in specs) and idle < policy.idle_to_zero:
        kept = min(specs, key=lambda s: (s.desired == 0, s.preferred_order)).id
        counts[kept] = 1
    return [Desired(s.id, counts[s.id], _reason(s, counts[s.id], needed[s.id], load, idle, policy)) for s in specs]


def _carries(spec: GpuSpecification) -> float:
    """Requests one instance should have at once."""
    return max(1.0, spec.max_request_concurrency * TARGET)


def _reason(spec: GpuSpecification, count: int, needed: int, load: Load, idle: float, policy: Policy) -> str:
    if count > needed and count > spec.min_instances:
        if load.idle_since is not None and count == 1:
            return f"idle for {idle:.0f} s; the last instance goes after {policy.idle_to_zero:g} s"
        return f"the load of the last {policy.window:g} s needed {count}"
    if count == spec.max_instances and count > spec.min_instances:
        return f"{load.queued} queued and {load.in_flight} running requests need the maximum of {count}"
    if count > spec.min_instances:
        return f"{load.queued} queued and {load.in_flight} running requests need {count}"
    if count == 0:
        return f"no request for {idle:.0f} s" if load.idle_since is not None else "other GPU specifications suffice"
    return "the minimum suffices"

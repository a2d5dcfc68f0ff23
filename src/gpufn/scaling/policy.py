"""How many instances a version should have. Pure arithmetic over its demand.

Up at once: there are to be enough instances for what is needed, at ``TARGET`` of their slots; an instance with one slot
counts as one request, so that a single call never starts two instances. Down only to what the highest need of the last
window was. To zero, where the minimum is 0, only after the idle time; from zero with the first request that waits. GPU
specifications are filled in their preferred order; one with rules of its own goes by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpufn.model.deployment import GpuSpecification
from gpufn.model.ids import SpecificationId
from gpufn.scaling import rules
from gpufn.scaling.demand import STABLE, Demand
from gpufn.scaling.rules import RuleWatch, Seen

TARGET = 0.8
"""The share of its slots that an instance should have taken when the load is steady."""
CLOSE = 1e-9
"""Means of windows are sums of parts: this much above a whole number is that number."""


@dataclass(frozen=True)
class Policy:
    """Times in seconds. ``window``: how long a load must have been lower before instances go."""

    window: float = STABLE
    idle_to_zero: float = 300.0

    def idle_timeout(self, spec: GpuSpecification) -> float:
        """After how many seconds without a request the specification has no instance, if its minimum is 0."""
        own = spec.autoscaling.idle_timeout if spec.autoscaling is not None else None
        return self.idle_to_zero if own is None else own.total_seconds()


@dataclass(frozen=True)
class Desired:
    """The word on one specification, with the reason in one sentence. ``stepped``: a rule of its own spoke."""

    specification_id: SpecificationId
    count: int
    reason: str
    stepped: bool = False


def fill(
    specs: Sequence[GpuSpecification], requests: float, *, fixed: Mapping[SpecificationId, int] | None = None
) -> dict[SpecificationId, int]:
    """Instances per specification for ``requests`` at once: the minimum, then more in preferred order.

    ``fixed`` are counts that are settled already; the others take what those do not carry.
    """
    counts = {spec.id: (fixed or {}).get(spec.id, spec.min_instances) for spec in specs}
    room = requests - CLOSE - sum(counts[spec.id] * _carries(spec) for spec in specs)
    for spec in sorted(specs, key=lambda s: s.preferred_order):
        if room <= 0:
            break
        if spec.id in (fixed or {}):
            continue
        more = min(spec.max_instances - spec.min_instances, math.ceil(room / _carries(spec)))
        counts[spec.id] += more
        room -= more * _carries(spec)
    return counts


def decide(
    specs: Sequence[GpuSpecification],
    demand: Demand,
    *,
    seen: Mapping[SpecificationId, Seen] | None = None,
    watches: Mapping[SpecificationId, RuleWatch] | None = None,
    now: float,
    policy: Policy,
) -> list[Desired]:
    """The desired count of every specification, in their order.

    ``seen`` and ``watches`` are needed for specifications with rules of their own. Until the demand is settled,
    nothing that follows it goes down.
    """
    followed = _followed(specs, demand, {})
    ruled: dict[SpecificationId, tuple[int, str]] = {}
    for spec in specs:
        watch = (watches or {}).get(spec.id)
        if spec.autoscaling is not None and _has_rules(spec) and watch is not None:
            one = (seen or {}).get(spec.id, Seen())
            ruling = rules.count(spec, spec.autoscaling, watch, one, followed=followed[spec.id], now=now)
            if ruling is not None:
                ruled[spec.id] = _bounded(spec, ruling[0]), ruling[1]
    counts = _followed(specs, demand, {name: count for name, (count, _) in ruled.items()})
    _to_and_from_zero(specs, counts, demand, policy)
    needed = fill(specs, demand.requests)
    words = []
    for spec in specs:
        count = counts[spec.id]
        if spec.id in ruled and ruled[spec.id][0] == count:
            words.append(Desired(spec.id, count, ruled[spec.id][1], stepped=count != spec.desired))
        else:
            words.append(Desired(spec.id, count, _reason(spec, count, needed[spec.id], demand, policy)))
    return words


def _has_rules(spec: GpuSpecification) -> bool:
    own = spec.autoscaling
    return own is not None and (own.scale_up or own.scale_down) is not None and rules.problem(own) is None


def _bounded(spec: GpuSpecification, count: int) -> int:
    return min(max(count, spec.min_instances), spec.max_instances)


def _followed(
    specs: Sequence[GpuSpecification], demand: Demand, fixed: Mapping[SpecificationId, int]
) -> dict[SpecificationId, int]:
    """What the load needs: at least for now, and no less than the highest need of the last window."""
    counts = fill(specs, max(demand.peak, demand.requests), fixed=fixed)
    if not demand.settled:
        for spec in specs:
            if spec.id not in fixed:
                counts[spec.id] = min(max(counts[spec.id], spec.desired), spec.max_instances)
    return counts


def _to_and_from_zero(
    specs: Sequence[GpuSpecification], counts: dict[SpecificationId, int], demand: Demand, policy: Policy
) -> None:
    """Idle for its time, a specification goes to its minimum; until then the last instance stays."""
    if demand.load.idle_since is None:
        if sum(counts.values()) == 0:  # something runs or waits, however little
            counts[min(specs, key=lambda s: s.preferred_order).id] = 1
        return
    for spec in specs:
        if spec.min_instances == 0 and demand.idle >= policy.idle_timeout(spec):
            counts[spec.id] = 0
    warm = [s for s in specs if s.desired > 0 and demand.idle < policy.idle_timeout(s)]
    if warm and sum(counts.values()) == 0:
        counts[min(warm, key=lambda s: s.preferred_order).id] = 1


def _carries(spec: GpuSpecification) -> float:
    """Requests one instance should have at once."""
    return max(1.0, spec.max_request_concurrency * TARGET)


def _reason(spec: GpuSpecification, count: int, needed: int, demand: Demand, policy: Policy) -> str:
    text = _following(spec, count, needed, demand, policy)
    own = spec.autoscaling
    ignored = rules.problem(own) if own is not None else None
    return f"{text} (its autoscalingConfiguration is not followed: {ignored})" if ignored else text


def _following(spec: GpuSpecification, count: int, needed: int, demand: Demand, policy: Policy) -> str:
    load = demand.load
    if count > needed and count > spec.min_instances:
        if load.idle_since is not None and count == 1:
            return f"idle for {demand.idle:.0f} s; the last instance goes after {policy.idle_timeout(spec):g} s"
        return f"the load of the last {demand.hold:.0f} s needed {count}"
    if count == spec.max_instances and count > spec.min_instances:
        return f"{load.queued} queued and {load.in_flight} running requests need the maximum of {count}"
    if count > spec.min_instances:
        return f"{load.queued} queued and {load.in_flight} running requests need {count}"
    if count == 0:
        return f"no request for {demand.idle:.0f} s" if load.idle_since is not None else "the others suffice"
    return "the minimum suffices"

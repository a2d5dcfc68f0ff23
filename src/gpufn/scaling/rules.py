"""A specification's own rules: ``autoscalingConfiguration`` (autoscaling page, sections 3 and 6).

A rule multiplies the number of running instances by its factor when its metric is beyond its threshold; with
stickiness only when it was so for ``threshold`` of the last ``size``. Up is tried first. A direction without a rule
follows the load, as everything does without a configuration. Zero is reached and left as always.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gpufn.model.deployment import Autoscaling, GpuSpecification, ScalingRule
from gpufn.scaling.demand import BURST, STABLE
from gpufn.scaling.windows import Steps

EVERY = 15.0
"""Seconds between two steps of a rule, as in the reference (autoscaling page, section 1)."""
LONGEST = 3600.0
"""Seconds that a rule may look back: ``stickiness.size`` is at most an hour."""
UTILIZATION, QUEUE = "worker_utilization", "queue_length"
"""The metrics a rule may name: the share of an instance's slots that are taken, in percent (the default), or the
requests that wait per running instance."""


@dataclass(frozen=True)
class Seen:
    """The instances of one specification: how many are ready, and how many requests they serve."""

    ready: int = 0
    busy: int = 0


class RuleWatch:
    """The metrics of one specification over time, and when a rule last took a step."""

    def __init__(self, *, now: float) -> None:
        self.metrics: Mapping[str, Steps] = {name: Steps(LONGEST, now=now) for name in (UTILIZATION, QUEUE)}
        self.stepped_at = -math.inf

    def see(self, spec: GpuSpecification, seen: Seen, *, queued: int, now: float) -> None:
        """Take the state of the specification. Without a ready instance, requests that wait count as full use."""
        if seen.ready:
            used = 100.0 * seen.busy / (seen.ready * spec.max_request_concurrency)
        else:
            used = 100.0 if queued else 0.0
        self.metrics[UTILIZATION].add(used, now=now)
        self.metrics[QUEUE].add(queued / max(seen.ready, 1), now=now)


def problem(autoscaling: Autoscaling) -> str | None:
    """Why rules cannot be followed (then the load is), or None (autoscaling page, section 6)."""
    up, down = autoscaling.scale_up, autoscaling.scale_down
    for rule in (up, down):
        if rule is not None and _metric(rule) is None:
            return f"there is no metric {rule.metric!r}; use {UTILIZATION} or {QUEUE}"
    if up is not None and down is not None and _metric(up) == _metric(down) and up.threshold <= down.threshold:
        return f"its threshold up, {up.threshold}, is not above that down, {down.threshold}"
    return None


def count(
    spec: GpuSpecification, autoscaling: Autoscaling, watch: RuleWatch, seen: Seen, *, followed: int, now: float
) -> tuple[int, str] | None:
    """How many instances the rules want, with the reason; None when the load decides, which needs ``followed``."""
    up, down = autoscaling.scale_up, autoscaling.scale_down
    base = max(seen.ready, 1)
    may_step = now - watch.stepped_at >= EVERY
    if up is None and followed > spec.desired:
        return None
    if up is not None and may_step and _fires(up, watch, above=True, now=now):
        target = max(spec.desired, math.ceil(base * up.factor))
        return target, f"{_named(up)} was above {up.threshold}: {base} times {up.factor:g}"
    if down is None and followed < spec.desired:
        return None
    settled = may_step and seen.ready >= spec.desired
    if down is not None and settled and _fires(down, watch, above=False, now=now):
        target = min(spec.desired, max(1, math.floor(base * down.factor)))
        return target, f"{_named(down)} was below {down.threshold}: {base} times {down.factor:g}"
    return spec.desired, spec.desired_reason or "its rules ask for no change"


def _fires(rule: ScalingRule, watch: RuleWatch, *, above: bool, now: float) -> bool:
    steps = watch.metrics[_metric(rule) or UTILIZATION]
    beyond = _beyond(rule.threshold, above=above)
    if rule.stickiness is None:
        return beyond(steps.mean(BURST if above else STABLE, now=now))
    size, needed = rule.stickiness.size.total_seconds(), rule.stickiness.threshold.total_seconds()
    lasted = steps.lasting(beyond, size, now=now)
    return lasted > 0 and lasted >= needed


def _beyond(threshold: int, *, above: bool) -> Callable[[float], bool]:
    """Exactly at a threshold is not beyond it (section 3)."""
    return (lambda value: value > threshold) if above else (lambda value: value < threshold)


def _metric(rule: ScalingRule) -> str | None:
    name = (rule.metric or UTILIZATION).strip().lower() or UTILIZATION
    return name if name in (UTILIZATION, QUEUE) else None


def _named(rule: ScalingRule) -> str:
    return (_metric(rule) or UTILIZATION).replace("_", " ")

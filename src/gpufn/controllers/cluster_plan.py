"""What is known of a cluster after a look at it. Pure.

Silence is counted by this process's own clock, and only while it looks: after a pause of its own nobody is lost. A
cluster that was given up is used again only when nothing runs there any more that was replaced meanwhile (the fence).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from gpufn.model.cluster import Health


@dataclass(frozen=True)
class Look:
    """One look. ``problem``: why it did not answer, empty when it did; ``failing_for``: seconds since it last did, or
    since this process first looked; ``strangers``: what runs there without being wanted there.
    """

    problem: str = ""
    failing_for: float = 0.0
    strangers: int = 0


def seen(health: Health, look: Look, now: datetime, *, lost_after: float) -> Health:
    """The health of a cluster after ``look``."""
    if look.problem:
        failing_at = health.failing_at or now
        is_over = health.seen_at is not None and look.failing_for >= lost_after
        lost_at = health.lost_at or (now if is_over else None)
        return replace(health, failing_at=failing_at, lost_at=lost_at, problem=look.problem)
    if health.lost_at is not None and look.strangers:
        told = f"it answers again; {look.strangers} instances that were replaced meanwhile are being ended there first"
        return replace(health, seen_at=now, problem=told)
    return Health(seen_at=now)


def is_news(before: Health, after: Health, *, every: float) -> bool:
    """Whether it is to be written: a cluster that merely goes on answering only every so many seconds."""
    if replace(before, seen_at=None) != replace(after, seen_at=None) or before.seen_at is None:
        return before != after
    return after.seen_at is not None and (after.seen_at - before.seen_at).total_seconds() >= every

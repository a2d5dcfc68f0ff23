"""Saying what goes on, from what the API tells: pure, so that every phrase is tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

STARTING = ("pending", "starting")
LIVE = ("pending", "starting", "ready", "unhealthy", "draining")


def of_instances(instances: Sequence[dict[str, Any]]) -> str:
    """One phrase about a version's instances: ``starting: installing requirements``, ``1 ready, 1 starting``."""
    counts = Counter(str(i.get("status", "")).lower() for i in instances)
    starting = [i for i in instances if str(i.get("status", "")).lower() in STARTING]
    others = [f"{counts[status]} {status}" for status in ("ready", "unhealthy", "draining") if counts[status]]
    if starting:
        detail = next((str(i["detail"]) for i in starting if i.get("detail")), "")
        phrase = "starting" + (f": {detail}" if detail else "")
        return ", ".join([*others, f"{len(starting)} {phrase}"] if others or len(starting) > 1 else [phrase])
    return ", ".join(others) or "no instance"


def of_position(position: dict[str, Any]) -> str:
    """Where an invocation is: ``queued, position 2``, ``running``."""
    place = position.get("positionInQueue", 0)
    return (
        f"queued, position {place}" if isinstance(place, int) and place > 0 else str(position.get("phase") or "running")
    )

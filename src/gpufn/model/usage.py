"""What versions have used: seconds of instances and GPUs, those of them idle, and requests. Arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gpufn.model.instance import Instance, InstanceStatus


@dataclass(frozen=True)
class Usage:
    """Sums over some time. GPU seconds are instance seconds times the GPUs of the instance type; idle ones are those
    in which a ready instance served nothing: what scaling to zero would save at most.
    """

    instance_seconds: float = 0.0
    idle_instance_seconds: float = 0.0
    gpu_seconds: float = 0.0
    idle_gpu_seconds: float = 0.0
    requests: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.instance_seconds + other.instance_seconds,
            self.idle_instance_seconds + other.idle_instance_seconds,
            self.gpu_seconds + other.gpu_seconds,
            self.idle_gpu_seconds + other.idle_gpu_seconds,
            self.requests + other.requests,
        )


def spent(instance: Instance, since: datetime, now: datetime, *, gpus: int, busy: bool) -> Usage:
    """What one instance used between two looks, from its creation to its end. ``busy``: it serves something now."""
    seconds = (min(now, instance.ended_at or now) - max(since, instance.created_at)).total_seconds()
    if seconds <= 0:
        return Usage()
    idle = seconds if instance.status is InstanceStatus.READY and not busy else 0.0
    return Usage(seconds, idle, seconds * gpus, idle * gpus)

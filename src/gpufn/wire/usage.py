"""Usage as clients see it. gpufn's own."""

from __future__ import annotations

from gpufn.model.usage import Usage
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Timestamp


class UsageDto(Wire):
    """Sums. ``idleGpuSeconds``: what scaling to zero would save at most."""

    instance_seconds: float
    idle_instance_seconds: float
    gpu_seconds: float
    idle_gpu_seconds: float
    requests: int

    @staticmethod
    def of(usage: Usage) -> UsageDto:
        return UsageDto(
            instance_seconds=round(usage.instance_seconds, 3),
            idle_instance_seconds=round(usage.idle_instance_seconds, 3),
            gpu_seconds=round(usage.gpu_seconds, 3),
            idle_gpu_seconds=round(usage.idle_gpu_seconds, 3),
            requests=usage.requests,
        )


class VersionUsageDto(Wire):
    """What one version used."""

    function_id: str
    function_version_id: str
    usage: UsageDto


class UsageResponse(Wire):
    """What was used in the hours since ``since``, by version and in all."""

    since: Timestamp
    versions: tuple[VersionUsageDto, ...]
    total: UsageDto

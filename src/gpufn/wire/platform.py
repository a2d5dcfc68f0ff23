"""How the installation is doing. ``/health`` is NVCF's (control-plane page, section 22), the rest gpufn's own."""

from __future__ import annotations

from gpufn.wire.base import Wire
from gpufn.wire.clusters import GpuDto
from gpufn.wire.scalars import Timestamp


class HealthStatus(Wire):
    """The control plane answers."""

    status: str


class BackendDto(Wire):
    """A compute backend, and whether it works."""

    name: str
    working: bool
    detail: str


class CountsDto(Wire):
    """What the caller's account has."""

    functions: int
    versions: int
    deployments: int
    instances: int
    """Those that live."""
    queued: int
    in_flight: int


class RotationResponse(Wire):
    """A rotation of the master key: the id of the new one, and how many secrets are under it now."""

    master_key_id: str
    secrets: int


class StatusResponse(Wire):
    """``GET /v2/gpufn/status``."""

    version: str
    nca_id: str
    started_at: Timestamp
    uptime_seconds: float
    counts: CountsDto
    backends: tuple[BackendDto, ...]
    gpus: tuple[GpuDto, ...]

"""How the installation is doing. ``/health`` is NVCF's (control-plane page, section 22), the rest gpufn's own."""

from __future__ import annotations

from gpufn.wire.base import Wire
from gpufn.wire.clusters import GpuDto
from gpufn.wire.scalars import Timestamp


class HealthStatus(Wire):
    """Whether the control plane answers and can keep what it is given: ``UP`` or ``DOWN``."""

    status: str
    detail: str | None = None


class InfoDto(Wire):
    """What answers here (invocation-plane page, section 13.4). ``commit`` is empty: the version tells."""

    service: str
    version: str
    commit: str = ""


class BackendDto(Wire):
    """A compute backend, or the database, and whether it works."""

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
    database: BackendDto
    backends: tuple[BackendDto, ...]
    gpus: tuple[GpuDto, ...]

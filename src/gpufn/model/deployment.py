"""A deployment says how many instances of a version are wanted, on which GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gpufn.model.ids import AccountId, DeploymentId, FunctionId, SpecificationId, VersionId


class DeploymentWanted(StrEnum):
    """What the user asked for. Writer: ``api``. A deployment that is no longer wanted at all has no row."""

    UP = "up"
    DRAINED = "drained"
    """Graceful undeployment: serve what is queued, take nothing new, then go."""


@dataclass(frozen=True)
class Stickiness:
    """How long a scaling signal must last (control-plane page, section 8.5)."""

    size: timedelta
    threshold: timedelta


@dataclass(frozen=True)
class ScalingRule:
    """One direction of a custom autoscaling configuration."""

    factor: float
    threshold: int
    metric: str | None = None
    stickiness: Stickiness | None = None


@dataclass(frozen=True)
class Autoscaling:
    """``autoscalingConfiguration`` on the wire."""

    scale_up: ScalingRule | None = None
    scale_down: ScalingRule | None = None
    idle_timeout: timedelta | None = None
    """How long nothing may have been asked for before the last instance goes. None: as the settings say."""


@dataclass(frozen=True)
class Placement:
    """Where instances may run. Empty means anywhere; ``backend`` is a cluster group's name."""

    backend: str | None = None
    clusters: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    availability_zones: tuple[str, ...] = ()
    min_gpu_memory: str | None = None
    """The least memory of all devices of an instance together, as ``40Gi``. gpufn's own."""


@dataclass(frozen=True)
class GpuSpecification:
    """The wanted instances on one kind of GPU. ``desired`` and its reason are written by the autoscaler only."""

    id: SpecificationId
    gpu: str
    instance_type: str
    min_instances: int
    max_instances: int
    max_request_concurrency: int = 1
    preferred_order: int = 1
    placement: Placement = Placement()
    autoscaling: Autoscaling | None = None
    desired: int = 0
    desired_reason: str = ""


@dataclass(frozen=True)
class Deployment:
    """One version, deployed. ``activated_at``, ``failed_at`` and ``failure`` are observed, by the deployments
    controller; everything else is what the user asked for. ``specifications`` keep their order.
    """

    id: DeploymentId
    version_id: VersionId
    function_id: FunctionId
    nca_id: AccountId
    wanted: DeploymentWanted
    specifications: tuple[GpuSpecification, ...]
    created_at: datetime
    updated_at: datetime
    activated_at: datetime | None = None
    """When every specification first had its minimum of ready instances."""
    failed_at: datetime | None = None
    """When the controller gave up; set only before ``activated_at``."""
    failure: str | None = None
    revision: int = 0

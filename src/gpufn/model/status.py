"""The public status of a version, derived from what is wanted and what is observed. Nothing stores it.

The rules are those of the control-plane page, section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpufn.model.deployment import Deployment, DeploymentWanted, GpuSpecification
from gpufn.model.instance import Instance, InstanceStatus


class FunctionStatus(StrEnum):
    """``status`` and ``functionStatus`` on the wire."""

    INACTIVE = "INACTIVE"
    DEPLOYING = "DEPLOYING"
    ACTIVE = "ACTIVE"
    DEGRADING = "DEGRADING"
    DEGRADED = "DEGRADED"
    ERROR = "ERROR"

    @property
    def is_invocable(self) -> bool:
        """Whether an invocation is accepted (invocation-plane page, section 3.4)."""
        return self in (FunctionStatus.ACTIVE, FunctionStatus.DEGRADING)


@dataclass(frozen=True)
class HealthInfo:
    """One thing that is wrong with a deployment: ``healthInfo`` on the wire."""

    gpu: str
    instance_type: str
    backend: str
    error: str
    instance_id: str | None = None
    cluster_id: str = ""
    """Where that instance was; ``backend`` is the group that was asked for."""


@dataclass(frozen=True)
class Condition:
    """A version's public status and, where something is wrong, why."""

    status: FunctionStatus
    health: tuple[HealthInfo, ...] = ()


def condition(deployment: Deployment | None, instances: Sequence[Instance]) -> Condition:
    """Derive the public status. ``instances`` are all those of the deployment that are still recorded."""
    if deployment is None or deployment.wanted is DeploymentWanted.DRAINED:
        return Condition(FunctionStatus.INACTIVE)
    if deployment.failed_at is not None:
        return Condition(FunctionStatus.ERROR, _wrong(deployment, instances))
    specs = deployment.specifications
    if all(ready_count(spec, instances) >= spec.min_instances for spec in specs):
        return Condition(FunctionStatus.ACTIVE)
    wrong = _wrong(deployment, instances)
    if deployment.activated_at is None:
        return Condition(FunctionStatus.DEPLOYING, wrong)
    if any(i.is_live and i.wanted and not i.waits_for_room for i in instances):
        return Condition(FunctionStatus.DEGRADING, wrong)
    return Condition(FunctionStatus.DEGRADED, wrong)


def ready_count(spec: GpuSpecification, instances: Sequence[Instance]) -> int:
    """How many instances of ``spec`` can take work."""
    return sum(i.specification_id == spec.id and i.status is InstanceStatus.READY and i.wanted for i in instances)


def _wrong(deployment: Deployment, instances: Sequence[Instance]) -> tuple[HealthInfo, ...]:
    """The latest failure of each specification that lacks instances."""
    found = []
    for spec in deployment.specifications:
        if ready_count(spec, instances) >= max(spec.min_instances, 1):
            continue
        failed = [i for i in instances if i.specification_id == spec.id and i.failure is not None]
        if not failed:
            continue
        last = max(failed, key=lambda i: (i.ended_at or i.updated_at, i.id))
        message = last.failure.message if last.failure is not None else ""
        found.append(
            HealthInfo(
                gpu=spec.gpu,
                instance_type=spec.instance_type,
                backend=spec.placement.backend or "local",
                error=f"{spec.instance_type}: {message}",
                instance_id=last.id,
                cluster_id=last.cluster_id,
            )
        )
    return tuple(found)

"""One running copy of a version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gpufn.model.ids import AccountId, DeploymentId, FunctionId, InstanceId, SpecificationId, VersionId
from gpufn.model.machine import Machine
from gpufn.model.startup import Mark, StartPhase, entered


class InstanceStatus(StrEnum):
    """Where an instance is in its life. Writer: ``controllers/instances``."""

    PENDING = "pending"
    """Recorded; nothing has been asked of the backend that we know of."""
    STARTING = "starting"
    """Launched, not yet ready: its image is fetched, it boots, it loads."""
    READY = "ready"
    UNHEALTHY = "unhealthy"
    """Was ready; its health check fails. It gets no new work and may recover."""
    DRAINING = "draining"
    """Not wanted any more; finishes what it has."""
    TERMINATED = "terminated"
    ERRORED = "errored"


S = InstanceStatus

INSTANCE_MACHINE: Machine[InstanceStatus] = Machine(
    {
        S.PENDING: frozenset({S.STARTING, S.ERRORED, S.TERMINATED}),
        S.STARTING: frozenset({S.READY, S.DRAINING, S.ERRORED}),
        S.READY: frozenset({S.UNHEALTHY, S.DRAINING, S.ERRORED}),
        S.UNHEALTHY: frozenset({S.READY, S.DRAINING, S.ERRORED}),
        S.DRAINING: frozenset({S.TERMINATED}),
        S.TERMINATED: frozenset(),
        S.ERRORED: frozenset(),
    }
)


class FailureKind(StrEnum):
    """Why an instance failed."""

    IMAGE = "image"
    """The image does not exist, cannot be fetched or is broken."""
    START = "start"
    """It could not be started at all."""
    EXIT = "exit"
    """It ended by itself."""
    HEALTH = "health"
    """It ran but never became ready, or stayed unhealthy too long."""
    CAPACITY = "capacity"
    """No GPU (or port, or memory) is free for it."""
    LOST = "lost"
    """It vanished without a trace, e.g. with a reboot."""
    CLUSTER = "cluster"
    """Its whole cluster was lost. That says nothing about the instance, so it is no failed attempt."""


@dataclass(frozen=True)
class Failure:
    """``message`` is one plain sentence for the user: cause and remedy. ``permanent``: trying again cannot help."""

    kind: FailureKind
    message: str
    permanent: bool = False
    exit_code: int | None = None
    """Of what ended by itself: its exit code, negative for a signal; None where nobody knows it."""


@dataclass(frozen=True)
class Address:
    """Where an instance listens. ``shared_dir`` is the platform's directory as the instance sees it (``/var/inf`` in
    a container, a private directory in a process).
    """

    host: str
    port: int
    health_port: int
    shared_dir: str = "/var/inf"


@dataclass(frozen=True)
class Instance:
    """``wanted`` is written by the controller that created it; ``status`` and all that follows it by the instances
    controller.
    """

    id: InstanceId
    deployment_id: DeploymentId
    specification_id: SpecificationId
    version_id: VersionId
    function_id: FunctionId
    nca_id: AccountId
    gpu: str
    instance_type: str
    created_at: datetime
    updated_at: datetime
    wanted: bool = True
    status: InstanceStatus = InstanceStatus.PENDING
    detail: str = ""
    """What it is doing right now, for people: ``pulling 41 %``, ``health check answered 503``."""
    address: Address | None = None
    failure: Failure | None = None
    ready_at: datetime | None = None
    unhealthy_at: datetime | None = None
    draining_at: datetime | None = None
    ended_at: datetime | None = None
    revision: int = 0
    phases: tuple[Mark, ...] = ()
    """When each phase of its start began."""
    cluster_id: str = ""
    """Where it was placed; empty before that, and for what was recorded when there was one cluster only."""

    @property
    def is_live(self) -> bool:
        """Whether it has, or may have, something running."""
        return not INSTANCE_MACHINE.is_terminal(self.status)

    @property
    def was_placed(self) -> bool:
        """Whether it is in a cluster: the local one, where none is recorded but it was started."""
        return bool(self.cluster_id) or self.status is not InstanceStatus.PENDING

    @property
    def waits_for_room(self) -> bool:
        """Whether it was looked for a place, and there is none: nothing of it runs or starts."""
        return self.status is InstanceStatus.PENDING and not self.cluster_id and bool(self.detail)

    def to(self, status: InstanceStatus, *, now: datetime, failure: Failure | None = None) -> Instance:
        """The instance after a transition; raises Conflict when the machine does not allow it."""
        INSTANCE_MACHINE.check(self.status, status)
        after = replace(self, status=status, updated_at=now, detail="")
        match status:
            case S.READY:
                phases = entered(self.phases, StartPhase.READY, now)
                return replace(after, ready_at=self.ready_at or now, unhealthy_at=None, phases=phases)
            case S.UNHEALTHY:
                return replace(after, unhealthy_at=now)
            case S.DRAINING:
                return replace(after, draining_at=now)
            case S.TERMINATED | S.ERRORED:
                return replace(after, ended_at=now, failure=failure)
            case S.PENDING | S.STARTING:
                return after

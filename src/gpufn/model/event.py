"""What happened, when, and why: kept for people. Nothing is decided from an event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gpufn.model.deployment import Deployment
from gpufn.model.function import FunctionVersion
from gpufn.model.ids import AccountId, DeploymentId, FunctionId, InstanceId, VersionId
from gpufn.model.instance import Instance, InstanceStatus as S
from gpufn.model.startup import summary

MESSAGE_MAX = 2000
"""Characters of a message; longer ones are cut."""


class EventKind(StrEnum):
    """What happened, to which kind of thing."""

    VERSION_CREATED = "version.created"
    VERSION_DELETED = "version.deleted"
    DEPLOYMENT_CREATED = "deployment.created"
    DEPLOYMENT_CHANGED = "deployment.changed"
    DEPLOYMENT_STATUS = "deployment.status"
    """The public status became another one."""
    DEPLOYMENT_SCALED = "deployment.scaled"
    DEPLOYMENT_FAILED = "deployment.failed"
    DEPLOYMENT_DRAINING = "deployment.draining"
    DEPLOYMENT_DELETED = "deployment.deleted"
    INSTANCE_CREATED = "instance.created"
    INSTANCE_STARTING = "instance.starting"
    INSTANCE_READY = "instance.ready"
    INSTANCE_UNHEALTHY = "instance.unhealthy"
    INSTANCE_FAILED = "instance.failed"
    INSTANCE_DRAINING = "instance.draining"
    INSTANCE_ENDED = "instance.ended"


WARNINGS = frozenset({EventKind.DEPLOYMENT_FAILED, EventKind.INSTANCE_UNHEALTHY, EventKind.INSTANCE_FAILED})
"""Kinds that are bad news."""


@dataclass(frozen=True)
class Event:
    """One thing that happened to a version, and perhaps to a deployment or an instance of it.

    ``id`` ascends in the order of writing; 0 while it is not written.
    """

    at: datetime
    kind: EventKind
    message: str
    nca_id: AccountId
    function_id: FunctionId
    version_id: VersionId
    deployment_id: DeploymentId | None = None
    instance_id: InstanceId | None = None
    id: int = 0

    @property
    def is_warning(self) -> bool:
        """Whether it is bad news."""
        return self.kind in WARNINGS


def of_version(version: FunctionVersion, kind: EventKind, message: str, *, now: datetime) -> Event:
    """An event of a version that has no deployment, or whose deployment is not concerned."""
    return Event(now, kind, _cut(message), version.nca_id, version.function_id, version.id)


def of_deployment(deployment: Deployment, kind: EventKind, message: str, *, now: datetime) -> Event:
    """An event of a deployment."""
    return Event(
        now,
        kind,
        _cut(message),
        deployment.nca_id,
        deployment.function_id,
        deployment.version_id,
        deployment_id=deployment.id,
    )


def of_instance(instance: Instance, kind: EventKind, message: str, *, now: datetime) -> Event:
    """An event of an instance."""
    return Event(
        now,
        kind,
        _cut(message),
        instance.nca_id,
        instance.function_id,
        instance.version_id,
        deployment_id=instance.deployment_id,
        instance_id=instance.id,
    )


def of_change(before: Instance, after: Instance, *, now: datetime) -> Event | None:
    """What is to be told of an instance that was written anew; None where nothing but its detail changed.

    A failure is told when it is found, which is before the instance has ended; the end then adds nothing.
    """
    if after.failure is not None and before.failure is None:
        return of_instance(after, EventKind.INSTANCE_FAILED, after.failure.message, now=now)
    if after.status is before.status:
        return None
    return _of_status(before, after, now=now)


def _of_status(before: Instance, after: Instance, *, now: datetime) -> Event | None:
    match after.status:
        case S.STARTING:
            return of_instance(after, EventKind.INSTANCE_STARTING, f"starting on {after.instance_type}", now=now)
        case S.READY if before.status is S.UNHEALTHY:
            return of_instance(after, EventKind.INSTANCE_READY, "its health check answers again", now=now)
        case S.READY:
            return of_instance(after, EventKind.INSTANCE_READY, _ready(after, now), now=now)
        case S.UNHEALTHY:
            return of_instance(after, EventKind.INSTANCE_UNHEALTHY, after.detail or "its health check fails", now=now)
        case S.DRAINING:
            return of_instance(
                after, EventKind.INSTANCE_DRAINING, "not wanted any more; it finishes what it has", now=now
            )
        case S.TERMINATED:
            return of_instance(after, EventKind.INSTANCE_ENDED, after.detail or "stopped", now=now)
        case S.ERRORED | S.PENDING:
            return None


def _ready(instance: Instance, now: datetime) -> str:
    where = summary(instance.phases)
    took = f"ready after {(now - instance.created_at).total_seconds():.1f} s"
    return f"{took} ({where})" if where else took


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…"

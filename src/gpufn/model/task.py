"""A task: an image that runs once, on GPUs, and ends (tasks page).

``wanted`` and ``canceled_at`` are what the user asked for and written by the API; everything from ``phase`` on is
observed, and written by ``controllers/tasks``. The public status is derived from both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gpufn.model.function import Artifact
from gpufn.model.ids import AccountId, InstanceId, TaskId
from gpufn.model.telemetry import TelemetryChoice


class TaskStatus(StrEnum):
    """``status`` on the wire (tasks page, section 6). The last five are terminal."""

    QUEUED = "QUEUED"
    LAUNCHED = "LAUNCHED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERRORED = "ERRORED"
    CANCELED = "CANCELED"
    EXCEEDED_MAX_RUNTIME_DURATION = "EXCEEDED_MAX_RUNTIME_DURATION"
    EXCEEDED_MAX_QUEUED_DURATION = "EXCEEDED_MAX_QUEUED_DURATION"

    @property
    def is_terminal(self) -> bool:
        return self not in (TaskStatus.QUEUED, TaskStatus.LAUNCHED, TaskStatus.RUNNING)


class ResultStrategy(StrEnum):
    """``resultHandlingStrategy`` on the wire."""

    UPLOAD = "UPLOAD"
    """What the task leaves in its results directory is kept in the object store."""
    NONE = "NONE"


class TaskWanted(StrEnum):
    """What the user asked for. Writer: ``api``."""

    RUN = "run"
    CANCELED = "canceled"
    DELETED = "deleted"
    """To be forgotten with all that belongs to it; to its user it is gone already."""


class TaskPhase(StrEnum):
    """What a task holds of the cluster. Writer: ``controllers/tasks``."""

    QUEUED = "queued"
    """Nothing: it waits for GPUs."""
    PLACED = "placed"
    """Its GPUs, from placement until its instance is gone."""
    ENDED = "ended"
    """Nothing any more."""


@dataclass(frozen=True)
class TaskDefinition:
    """What was given at creation and never changes. Names of GPU and instance type as the catalogue spells them."""

    gpu: str
    instance_type: str
    units: int
    """Devices it holds; on ``CPU`` one of the processors."""
    backend: str | None = None
    clusters: tuple[str, ...] = ()
    container_image: str | None = None
    container_args: str | None = None
    container_environment: tuple[tuple[str, str], ...] | None = None
    models: tuple[Artifact, ...] = ()
    resources: tuple[Artifact, ...] = ()
    tags: tuple[str, ...] = ()
    description: str | None = None
    max_runtime: timedelta | None = None
    """None: no limit."""
    max_queued: timedelta = timedelta(hours=72)
    termination_grace: timedelta = timedelta(hours=1)
    result_strategy: ResultStrategy = ResultStrategy.UPLOAD
    results_location: str | None = None
    telemetries: TelemetryChoice | None = None
    retries: int = 0
    """How often it is run again after an attempt that failed. gpufn's own."""


@dataclass(frozen=True)
class Task:
    """One task. Times are UTC."""

    id: TaskId
    nca_id: AccountId
    name: str
    definition: TaskDefinition
    created_at: datetime
    updated_at: datetime
    queued_at: datetime
    """Its place in the queue, and before when it is not placed. Kept when it is queued again, unless it failed."""
    queued_until: datetime
    """When it has waited too long."""
    wanted: TaskWanted = TaskWanted.RUN
    canceled_at: datetime | None = None
    phase: TaskPhase = TaskPhase.QUEUED
    attempt: int = 0
    """How many times it was placed."""
    failures: int = 0
    """How many attempts failed by the task's own doing; compared with ``retries``."""
    losses: int = 0
    """How many times its instance vanished."""
    instance_id: InstanceId | None = None
    cluster_id: str = ""
    """Where its instance was placed; empty without one, and for what was placed when there was one cluster only."""
    past_instances: tuple[InstanceId, ...] = ()
    """The instances of earlier attempts, whose logs are kept."""
    launched_at: datetime | None = None
    """When the backend accepted it."""
    started_at: datetime | None = None
    """When its process or container was first seen to run."""
    running_at: datetime | None = None
    """When its progress file was first seen: the clock of ``max_runtime``."""
    heartbeat_at: datetime | None = None
    percent: int | None = None
    result_name: str | None = None
    """The name in the last progress report."""
    requeue: str | None = None
    """Why its instance is being ended in order to be queued again."""
    detail: str = ""
    """What it waits for or does right now, for people."""
    outcome: TaskStatus | None = None
    """How it ended, unless by being canceled."""
    error: str | None = None
    ended_at: datetime | None = None
    """When it took its terminal status and nothing of it ran any more."""
    revision: int = 0

    @property
    def status(self) -> TaskStatus:
        """The public status (tasks page, section 6)."""
        if self.outcome is not None:
            return self.outcome
        if self.wanted is not TaskWanted.RUN:
            return TaskStatus.CANCELED
        if self.running_at is not None:
            return TaskStatus.RUNNING
        return TaskStatus.QUEUED if self.launched_at is None else TaskStatus.LAUNCHED

    @property
    def instances(self) -> tuple[InstanceId, ...]:
        """The instances of all attempts, the newest last."""
        return self.past_instances + ((self.instance_id,) if self.instance_id is not None else ())

    def placed(self, instance_id: InstanceId, cluster_id: str, now: datetime) -> Task:
        """The task with GPUs of a cluster, and an instance to be launched."""
        return replace(
            self,
            phase=TaskPhase.PLACED,
            attempt=self.attempt + 1,
            instance_id=instance_id,
            cluster_id=cluster_id,
            detail="",
            updated_at=now,
        )

    def ended(self, outcome: TaskStatus, now: datetime, error: str | None = None) -> Task:
        """The task with its outcome. What it holds is freed separately."""
        return replace(self, outcome=outcome, error=error, detail="", updated_at=now)

    def queued_again(self, now: datetime) -> Task:
        """The task without instance and progress, in its place in the queue."""
        return replace(
            self,
            phase=TaskPhase.QUEUED,
            instance_id=None,
            cluster_id="",
            past_instances=self.instances,
            launched_at=None,
            started_at=None,
            running_at=None,
            heartbeat_at=None,
            percent=None,
            result_name=None,
            requeue=None,
            detail="",
            queued_until=max(now, self.queued_at) + self.definition.max_queued,
            updated_at=now,
        )


@dataclass(frozen=True)
class TaskEvent:
    """Something that happened to a task, in words that clients parse (tasks page, section 4)."""

    id: str
    task_id: TaskId
    message: str
    created_at: datetime


@dataclass(frozen=True)
class ResultFile:
    """One file of a result, and under which key the object store has it. ``path`` is relative to the result."""

    path: str
    size: int
    sha256: str
    key: str


@dataclass(frozen=True)
class TaskResult:
    """What a progress report left behind."""

    id: str
    task_id: TaskId
    name: str
    metadata: dict[str, Any]
    created_at: datetime
    files: tuple[ResultFile, ...] = ()


def changing(before: TaskStatus, after: TaskStatus, error: str | None = None) -> str:
    """The event of a status change, word for word as the reference's (tasks page, section 4)."""
    text = f"Changing status from '{before}' to '{after}'"
    return text if error is None else f"{text} with error '{error}'"

"""Tasks as clients see them (tasks page, sections 3.3 and 4)."""

from __future__ import annotations

from typing import Any

from gpufn.model.cluster import Clusters
from gpufn.model.task import ResultFile, Task, TaskEvent, TaskPhase, TaskResult, TaskStatus
from gpufn.wire.base import Wire
from gpufn.wire.instances import CONTAINER, SkywayInstanceDto
from gpufn.wire.scalars import Duration, Timestamp
from gpufn.wire.tasks import TaskArtifactDto, TaskGpuSpecificationDto, TaskVariableDto
from gpufn.wire.telemetries import TelemetriesDto


class TaskHealthDto(Wire):
    """``healthInfo``: what went wrong, and where."""

    gpu: str
    backend: str
    instance_type: str
    error: str


class TaskInstanceDto(Wire):
    """An element of ``instances``."""

    instance_id: str
    task_id: str
    instance_type: str
    instance_state: str
    icms_request_id: str
    nca_id: str
    gpu: str
    backend: str
    location: str
    instance_created_at: Timestamp
    instance_updated_at: Timestamp

    @staticmethod
    def of(task: Task, clusters: Clusters) -> tuple[TaskInstanceDto, ...] | None:
        """The instance of a task that has one and has not ended; else None: terminal tasks list none."""
        if task.phase is not TaskPhase.PLACED or task.instance_id is None or task.status.is_terminal:
            return None
        cluster = clusters.get(task.cluster_id) or clusters.local
        moment = task.started_at or task.launched_at or task.updated_at
        return (
            TaskInstanceDto(
                instance_id=task.instance_id,
                task_id=task.id,
                instance_type=task.definition.instance_type,
                instance_state="STARTING" if task.started_at is None else "RUNNING",
                icms_request_id=task.instance_id,
                nca_id=task.nca_id,
                gpu=task.definition.gpu,
                backend=cluster.group_name,
                location=cluster.name,
                instance_created_at=moment,
                instance_updated_at=moment,
            ),
        )


def skyway_instances(task: Task, clusters: Clusters) -> tuple[SkywayInstanceDto, ...]:
    """The live instance of a task as ngcsdk lists it; its pod and container are itself (clusters page, section 8)."""
    return tuple(
        SkywayInstanceDto(
            instance_id=shown.instance_id,
            state=shown.instance_state,
            location=shown.location,
            instance_type=shown.instance_type,
            pod_name=shown.instance_id,
            container_name=CONTAINER,
        )
        for shown in TaskInstanceDto.of(task, clusters) or ()
    )


class TaskDto(Wire):
    """A task. ``detail``, ``attempt`` and ``retries`` are gpufn's own members."""

    id: str
    nca_id: str
    name: str
    status: TaskStatus
    gpu_specification: TaskGpuSpecificationDto
    container_image: str | None = None
    container_args: str | None = None
    container_environment: tuple[TaskVariableDto, ...] | None = None
    models: tuple[TaskArtifactDto, ...] | None = None
    resources: tuple[TaskArtifactDto, ...] | None = None
    tags: tuple[str, ...] | None = None
    description: str | None = None
    result_handling_strategy: str
    results_location: str | None = None
    max_runtime_duration: Duration | None = None
    max_queued_duration: Duration
    termination_grace_period_duration: Duration
    health_info: TaskHealthDto | None = None
    secrets: tuple[str, ...] | None = None
    percent_complete: int | None = None
    last_heartbeat_at: Timestamp | None = None
    last_updated_at: Timestamp
    telemetries: TelemetriesDto | None = None
    created_at: Timestamp
    instances: tuple[TaskInstanceDto, ...] | None = None
    detail: str | None = None
    attempt: int | None = None
    retries: int | None = None

    @staticmethod
    def of(
        task: Task,
        *,
        secrets: tuple[str, ...] | None = None,
        instances: tuple[TaskInstanceDto, ...] | None = None,
        backend: str = "local",
    ) -> TaskDto:
        d = task.definition
        return TaskDto(
            id=task.id,
            nca_id=task.nca_id,
            name=task.name,
            status=task.status,
            gpu_specification=TaskGpuSpecificationDto(
                gpu=d.gpu, instance_type=d.instance_type, backend=d.backend, clusters=d.clusters or None
            ),
            container_image=d.container_image,
            container_args=d.container_args,
            container_environment=None
            if d.container_environment is None
            else tuple(TaskVariableDto(key=key, value=value) for key, value in d.container_environment),
            models=tuple(TaskArtifactDto.of(a) for a in d.models) or None,
            resources=tuple(TaskArtifactDto.of(a) for a in d.resources) or None,
            tags=d.tags or None,
            description=d.description,
            result_handling_strategy=d.result_strategy.value,
            results_location=d.results_location,
            max_runtime_duration=d.max_runtime,
            max_queued_duration=d.max_queued,
            termination_grace_period_duration=d.termination_grace,
            health_info=None if task.error is None else _health(task, task.error, d.backend or backend),
            secrets=secrets or None,
            percent_complete=task.percent,
            last_heartbeat_at=task.heartbeat_at,
            last_updated_at=task.updated_at,
            telemetries=None if d.telemetries is None else TelemetriesDto.of(d.telemetries),
            created_at=task.created_at,
            instances=instances,
            detail=task.detail or None,
            attempt=task.attempt or None,
            retries=d.retries or None,
        )


def _health(task: Task, error: str, backend: str) -> TaskHealthDto:
    d = task.definition
    return TaskHealthDto(gpu=d.gpu, backend=backend, instance_type=d.instance_type, error=error)


class TaskResponse(Wire):
    """One task."""

    task: TaskDto


class PagedResponse(Wire):
    """``limit`` and ``cursor`` are there only when another page is."""

    limit: int | None = None
    cursor: str | None = None


class ListTasksResponse(PagedResponse):
    """A page of tasks."""

    tasks: tuple[TaskDto, ...]


class BasicTaskDto(Wire):
    """An element of a bulk answer."""

    id: str
    name: str
    status: TaskStatus


class BulkTasksResponse(Wire):
    """The tasks that were asked for."""

    nca_id: str
    tasks: tuple[BasicTaskDto, ...]


class TaskEventDto(Wire):
    """Something that happened to a task."""

    event_id: str
    task_id: str
    nca_id: str
    message: str
    created_at: Timestamp

    @staticmethod
    def of(event: TaskEvent, nca_id: str) -> TaskEventDto:
        return TaskEventDto(
            event_id=event.id,
            task_id=event.task_id,
            nca_id=nca_id,
            message=event.message,
            created_at=event.created_at,
        )


class ListEventsResponse(PagedResponse):
    """A page of events, oldest first."""

    events: tuple[TaskEventDto, ...]


class TaskResultDto(Wire):
    """A result; its files are listed by gpufn's own route."""

    result_id: str
    task_id: str
    nca_id: str
    name: str
    metadata: dict[str, Any]
    created_at: Timestamp

    @staticmethod
    def of(result: TaskResult, nca_id: str) -> TaskResultDto:
        return TaskResultDto(
            result_id=result.id,
            task_id=result.task_id,
            nca_id=nca_id,
            name=result.name,
            metadata=result.metadata,
            created_at=result.created_at,
        )


class ListResultsResponse(PagedResponse):
    """A page of results, oldest first."""

    results: tuple[TaskResultDto, ...]


class ResultFileDto(Wire):
    """One file of a result; ``number`` is how it is asked for. ``size`` in bytes."""

    number: int
    path: str
    size: int
    sha256: str

    @staticmethod
    def of(number: int, file: ResultFile) -> ResultFileDto:
        return ResultFileDto(number=number, path=file.path, size=file.size, sha256=file.sha256)


class ResultFilesResponse(PagedResponse):
    """A page of a result's files, by path."""

    files: tuple[ResultFileDto, ...]


class LogLineDto(Wire):
    """A line that an instance of a task wrote. No ``timestamp``: the backend does not know when."""

    message: str
    instance_id: str
    timestamp: Timestamp | None = None


class LogPageMetadata(Wire):
    """Which page this is, the first being 1, and how many there are."""

    page: int
    total_pages: int


class LogPageResponse(Wire):
    """A page of what a task wrote, as ngcsdk asks for it (clients page, section 2)."""

    job_id: str
    metadata: LogPageMetadata
    data: tuple[LogLineDto, ...]


class TaskSkywayInstancesResponse(Wire):
    """The live instance of a task."""

    task_id: str
    backend: str
    instances: tuple[SkywayInstanceDto, ...]

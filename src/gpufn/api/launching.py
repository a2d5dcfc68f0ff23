"""What may be launched as a task, decided from the body and the cluster; the order is the reference's. Pure.

(tasks page, section 3.2)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from gpufn.model.cluster import Cluster, Gpu, InstanceType, gpu_names
from gpufn.model.errors import Invalid
from gpufn.model.ids import AccountId, TaskId
from gpufn.model.task import ResultStrategy, Task, TaskDefinition
from gpufn.wire.artifacts import check_uri
from gpufn.wire.secrets import SecretDto
from gpufn.wire.tasks import CreateTaskRequest, TaskArtifactDto, TaskGpuSpecificationDto

GFN = "GFN"
GFN_MAX = timedelta(hours=8)
DEFAULT_QUEUED = timedelta(hours=72)
DEFAULT_GRACE = timedelta(hours=1)
LONGEST = timedelta(days=3650)
MODEL_MAX = 64
NGC_API_KEY = "NGC_API_KEY"

_LOCATION = re.compile(r"[^/]+/([^/]+/)?[^/]+[a-zA-Z0-9\-]*")
_ARTIFACTS = ("models", "resources")


def check(body: CreateTaskRequest, clusters: Sequence[Cluster]) -> tuple[Gpu, InstanceType]:
    """Where the task may run; raises Invalid for the first thing that is wrong."""
    check_durations(body)
    place = find_place(body.gpu_specification, body.max_runtime_duration, clusters)
    check_unique(body.secrets or ())
    check_results(body)
    check_specification(body)
    for kind in _ARTIFACTS:
        artifacts: tuple[TaskArtifactDto, ...] = getattr(body, kind) or ()
        for artifact in artifacts:
            check_uri(artifact.uri, kind)
    check_program(body)
    return place


def check_durations(body: CreateTaskRequest) -> None:
    """None of them may be zero or less, and what runs must be able to end within its time."""
    for field, value in (
        ("maxRuntimeDuration", body.max_runtime_duration),
        ("terminationGracePeriodDuration", body.termination_grace_period_duration),
        ("maxQueuedDuration", body.max_queued_duration),
    ):
        if value is not None and value <= timedelta(0):
            raise Invalid(f"Invalid request: '{field}' cannot be of zero length")
        if value is not None and value > LONGEST:
            raise Invalid(f"Invalid request: '{field}' cannot be longer than {LONGEST.days} days")
    grace = body.termination_grace_period_duration or DEFAULT_GRACE
    if body.max_runtime_duration is not None and body.max_runtime_duration < grace:
        raise Invalid("Invalid request: 'terminationGracePeriodDuration' cannot exceed 'maxRuntimeDuration'")


def find_place(
    spec: TaskGpuSpecificationDto, runtime: timedelta | None, clusters: Sequence[Cluster]
) -> tuple[Gpu, InstanceType]:
    """The GPU and the instance type that are meant."""
    if spec.backend is not None and spec.backend.upper() == GFN:
        if runtime is None:
            raise Invalid("Invalid request: 'maxRuntimeDuration' must be specified when launching Task on 'GFN'")
        if runtime > GFN_MAX:
            raise Invalid("Invalid request: 'maxRuntimeDuration' cannot exceed PT8H when launching Task on 'GFN'")
    among = [c for c in clusters if spec.backend is None or c.group_name.lower() == spec.backend.lower()]
    if not among:
        there = ", ".join(dict.fromkeys(c.group_name for c in clusters))
        raise Invalid(f"Invalid Backend '{spec.backend}' specified; there is '{there}'")
    gpus = [gpu for cluster in among if (gpu := cluster.gpu(spec.gpu)) is not None]
    if not gpus:
        there = ", ".join(gpu_names(among)) or "none at all"
        raise Invalid(f"Invalid GPU '{spec.gpu}' specified; there are {there}")
    for gpu in gpus:
        shape = gpu.instance_type(spec.instance_type)
        if shape is not None:
            return gpu, shape
    comes = ", ".join(dict.fromkeys(t.name for gpu in gpus for t in gpu.instance_types))
    raise Invalid(f"Invalid InstanceType '{spec.instance_type}' specified; {gpus[0].name} comes as {comes}")


def check_results(body: CreateTaskRequest) -> None:
    """Where results are to go. The store is gpufn's own, so any organisation may be named."""
    if (body.result_handling_strategy or ResultStrategy.UPLOAD) is ResultStrategy.NONE:
        return
    if not body.secrets:
        raise Invalid("Missing secrets with  default or UPLOAD 'resultHandlingStrategy'")  # two spaces: the reference's
    if not any(secret.name.upper() == NGC_API_KEY for secret in body.secrets):
        raise Invalid("Missing 'NGC_API_KEY' secret key in the payload")
    if not body.results_location or not body.results_location.strip():
        raise Invalid("Missing 'resultsLocation' property")
    if _LOCATION.fullmatch(body.results_location) is None:
        raise Invalid(
            f"Invalid 'resultsLocation' '{body.results_location}': must look like org/model or org/team/model"
        )
    if len(body.results_location.rpartition("/")[2]) > MODEL_MAX:
        raise Invalid(f"Invalid 'resultsLocation': the model's name is longer than {MODEL_MAX} characters")


def check_unique(secrets: Sequence[SecretDto]) -> None:
    """No name twice."""
    if len({secret.name for secret in secrets}) != len(secrets):
        raise Invalid("Invalid request: Duplicate secrets keys in the payload")


def check_specification(body: CreateTaskRequest) -> None:
    """Helm's members belong to Helm charts."""
    spec = body.gpu_specification
    if body.container_image is None:
        return
    for field, value in (
        ("configuration", spec.configuration),
        ("helmValidationPolicy", spec.helm_validation_policy),
    ):
        if value is not None:
            raise Invalid(f"Container-based Task should have empty {field} field in GPU specification")


def check_program(body: CreateTaskRequest) -> None:
    """A container or a chart, and not both."""
    if body.container_image is None and body.helm_chart is None:
        raise Invalid(
            "One of the following properties 'containerImage' or 'helmChart' must be specified in the payload"
        )
    if body.helm_chart is None:
        return
    for field, value in (
        ("containerImage", body.container_image),
        ("containerArgs", body.container_args),
        ("containerEnvironment", body.container_environment),
    ):
        if value:
            raise Invalid(f"Cannot specify both 'helmChart' and '{field}' properties in the payload")
    raise Invalid(
        "helmChart: this installation has no Kubernetes cluster to install a chart on; launch the task with a "
        "containerImage"
    )


def new_task(
    body: CreateTaskRequest, place: tuple[Gpu, InstanceType], *, task_id: str, nca_id: AccountId, now: datetime
) -> Task:
    """The task to record."""
    gpu, shape = place
    environment = body.container_environment
    max_queued = body.max_queued_duration or DEFAULT_QUEUED
    definition = TaskDefinition(
        gpu=gpu.name,
        instance_type=shape.name,
        units=max(1, shape.gpu_count),
        backend=body.gpu_specification.backend,
        clusters=body.gpu_specification.clusters or (),
        container_image=body.container_image,
        container_args=body.container_args,
        container_environment=None if environment is None else tuple((e.key, e.value) for e in environment),
        models=tuple(m.to_model() for m in body.models or ()),
        resources=tuple(r.to_model() for r in body.resources or ()),
        tags=body.tags or (),
        description=body.description,
        max_runtime=body.max_runtime_duration,
        max_queued=max_queued,
        termination_grace=body.termination_grace_period_duration or DEFAULT_GRACE,
        result_strategy=body.result_handling_strategy or ResultStrategy.UPLOAD,
        results_location=body.results_location,
        telemetries=None if body.telemetries is None else body.telemetries.to_model(),
        retries=body.retries,
    )
    return Task(
        id=TaskId(task_id),
        nca_id=nca_id,
        name=body.name,
        definition=definition,
        created_at=now,
        updated_at=now,
        queued_at=now,
        queued_until=now + max_queued,
    )

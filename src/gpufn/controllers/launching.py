"""From a version and an instance to what a backend needs to start it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gpufn.compute.backend import Files, LaunchRequest, TaskLaunch
from gpufn.model.cluster import Cluster, Gpu, InstanceType
from gpufn.model.function import FunctionVersion
from gpufn.model.instance import Failure, FailureKind, Instance
from gpufn.model.task import Task
from gpufn.model.telemetry import Telemetry, TelemetryProtocol, TelemetryType

OTLP = {TelemetryProtocol.HTTP: "http/protobuf", TelemetryProtocol.GRPC: "grpc"}
"""What the OpenTelemetry libraries call the protocols."""


def launch_request(instance: Instance, version: FunctionVersion, cluster: Cluster) -> LaunchRequest | Failure:
    """What to launch, or why that is impossible."""
    definition = version.definition
    if definition.container_image is None:
        return Failure(
            FailureKind.IMAGE,
            "the function has no containerImage, and this cluster does not run Helm charts; "
            "create a version with a containerImage",
            permanent=True,
        )
    placed = _place(cluster, instance.gpu, instance.instance_type)
    if isinstance(placed, Failure):
        return placed
    gpu, shape = placed
    return LaunchRequest(
        instance_id=instance.id,
        nca_id=instance.nca_id,
        function_id=instance.function_id,
        version_id=instance.version_id,
        function_name=version.name,
        image=definition.container_image,
        args=definition.container_args,
        environment=definition.container_environment or (),
        inference_port=definition.port,
        health_port=definition.health.port,
        gpu=gpu.name,
        gpu_count=shape.gpu_count,
        emulated=gpu.emulated,
        instance_type=shape.name,
        instance_type_value=shape.value,
        backend=cluster.group_name,
        region=cluster.region,
    )


def telemetry_variables(used: Mapping[TelemetryType, Telemetry]) -> dict[str, str]:
    """What tells the OpenTelemetry libraries where to send what (tasks page, section 10)."""
    variables = {}
    for kind, telemetry in used.items():
        prefix = f"OTEL_EXPORTER_OTLP_{kind.value}"
        variables[f"{prefix}_ENDPOINT"] = telemetry.endpoint
        variables[f"{prefix}_PROTOCOL"] = OTLP[telemetry.protocol]
    return variables


def task_launch_request(
    task: Task, cluster: Cluster, directory: str, secrets: Files, telemetry: Mapping[str, str]
) -> LaunchRequest | Failure:
    """What to launch for a placed task, or why that is impossible. ``directory`` becomes its ``/var/task``;
    ``telemetry`` are variables that win over the user's (tasks page, section 10).
    """
    definition = task.definition
    if definition.container_image is None or task.instance_id is None:
        return Failure(FailureKind.IMAGE, "the task has no containerImage; launch one that has", permanent=True)
    placed = _place(cluster, definition.gpu, definition.instance_type)
    if isinstance(placed, Failure):
        return placed
    gpu, shape = placed
    return LaunchRequest(
        instance_id=task.instance_id,
        nca_id=task.nca_id,
        function_id=task.id,
        version_id=task.id,
        function_name=task.name,
        image=definition.container_image,
        args=definition.container_args,
        environment=tuple({**dict(definition.container_environment or ()), **telemetry}.items()),
        inference_port=0,
        health_port=0,
        gpu=gpu.name,
        gpu_count=shape.gpu_count,
        emulated=gpu.emulated,
        instance_type=shape.name,
        instance_type_value=shape.value,
        backend=cluster.group_name,
        region=cluster.region,
        secrets=secrets,
        task=TaskLaunch(task.id, task.name, directory),
    )


def _place(cluster: Cluster, gpu_name: str, instance_type: str) -> tuple[Gpu, InstanceType] | Failure:
    gpu = cluster.gpu(gpu_name)
    shape = gpu.instance_type(instance_type) if gpu is not None else None
    if gpu is not None and shape is not None:
        return gpu, shape
    offered = ", ".join(t.name for g in cluster.gpus for t in g.instance_types) or "none"
    return Failure(
        FailureKind.CAPACITY,
        f"cluster {cluster.name!r} has no instance type {instance_type!r} with GPU {gpu_name!r}; "
        f"use one it has: {offered}",
        permanent=True,
    )

"""From a version and an instance to what a backend needs to start it. Pure."""

from __future__ import annotations

from gpufn.compute.backend import LaunchRequest
from gpufn.model.cluster import Cluster
from gpufn.model.function import FunctionVersion
from gpufn.model.instance import Failure, FailureKind, Instance


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
    gpu = cluster.gpu(instance.gpu)
    shape = gpu.instance_type(instance.instance_type) if gpu is not None else None
    if gpu is None or shape is None:
        offered = ", ".join(t.name for g in cluster.gpus for t in g.instance_types) or "none"
        return Failure(
            FailureKind.CAPACITY,
            f"cluster {cluster.name!r} has no instance type {instance.instance_type!r} with GPU {instance.gpu!r}; "
            f"deploy on one it has: {offered}",
            permanent=True,
        )
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

"""Pure decisions about deployments: what may be deployed where, and what an update does to a specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpufn.model.cluster import Cluster, Gpu, gpu_names
from gpufn.model.deployment import Deployment, DeploymentWanted, GpuSpecification, Placement
from gpufn.model.errors import Invalid, NotFound
from gpufn.model.function import FunctionVersion
from gpufn.model.ids import SpecificationId, new_id
from gpufn.model.status import Condition, FunctionStatus
from gpufn.wire.autoscaling import AutoscalingPolicy
from gpufn.wire.deployments import GpuSpecificationRequest, GpuSpecificationUpdate, PatchGpuSpecificationRequest


def check_deployable(version: FunctionVersion) -> None:
    """Raises Invalid for a function that nothing here can run."""
    d = version.definition
    if d.helm_chart is not None:
        raise Invalid(
            "helmChart: this function is a Helm chart, and this installation has no Kubernetes cluster to install it "
            "on; register it with a containerImage instead"
        )
    if d.container_image is None:
        raise Invalid(
            "containerImage: this function has models only, and no cluster has a model server of its own; "
            "register it with a containerImage that serves them"
        )


def check_new(version: FunctionVersion, deployment: Deployment | None, condition: Condition) -> None:
    """Raises Invalid unless the version is not deployed (control-plane page, sections 3.5 and 7)."""
    if deployment is None:
        return
    who = f"Function id '{version.function_id}', version '{version.id}'"
    if deployment.wanted is DeploymentWanted.DRAINED:
        raise Invalid(
            f"{who}: a graceful undeployment is still in progress; wait until its queue is empty, or delete the "
            "deployment without graceful"
        )
    if condition.status is FunctionStatus.ERROR:
        raise Invalid(f"{who}: Status ERROR, delete the failed deployment first")
    raise Invalid(f"{who}: Status {condition.status.value}, use PATCH endpoint to update gpu-specification")


def check_changeable(deployment: Deployment, condition: Condition) -> None:
    """Raises Invalid for a deployment that is going or has failed (section 7)."""
    who = f"Deployment id '{deployment.id}'"
    if deployment.wanted is DeploymentWanted.DRAINED:
        raise Invalid(f"{who}: a graceful undeployment is in progress, so it cannot be updated")
    if condition.status is FunctionStatus.ERROR:
        raise Invalid(f"{who}: Status ERROR, delete the failed deployment and deploy again")


def not_deployed(function_id: str, version_id: str) -> Invalid:
    """The refusal of a PUT to a version without deployment: 400, unlike GET (section 7)."""
    return Invalid(
        f"Function id '{function_id}', version '{version_id}': Status INACTIVE, deploy it with POST before updating it"
    )


def place(wanted: Sequence[GpuSpecificationRequest], clusters: Sequence[Cluster]) -> tuple[GpuSpecification, ...]:
    """The specifications to record, with the catalogue's own spelling; raises Invalid for what there is in none of the
    account's ``clusters``. Whether one of them may be used now is not asked: the instances wait for it.
    """
    return tuple(_place(spec, f"deploymentSpecifications[{n}]", clusters) for n, spec in enumerate(wanted))


def _place(spec: GpuSpecificationRequest, field: str, clusters: Sequence[Cluster]) -> GpuSpecification:
    for name, value in (
        ("configuration", spec.configuration),
        ("helmValidationPolicy", spec.helm_validation_policy),
    ):
        if value is not None:
            raise Invalid(f"{field}.{name}: only for Helm functions; leave it out")
    group = _group(spec.backend, field, clusters)
    among = [c for c in clusters if group is None or c.group_name == group]
    gpus = _gpus(spec.gpu, field, among)
    gpu = gpus[0]
    kind = next((kind for one in gpus if (kind := one.instance_type(spec.instance_type)) is not None), None)
    if kind is None:
        there = dict.fromkeys(t.name for one in gpus for t in one.instance_types)
        raise Invalid(
            f"{field}.instanceType: there is no '{spec.instance_type}' for GPU {gpu.name}; there are {', '.join(there)}"
        )
    return GpuSpecification(
        id=SpecificationId(new_id()),
        gpu=gpu.name,
        instance_type=kind.name,
        min_instances=spec.min_instances,
        max_instances=spec.max_instances,
        max_request_concurrency=spec.max_request_concurrency or 1,
        preferred_order=spec.preferred_order or 1,
        placement=Placement(
            group,
            spec.clusters,
            spec.regions,
            spec.attributes,
            spec.availability_zones,
            spec.min_gpu_memory,
        ),
        autoscaling=spec.autoscaling_configuration.to_model() if spec.autoscaling_configuration else None,
        desired=spec.min_instances,
        desired_reason="minimum",
    )


def _group(name: str | None, field: str, clusters: Sequence[Cluster]) -> str | None:
    if name is None:
        return None
    found = next((c.group_name for c in clusters if c.group_name.lower() == name.lower()), None)
    if found is None:
        there = ", ".join(dict.fromkeys(c.group_name for c in clusters)) or "none at all"
        raise Invalid(f"{field}.backend: there is no cluster group '{name}'; there is {there}")
    return found


def _gpus(name: str, field: str, clusters: Sequence[Cluster]) -> list[Gpu]:
    """What of that name the clusters have, at least one."""
    found = [gpu for cluster in clusters if (gpu := cluster.gpu(name)) is not None]
    if not found:
        there = ", ".join(gpu_names(clusters)) or "none at all"
        where = ", ".join(cluster.name for cluster in clusters[:10]) or "any"
        raise Invalid(f"{field}.gpu: there is no GPU '{name}' in cluster {where}; there are {there}")
    return found


def replaced(
    present: Sequence[GpuSpecification], updates: Sequence[GpuSpecificationUpdate]
) -> tuple[GpuSpecification, ...]:
    """The specifications after a PUT, in their stored order; raises Invalid (section 8.7)."""
    if len(updates) != len(present):
        raise Invalid(
            f"deploymentSpecifications: {len(updates)} given, but the deployment has {len(present)}; send every one"
        )
    if len(present) == 1 and updates[0].gpu_specification_id is None:
        return (_replaced(present[0], updates[0]),)
    by_id = {u.gpu_specification_id: u for u in updates}
    if by_id.keys() != {s.id for s in present}:
        raise Invalid(
            "deploymentSpecifications: every gpuSpecificationId of the deployment must be given once: "
            + ", ".join(s.id for s in present)
        )
    return tuple(_replaced(spec, by_id[spec.id]) for spec in present)


def _replaced(spec: GpuSpecification, update: GpuSpecificationUpdate) -> GpuSpecification:
    fixed = (
        ("gpu", update.gpu, spec.gpu, update.gpu is None),
        ("instanceType", update.instance_type, spec.instance_type, update.instance_type is None),
        ("backend", update.backend, spec.placement.backend, False),
        ("clusters", update.clusters, spec.placement.clusters, False),
    )
    for field, given, stored, is_left_out in fixed:
        if not is_left_out and _canonical(given) != _canonical(stored):
            raise Invalid(f"{field}: gpu-specification {spec.id} has {stored!r}, which cannot be changed to {given!r}")
    return replace(
        spec,
        min_instances=update.min_instances,
        max_instances=update.max_instances,
        max_request_concurrency=update.max_request_concurrency or spec.max_request_concurrency,
    )


def _canonical(value: str | tuple[str, ...] | None) -> object:
    if isinstance(value, tuple):
        return frozenset(value)
    return value.lower() if value else None


def patched(deployment: Deployment, spec_id: str, body: PatchGpuSpecificationRequest) -> GpuSpecification:
    """One specification after a PATCH; raises NotFound, or Invalid when its bounds would cross (section 8.6)."""
    spec = next((s for s in deployment.specifications if s.id == spec_id), None)
    if spec is None:
        raise NotFound(f"Deployment id '{deployment.id}', gpu-specification id '{spec_id}': Not found")
    low = spec.min_instances if body.min_instances is None else body.min_instances
    high = spec.max_instances if body.max_instances is None else body.max_instances
    if low > high:
        raise Invalid(f"minInstances: {low} must not be greater than maxInstances, which is {high}")
    autoscaling = spec.autoscaling
    if body.autoscaling_configuration is not None:
        autoscaling = body.autoscaling_configuration.to_model()
    if body.autoscaling_configuration_policy is AutoscalingPolicy.PLATFORM_CONFIGURATION:
        autoscaling = None
    return replace(spec, min_instances=low, max_instances=high, autoscaling=autoscaling)

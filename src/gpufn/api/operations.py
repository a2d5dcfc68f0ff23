"""What only admins do: replace instances, end one, see what an account uses (control-plane page, section 20)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fastapi import Response

from gpufn.api.context import Context, Ctx
from gpufn.api.lists import PAGE, pages
from gpufn.api.parameters import FunctionIdPath, InstanceIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import own_version
from gpufn.model import event
from gpufn.model.deployment import Deployment, GpuSpecification
from gpufn.model.errors import Invalid, NotFound
from gpufn.model.event import EventKind
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.instance import Instance
from gpufn.store import events, instances, pages as stored
from gpufn.store.database import Transaction
from gpufn.store.pages import Position
from gpufn.wire.gpu_usage import GpuUsageDto, GpuUsageResponse, Range
from gpufn.wire.operations import (
    GoldenImagesResponse,
    RollOverRequest,
    RollOverResponse,
    RollOverSpecificationDto,
)


async def golden_images(caller: Caller, context: Ctx) -> GoldenImagesResponse:
    """The images of the sidecars of an instance: here, none."""
    return GoldenImagesResponse()


async def delete_instance(caller: Caller, context: Ctx, *, instance_id: InstanceIdPath) -> Response:
    """End one instance, whatever its account: it finishes what it has, and is replaced if it is still wanted."""

    def write(tx: Transaction) -> Instance:
        found = instances.get(tx, instance_id)
        if found is None or not found.is_live:
            raise NotFound(f"Instance id '{instance_id}': Not found, or it has ended")
        instances.retire(tx, [found.id])
        text = f"to be ended, by {caller.subject}"
        events.insert(tx, (event.of_instance(found, EventKind.INSTANCE_DRAINING, text, now=context.now()),))
        return found

    found = await context.db.run(write)
    _tell(context, found.deployment_id, found.version_id, [found.id])
    return Response(status_code=200)


async def roll_over(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    body: RollOverRequest | None = None,
) -> RollOverResponse:
    """Replace instances of a deployed version: of each specification as many as asked for, else all. Those that go
    finish what they have.
    """
    wanted = body.roll_over_specifications if body is not None else ()

    def write(tx: Transaction) -> tuple[Deployment, list[str], list[InstanceId]]:
        seen = own_version(tx, caller, function_id, version_id)
        if seen.deployment is None:
            raise NotFound(f"Function id '{function_id}', version '{version_id}': No deployment found")
        made, gone = list[str](), list[InstanceId]()
        for spec, number in rolled(seen.deployment.specifications, wanted):
            going = [i.id for i in seen.instances if i.specification_id == spec.id and i.is_live and i.wanted][:number]
            instances.retire(tx, going)
            gone += going
            made.append(new_id())
            text = f"{len(going)} of {spec.instance_type} to be replaced, by {caller.subject}: request {made[-1]}"
            told = event.of_deployment(seen.deployment, EventKind.DEPLOYMENT_CHANGED, text, now=context.now())
            events.insert(tx, (told,))
        return seen.deployment, made, gone

    deployment, made, gone = await context.db.run(write)
    _tell(context, deployment.id, deployment.version_id, gone)
    return RollOverResponse(icms_request_ids=tuple(made))


def _tell(context: Context, deployment_id: str, version_id: str, gone: Sequence[InstanceId]) -> None:
    """The controllers, after the commit."""
    for instance_id in gone:
        context.hints.hint("instance", instance_id)
    context.hints.hint("deployment", deployment_id)
    context.hints.hint("version", version_id)


def rolled(
    specs: Sequence[GpuSpecification], wanted: Sequence[RollOverSpecificationDto]
) -> list[tuple[GpuSpecification, int]]:
    """How many instances of each specification go. Raises Invalid for what is not deployed, or more than may run."""
    numbers = {spec.id: spec.max_instances for spec in specs}
    for n, one in enumerate(wanted):
        field = f"rollOverSpecifications[{n}]"
        fitting = [s for s in specs if (s.gpu, s.instance_type) == (one.gpu, one.instance_type)]
        if not fitting:
            raise Invalid(f"{field}: {one.gpu} {one.instance_type} is not among the deployed gpu-specifications")
        for spec in fitting:
            if one.num_instances > spec.max_instances:
                raise Invalid(
                    f"{field}.numInstances: {one.num_instances} is more than maxInstances, {spec.max_instances}"
                )
            numbers[spec.id] = one.num_instances
    return [(spec, numbers[spec.id]) for spec in specs]


async def get_gpu_usage_of_functions(caller: Caller, context: Ctx) -> GpuUsageResponse:
    """How many instances the account's deployments may have, at least and at most, by GPU and instance type."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])

    def read(tx: Transaction, after: Position | None) -> tuple[Sequence[Deployment], Position | None]:
        found = stored.of_deployments(tx, caller.nca_id, after=after, limit=PAGE)
        return found, (found[-1].created_at, found[-1].id) if len(found) == PAGE else None

    async for page in pages(context.db, read):
        for spec in (s for d in page for s in d.specifications):
            sums[spec.gpu, spec.instance_type][0] += spec.min_instances
            sums[spec.gpu, spec.instance_type][1] += spec.max_instances
    gpus = (
        GpuUsageDto.of(context.fleet.clusters, gpu, kind, {"": Range(low, high)})
        for (gpu, kind), (low, high) in sorted(sums.items())
    )
    return GpuUsageResponse(gpus=tuple(gpus))

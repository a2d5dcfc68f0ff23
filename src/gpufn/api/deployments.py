"""Deployments (control-plane page, section 8). Writes what is wanted; the controllers make it so."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import Query, Response

from gpufn.api import placement
from gpufn.api.context import Context, Ctx
from gpufn.api.lists import PAGE, answered, pages
from gpufn.api.parameters import DeploymentIdPath, FunctionIdPath, SpecificationIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import Seen, own_version, refuse_public, see
from gpufn.auth.access import require_version, visible
from gpufn.model import event
from gpufn.model.access import Principal
from gpufn.model.deployment import Deployment, DeploymentWanted
from gpufn.model.errors import NotFound
from gpufn.model.event import EventKind
from gpufn.model.ids import DeploymentId, new_id
from gpufn.model.status import FunctionStatus
from gpufn.runtime.clock import loop_now
from gpufn.store import deployments, events, functions, pages as stored
from gpufn.store.database import Transaction
from gpufn.store.pages import Position
from gpufn.wire.deployment_views import (
    DeploymentResponse,
    FunctionDeploymentDto,
    GpuSpecificationDto,
    GpuSpecificationResponse,
)
from gpufn.wire.deployments import CreateDeploymentRequest, PatchGpuSpecificationRequest, UpdateDeploymentRequest
from gpufn.wire.function_views import FunctionDto, FunctionResponse

_DONE = {
    EventKind.DEPLOYMENT_CREATED: "deployed",
    EventKind.DEPLOYMENT_CHANGED: "changed",
    EventKind.DEPLOYMENT_DELETED: "undeployed",
    EventKind.DEPLOYMENT_DRAINING: "undeployed, what is queued is still served,",
}
REPORTS_SETTLE = 0.5
"""Seconds after which what gateways report must have caught up with what their clients have seen."""


async def create_deployment(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    body: CreateDeploymentRequest,
) -> DeploymentResponse:
    """Deploy a version."""

    def write(tx: Transaction) -> Seen:
        _refuse_public(tx, caller, function_id, version_id, "create")
        seen = own_version(tx, caller, function_id, version_id)
        placement.check_new(seen.version, seen.deployment, seen.condition)
        placement.check_deployable(seen.version)
        now = context.now()
        deployment = Deployment(
            id=DeploymentId(new_id()),
            version_id=seen.version.id,
            function_id=seen.version.function_id,
            nca_id=caller.nca_id,
            wanted=DeploymentWanted.UP,
            specifications=placement.place(
                body.deployment_specifications, context.fleet.clusters.admitting(caller.nca_id)
            ),
            created_at=now,
            updated_at=now,
        )
        deployments.insert(tx, deployment)
        _tell(tx, caller, deployment, EventKind.DEPLOYMENT_CREATED, now)
        return replace(seen, deployment=deployment)

    seen = await context.db.run(write)
    return DeploymentResponse(deployment=_told(context, seen))


async def get_deployment(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> DeploymentResponse:
    """The deployment of a version; 404 when it has none."""
    seen, _ = await context.db.run(lambda tx: _deployed(tx, caller, function_id, version_id))
    return DeploymentResponse(deployment=_view(context, seen))


async def get_deployment_by_id(caller: Caller, context: Ctx, *, deployment_id: DeploymentIdPath) -> DeploymentResponse:
    """The deployment of that id."""
    seen, _ = await context.db.run(lambda tx: _by_id(tx, caller, deployment_id))
    return DeploymentResponse(deployment=_view(context, seen))


async def list_deployments(caller: Caller, context: Ctx) -> Response:
    """Every deployment within the caller's reach, as NGC's gateway lists them (section 8.3)."""

    def read(tx: Transaction, after: Position | None) -> tuple[list[FunctionDeploymentDto], Position | None]:
        found = stored.of_deployments(tx, caller.nca_id, after=after, limit=PAGE)
        versions = functions.of_ids(tx, [d.version_id for d in found])
        seen = see(tx, visible(caller, [versions[d.version_id] for d in found]))
        shown = [_view(context, s) for s in seen if s.condition.status is not FunctionStatus.INACTIVE]
        return shown, (found[-1].created_at, found[-1].id) if len(found) == PAGE else None

    return await answered("deployments", FunctionDeploymentDto, pages(context.db, read))


async def replace_deployment(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    body: UpdateDeploymentRequest,
) -> DeploymentResponse:
    """Change the bounds of every specification (section 8.7). Deprecated: PATCH changes one."""

    def write(tx: Transaction) -> Seen:
        _refuse_public(tx, caller, function_id, version_id, "update")
        seen = own_version(tx, caller, function_id, version_id)
        deployment = seen.deployment
        if deployment is None:
            raise placement.not_deployed(function_id, version_id)
        placement.check_changeable(deployment, seen.condition)
        specs = placement.replaced(deployment.specifications, body.deployment_specifications)
        if specs == deployment.specifications:
            return seen
        after = replace(deployment, specifications=specs, updated_at=context.now())
        _tell(tx, caller, after, EventKind.DEPLOYMENT_CHANGED, after.updated_at)
        return replace(seen, deployment=deployments.save(tx, after))

    seen = await context.db.run(write)
    return DeploymentResponse(deployment=_told(context, seen))


async def patch_specification(
    caller: Caller,
    context: Ctx,
    *,
    deployment_id: DeploymentIdPath,
    specification_id: SpecificationIdPath,
    body: PatchGpuSpecificationRequest,
) -> GpuSpecificationResponse:
    """Change the bounds or the autoscaling of one specification."""

    def write(tx: Transaction) -> tuple[Seen, GpuSpecificationDto]:
        seen, deployment = _by_id(tx, caller, deployment_id)
        _refuse_public(tx, caller, deployment.function_id, deployment.version_id, "update")
        spec = placement.patched(deployment, specification_id, body)
        placement.check_changeable(deployment, seen.condition)
        specs = tuple(spec if s.id == spec.id else s for s in deployment.specifications)
        if specs != deployment.specifications:
            after = replace(deployment, specifications=specs, updated_at=context.now())
            deployments.save(tx, after)
            _tell(tx, caller, after, EventKind.DEPLOYMENT_CHANGED, after.updated_at)
        return seen, GpuSpecificationDto.of(spec, context.fleet.clusters)

    seen, dto = await context.db.run(write)
    _told(context, seen)
    return GpuSpecificationResponse(gpu_specification=dto)


async def delete_deployment(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    graceful: Annotated[bool, Query()] = False,
) -> FunctionResponse:
    """Undeploy. With ``graceful`` and work in the queue, what waits is still served; nothing new is taken."""
    drains = graceful and await _still_busy(context, version_id)

    def write(tx: Transaction) -> Seen:
        _refuse_public(tx, caller, function_id, version_id, "delete")
        seen, deployment = _deployed(tx, caller, function_id, version_id)
        now = context.now()
        if not drains:
            deployments.delete(tx, deployment.id)
            _tell(tx, caller, deployment, EventKind.DEPLOYMENT_DELETED, now)
        elif deployment.wanted is DeploymentWanted.UP:
            deployments.save(tx, replace(deployment, wanted=DeploymentWanted.DRAINED, updated_at=now))
            _tell(tx, caller, deployment, EventKind.DEPLOYMENT_DRAINING, now)
        return seen

    seen = await context.db.run(write)
    _told(context, seen)
    return FunctionResponse(function=FunctionDto.of(seen.version, FunctionStatus.INACTIVE))


async def _still_busy(context: Context, version_id: str) -> bool:
    """Whether requests wait or run. A report is a moment old, and a caller that has just read its answer is done."""
    until = loop_now() + REPORTS_SETTLE
    while context.load.load(version_id, now=loop_now()).idle_since is None:
        if loop_now() >= until:
            return True
        await asyncio.sleep(REPORTS_SETTLE / 10)
    return False


def _refuse_public(tx: Transaction, caller: Principal, function_id: str, version_id: str, verb: str) -> None:
    """An admin who works in the owner's account may (control-plane page, section 4.4)."""
    if not caller.acts_for_others:
        refuse_public(tx, function_id, version_id, f"Cannot {verb} deployment for public function")


def _deployed(tx: Transaction, caller: Principal, function_id: str, version_id: str) -> tuple[Seen, Deployment]:
    seen = own_version(tx, caller, function_id, version_id)
    if seen.deployment is None:
        raise NotFound(f"Function id '{function_id}', version '{version_id}': No deployment found")
    return seen, seen.deployment


def _tell(tx: Transaction, caller: Principal, deployment: Deployment, kind: EventKind, now: datetime) -> None:
    """The event of what the caller did."""
    sizes = (f"{s.instance_type} {s.min_instances} to {s.max_instances}" for s in deployment.specifications)
    text = f"{_DONE[kind]} by {caller.subject}: {', '.join(sizes)}"
    events.insert(tx, (event.of_deployment(deployment, kind, text, now=now),))


def _by_id(tx: Transaction, caller: Principal, deployment_id: str) -> tuple[Seen, Deployment]:
    deployment = deployments.get(tx, deployment_id)
    if deployment is None or deployment.nca_id != caller.nca_id:
        raise NotFound(f"Deployment id '{deployment_id}': Not found for account '{caller.nca_id}'")
    require_version(caller, deployment.function_id, deployment.version_id)
    return own_version(tx, caller, deployment.function_id, deployment.version_id), deployment


def _view(context: Context, seen: Seen) -> FunctionDeploymentDto:
    if seen.deployment is None:
        raise LookupError(f"version {seen.version.id} has no deployment")
    return FunctionDeploymentDto.of(seen.deployment, seen.version.name, seen.condition, context.fleet.clusters)


def _told(context: Context, seen: Seen) -> FunctionDeploymentDto:
    """Tell the controllers, after the commit, and show what was written."""
    view = _view(context, seen)
    context.hints.hint("deployment", view.deployment_id)
    context.hints.hint("version", view.function_version_id)
    return view

"""Functions and versions (control-plane page, section 6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import Query, Response

from gpufn.api.context import Context, Ctx
from gpufn.api.lists import answered
from gpufn.api.llm import fit, propagate
from gpufn.api.parameters import FunctionIdPath, VersionIdPath, Visibility, visibilities
from gpufn.api.secrets import put
from gpufn.api.security import Caller
from gpufn.api.telemetries import check_choice
from gpufn.api.views import (
    Seen,
    known_function_ids,
    known_version,
    known_versions,
    known_versions_of,
    own_version,
    refuse_public,
)
from gpufn.auth.access import require_account, require_function
from gpufn.model import event
from gpufn.model.access import Principal
from gpufn.model.errors import Invalid, NotFound
from gpufn.model.event import EventKind
from gpufn.model.function import FunctionType, FunctionVersion
from gpufn.model.ids import FunctionId, VersionId, new_id
from gpufn.model.secret import version_place
from gpufn.model.status import FunctionStatus
from gpufn.store import accounts, authorizations, deployments, events, functions, secrets, telemetries
from gpufn.store.database import Transaction
from gpufn.wire.artifacts import updated_models
from gpufn.wire.function_views import FunctionDto, FunctionResponse
from gpufn.wire.functions import CreateFunctionRequest, UpdateFunctionRequest
from gpufn.wire.instances import ActiveInstanceDto
from gpufn.wire.secrets import secrets_of


async def create_function(caller: Caller, context: Ctx, *, body: CreateFunctionRequest) -> FunctionResponse:
    """Register a function with its first version."""
    version = _new_version(context, caller, body, new_id())

    def write(tx: Transaction) -> None:
        account = accounts.get(tx, caller.nca_id)
        if account is None:
            raise NotFound(f"Account '{caller.nca_id}': Not found")
        require_account(caller)
        limit = account.max_functions
        if limit is not None and functions.count(tx, caller.nca_id) >= limit:
            raise Invalid(f"Reached or exceeded the max limit for the number of functions allowed: {limit}")
        _keep(tx, context, version, body)
        _tell(tx, caller, version, EventKind.VERSION_CREATED, version.created_at)

    await context.db.run(write)
    context.hints.hint("version", version.id)
    return _inactive(version, body)


async def create_version(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, body: CreateFunctionRequest
) -> FunctionResponse:
    """Add a version to a function of the caller's."""
    version = _new_version(context, caller, body, function_id)

    def write(tx: Transaction) -> tuple[FunctionVersion, list[str]]:
        if not caller.acts_for_others:
            refuse_public(tx, function_id, "", "Cannot create version of a public function")
        siblings = functions.of_function(tx, caller.nca_id, function_id)
        require_function(caller, function_id)
        fitting = fit(version, siblings)
        _keep(tx, context, fitting, body)
        _tell(tx, caller, fitting, EventKind.VERSION_CREATED, fitting.created_at)
        return fitting, propagate(tx, fitting, siblings)

    version, changed = await context.db.run(write)
    for version_id in (version.id, *changed):
        context.hints.hint("version", version_id)
    return _inactive(version, body)


async def list_functions(caller: Caller, context: Ctx, *, visibility: Visibility = None) -> Response:
    """Every version within the caller's reach, one element each."""
    return await _list(caller, known_versions(context.db, caller, visibilities(visibility)))


async def list_function_ids(caller: Caller, context: Ctx, *, visibility: Visibility = None) -> Response:
    """The distinct ids of those functions."""
    return await answered("functionIds", str, known_function_ids(context.db, caller, visibilities(visibility)))


async def list_versions(caller: Caller, context: Ctx, *, function_id: FunctionIdPath) -> Response:
    """The versions of one function."""
    return await _list(caller, known_versions_of(context.db, caller, function_id))


async def get_version(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    include_secrets: Annotated[bool, Query(alias="includeSecrets")] = True,
) -> FunctionResponse:
    """One version; with scope list_functions_details also its instances and the names of its secrets."""
    detailed = caller.has_scope("list_functions_details")

    def read(tx: Transaction) -> tuple[Seen, Sequence[str]]:
        seen = known_version(tx, caller, function_id, version_id)
        wanted = detailed and include_secrets
        return seen, secrets.names(tx, version_place(caller.nca_id, version_id)) if wanted else ()

    seen, names = await context.db.run(read)
    active = None
    if detailed:
        shown = (ActiveInstanceDto.of(i, context.fleet.clusters) for i in seen.instances)
        active = tuple(dto for dto in shown if dto is not None)
    return FunctionResponse(function=_shown(caller, FunctionDto.of(seen.version, seen.condition.status, active, names)))


async def update_version(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath, body: UpdateFunctionRequest
) -> FunctionResponse:
    """Replace tags, rate limit, limits and routing of LLM models, or LLM priority. All else never changes."""

    def write(tx: Transaction) -> tuple[Seen, list[str]]:
        seen = own_version(tx, caller, function_id, version_id)
        after = _updated(seen.version, body)
        functions.save(tx, after)
        changes_llm = body.llm_invocation_config or body.model_updates
        siblings = functions.of_function(tx, caller.nca_id, function_id) if changes_llm else []
        return replace(seen, version=after), propagate(tx, after, siblings)

    seen, changed = await context.db.run(write)
    for changed_id in (version_id, *changed):
        context.hints.hint("version", changed_id)
    return FunctionResponse(function=FunctionDto.of(seen.version, seen.condition.status))


async def update_rate_limit(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath, body: UpdateFunctionRequest
) -> Response:
    """Set the rate limit of a version (section 11). Deprecated: PUT of the version does the same."""
    if body.rate_limit is None:
        raise Invalid("rateLimit: must be given; DELETE clears the limit")
    change = UpdateFunctionRequest(rate_limit=body.rate_limit)
    await update_version(caller, context, function_id=function_id, version_id=version_id, body=change)
    return Response(status_code=204)


async def clear_rate_limit(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> Response:
    """Remove the rate limit of a version, if it has one. Deprecated: PUT of the version with a null does the same."""
    change = UpdateFunctionRequest(rate_limit=None)
    await update_version(caller, context, function_id=function_id, version_id=version_id, body=change)
    return Response(status_code=204)


async def delete_version(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> Response:
    """Remove a version with its deployment, in any status. Its instances end; what is queued is refused."""

    def write(tx: Transaction) -> Seen:
        refuse_public(tx, function_id, version_id, "Cannot delete a public function")
        seen = own_version(tx, caller, function_id, version_id)
        if seen.deployment is not None:
            deployments.delete(tx, seen.deployment.id)
        secrets.delete(tx, version_place(caller.nca_id, version_id))
        telemetries.release(tx, version_id)
        functions.delete(tx, version_id)
        _tell(tx, caller, seen.version, EventKind.VERSION_DELETED, context.now())
        last = not functions.siblings(tx, caller.nca_id, function_id)
        authorizations.forget(tx, function_id, version_id, last=last)
        return seen

    seen = await context.db.run(write)
    context.hints.hint("version", version_id)
    for deployment_id in {i.deployment_id for i in seen.instances} | (
        {seen.deployment.id} if seen.deployment else set()
    ):
        context.hints.hint("deployment", deployment_id)
    return Response(status_code=204)


def _tell(tx: Transaction, caller: Principal, version: FunctionVersion, kind: EventKind, now: datetime) -> None:
    """The event of what the caller did."""
    done = "created" if kind is EventKind.VERSION_CREATED else "deleted"
    text = f"version of {version.name} {done} by {caller.subject}"
    events.insert(tx, (event.of_version(version, kind, text, now=now),))


def _new_version(context: Context, caller: Principal, body: CreateFunctionRequest, function_id: str) -> FunctionVersion:
    return FunctionVersion(
        id=VersionId(new_id()),
        function_id=FunctionId(function_id),
        nca_id=caller.nca_id,
        name=body.name,
        definition=body.definition(),
        created_at=context.now(),
        tags=body.tags or (),
        rate_limit=body.rate_limit.to_model() if body.rate_limit else None,
        llm_invocation=body.llm_invocation_config.to_model() if body.llm_invocation_config else None,
    )


def _keep(tx: Transaction, context: Context, version: FunctionVersion, body: CreateFunctionRequest) -> None:
    """Record a new version with its secrets and the telemetry endpoints it uses."""
    chosen = version.definition.telemetries
    if chosen is not None:
        check_choice(tx, version.nca_id, chosen)
        telemetries.use(tx, version.id, chosen.by_type().values())
    functions.insert(tx, version)
    if body.secrets:
        put(tx, context, version_place(version.nca_id, version.id), secrets_of(body.secrets))


def _updated(version: FunctionVersion, body: UpdateFunctionRequest) -> FunctionVersion:
    if body.llm_invocation_config is not None:
        if version.definition.function_type is not FunctionType.LLM:
            raise Invalid("llmInvocationConfig: only for functions of functionType LLM")
        version = replace(version, llm_invocation=body.llm_invocation_config.to_model())
    if body.model_updates:
        if version.definition.function_type is not FunctionType.LLM:
            raise Invalid("modelUpdates: only for functions of functionType LLM")
        models = updated_models(version.definition.models, body.model_updates)
        version = replace(version, definition=replace(version.definition, models=models))
    if body.tags is not None:
        version = replace(version, tags=body.tags)
    if body.rate_limit is not None:
        version = replace(version, rate_limit=body.rate_limit.to_model())
    elif body.clears_rate_limit:
        version = replace(version, rate_limit=None)
    return version


def _inactive(version: FunctionVersion, body: CreateFunctionRequest) -> FunctionResponse:
    names = sorted(s.name for s in body.secrets or ())
    return FunctionResponse(function=FunctionDto.of(version, FunctionStatus.INACTIVE, secrets=names))


async def _list(caller: Principal, found: AsyncIterator[Sequence[Seen]]) -> Response:
    shown = ([_shown(caller, FunctionDto.of(s.version, s.condition.status)) for s in page] async for page in found)
    return await answered("functions", FunctionDto, shown)


def _shown(caller: Principal, dto: FunctionDto) -> FunctionDto:
    return dto if dto.nca_id == caller.nca_id else dto.seen_from_outside()

"""Functions and versions (control-plane page, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import Query, Response

from gpufn.api.context import Context, Ctx
from gpufn.api.parameters import FunctionIdPath, VersionIdPath, Visibility, visibilities
from gpufn.api.secrets import put
from gpufn.api.security import Caller
from gpufn.api.views import Seen, known_version, known_versions, known_versions_of, own_version, refuse_public, see
from gpufn.auth.access import require_account, require_function
from gpufn.model import event
from gpufn.model.access import Principal
from gpufn.model.errors import Invalid, NotFound
from gpufn.model.event import EventKind
from gpufn.model.function import FunctionType, FunctionVersion
from gpufn.model.ids import FunctionId, VersionId, new_id
from gpufn.model.secret import version_place
from gpufn.model.status import FunctionStatus
from gpufn.store import accounts, authorizations, deployments, events, functions, secrets
from gpufn.store.database import Transaction
from gpufn.wire.function_views import FunctionDto, FunctionResponse, ListFunctionIdsResponse, ListFunctionsResponse
from gpufn.wire.functions import CreateFunctionRequest, UpdateFunctionRequest
from gpufn.wire.instances import ActiveInstanceDto
from gpufn.wire.llm import check_same_kind
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
        functions.insert(tx, version)
        _tell(tx, caller, version, EventKind.VERSION_CREATED, version.created_at)
        _keep_secrets(tx, context, version, body)

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
        fitting = _fit(version, siblings)
        functions.insert(tx, fitting)
        _tell(tx, caller, fitting, EventKind.VERSION_CREATED, fitting.created_at)
        _keep_secrets(tx, context, fitting, body)
        return fitting, _propagate_priority(tx, fitting, siblings)

    version, changed = await context.db.run(write)
    for version_id in (version.id, *changed):
        context.hints.hint("version", version_id)
    return _inactive(version, body)


async def list_functions(caller: Caller, context: Ctx, *, visibility: Visibility = None) -> ListFunctionsResponse:
    """Every version within the caller's reach, one element each."""
    kinds = visibilities(visibility)
    return _list(caller, await context.db.run(lambda tx: see(tx, known_versions(tx, caller, kinds))))


async def list_function_ids(caller: Caller, context: Ctx, *, visibility: Visibility = None) -> ListFunctionIdsResponse:
    """The distinct ids of those functions."""
    kinds = visibilities(visibility)
    versions = await context.db.run(lambda tx: known_versions(tx, caller, kinds))
    return ListFunctionIdsResponse(function_ids=tuple(dict.fromkeys(v.function_id for v in versions)))


async def list_versions(caller: Caller, context: Ctx, *, function_id: FunctionIdPath) -> ListFunctionsResponse:
    """The versions of one function."""
    seen = await context.db.run(lambda tx: see(tx, known_versions_of(tx, caller, function_id)))
    return _list(caller, seen)


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
        shown = (ActiveInstanceDto.of(i, context.cluster) for i in seen.instances)
        active = tuple(dto for dto in shown if dto is not None)
    return FunctionResponse(function=_shown(caller, FunctionDto.of(seen.version, seen.condition.status, active, names)))


async def update_version(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath, body: UpdateFunctionRequest
) -> FunctionResponse:
    """Replace tags, rate limit or LLM priority. Everything else of a version never changes."""

    def write(tx: Transaction) -> tuple[Seen, list[str]]:
        seen = own_version(tx, caller, function_id, version_id)
        after = _updated(seen.version, body)
        functions.save(tx, after)
        siblings = functions.of_function(tx, caller.nca_id, function_id) if body.llm_invocation_config else []
        return replace(seen, version=after), _propagate_priority(tx, after, siblings)

    seen, changed = await context.db.run(write)
    for changed_id in (version_id, *changed):
        context.hints.hint("version", changed_id)
    return FunctionResponse(function=FunctionDto.of(seen.version, seen.condition.status))


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


def _keep_secrets(tx: Transaction, context: Context, version: FunctionVersion, body: CreateFunctionRequest) -> None:
    if body.secrets:
        put(tx, context, version_place(version.nca_id, version.id), secrets_of(body.secrets))


def _fit(version: FunctionVersion, siblings: list[FunctionVersion]) -> FunctionVersion:
    """Check a new version against the older ones; an LLM version inherits the priority (section 12)."""
    kind, oldest = version.definition.function_type, siblings[0]
    if FunctionType.LLM not in {kind, *(s.definition.function_type for s in siblings)}:
        return version
    for sibling in siblings:
        if sibling.definition.function_type is not kind:
            raise Invalid(
                f"functionType: function id '{version.function_id}' is of type "
                f"{sibling.definition.function_type.value}, so a version cannot be {kind.value}"
            )
        check_same_kind(version.definition.models, sibling.definition.models)
    return version if version.llm_invocation is not None else replace(version, llm_invocation=oldest.llm_invocation)


def _propagate_priority(tx: Transaction, version: FunctionVersion, siblings: list[FunctionVersion]) -> list[str]:
    """The LLM priority is one for all versions of a function (section 12). Returns the versions that changed."""
    if version.definition.function_type is not FunctionType.LLM:
        return []
    differing = [s for s in siblings if s.id != version.id and s.llm_invocation != version.llm_invocation]
    for sibling in differing:
        functions.save(tx, replace(sibling, llm_invocation=version.llm_invocation))
    return [s.id for s in differing]


def _updated(version: FunctionVersion, body: UpdateFunctionRequest) -> FunctionVersion:
    if body.llm_invocation_config is not None:
        if version.definition.function_type is not FunctionType.LLM:
            raise Invalid("llmInvocationConfig: only for functions of functionType LLM")
        version = replace(version, llm_invocation=body.llm_invocation_config.to_model())
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


def _list(caller: Principal, seen: list[Seen]) -> ListFunctionsResponse:
    shown = (_shown(caller, FunctionDto.of(s.version, s.condition.status)) for s in seen)
    return ListFunctionsResponse(functions=tuple(shown))


def _shown(caller: Principal, dto: FunctionDto) -> FunctionDto:
    return dto if dto.nca_id == caller.nca_id else dto.seen_from_outside()

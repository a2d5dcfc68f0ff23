"""The API-key service of NVCF (auth page, sections 3 and 4), for NVIDIA's command line and for who makes keys with it.

The reference trusts whoever reaches it. Here every route takes a credential: keys are managed inside the caller's own
account, and a key grants nothing that its maker could not grant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, TypeAlias

from fastapi import Header, Path, Response

from gpufn.api.context import Context, Ctx
from gpufn.api.parameters import KeyIdPath
from gpufn.api.security import Caller
from gpufn.auth import keyservice as rules
from gpufn.auth.access import grantable, grantable_resources
from gpufn.auth.keys import digest, matches, mint, parse
from gpufn.auth.keyservice import Service
from gpufn.model.access import SUPER_SCOPE, ApiKey, KeyOwner, KeyStatus, OwnerStatus, Principal, Resource
from gpufn.model.errors import Exhausted, Forbidden, Invalid, NotFound
from gpufn.store import functions, keys
from gpufn.store.database import Transaction
from gpufn.wire.keyservice import (
    AuthorizationsRequest,
    EvaluationDto,
    EvaluationRequest,
    EvaluationResult,
    IntrospectionDto,
    IntrospectRequest,
    KeyStatusRequest,
    LookupRequest,
    NewKeyRequest,
    OwnerDto,
    OwnerStatusRequest,
    ServiceDto,
    ServiceKeyDto,
    ServiceKeysDto,
    ServicesDto,
)

Issuer: TypeAlias = Annotated[str | None, Header(alias="Key-Issuer-Id", max_length=256)]
Owner: TypeAlias = Annotated[str | None, Header(alias="Key-Owner-Id", max_length=128)]
UserPath: TypeAlias = Annotated[str, Path(alias="userId", min_length=1, max_length=128)]
NamespacePath: TypeAlias = Annotated[str, Path(max_length=64)]
PolicyPath: TypeAlias = Annotated[str, Path(alias="policyName", max_length=128)]
RULE = re.compile(r"[\w-]+\.allow")
CACHED = {"Cache-Control": "max-age=60"}
INTROSPECTED = {"Cache-Control": "max-age=360"}
NEVER_CACHED = {"Cache-Control": "no-store"}


async def create_key(
    caller: Caller, context: Ctx, *, issuer: Issuer = None, owner: Owner = None, body: NewKeyRequest
) -> ServiceKeyDto:
    """Make a key of the owner that the headers name. Its value is in this answer and can never be read again."""
    service, owner_id, now = rules.service(issuer), _owner(owner), context.now()
    authorizations = rules.check_authorizations(body.authorizations)
    resources = await context.db.run(lambda tx: _resources(tx, caller, authorizations))
    key, value = mint(
        pepper=context.pepper,
        nca_id=caller.nca_id,
        owner=owner_id,
        description=rules.check_description(body.description),
        expires_at=rules.check_end(body.expires_at, now),
        scopes=grantable(caller, rules.scopes_of(authorizations)),
        resources=resources,
        now=now,
    )
    audiences = rules.check_audiences(body.audience_service_ids, service)
    key = replace(key, issuer=service.id, audiences=audiences, authorizations=authorizations, changed_at=now)

    def write(tx: Transaction) -> None:
        _require_active(tx, caller, owner_id)
        present = keys.of_owner(tx, caller.nca_id, owner_id, service.id)
        if sum(k.is_valid(now) for k in present) >= rules.MAX_KEYS:
            raise Invalid("Actor reached maximum allowed number of keys in service")
        _slow_down(present, context)
        keys.insert(tx, key)

    await context.db.run(write)
    context.hints.hint("key", key.id)
    return ServiceKeyDto.of(key, now, value=value)


async def list_keys(caller: Caller, context: Ctx, *, issuer: Issuer = None, owner: Owner = None) -> ServiceKeysDto:
    """The owner's keys of one service, without values and authorizations."""
    service, owner_id = rules.service(issuer), _owner(owner)

    def read(tx: Transaction) -> list[ApiKey]:
        _require_active(tx, caller, owner_id)
        return keys.of_owner(tx, caller.nca_id, owner_id, service.id)

    return _listed(await context.db.run(read), context)


async def get_key(
    caller: Caller, context: Ctx, *, key_id: KeyIdPath, issuer: Issuer = None, owner: Owner = None
) -> ServiceKeyDto:
    """One key of the owner."""
    key = await context.db.run(lambda tx: _own(tx, caller, key_id, rules.service(issuer), _owner(owner)))
    return ServiceKeyDto.of(key, context.now())


async def delete_key(
    caller: Caller, context: Ctx, *, key_id: KeyIdPath, issuer: Issuer = None, owner: Owner = None
) -> Response:
    """End a key's life: here at once, at the gateways within seconds."""

    def write(tx: Transaction) -> None:
        _own(tx, caller, key_id, rules.service(issuer), _owner(owner))
        keys.revoke(tx, key_id, now=context.now())

    await context.db.run(write)
    context.hints.hint("key", key_id)
    return Response(status_code=204)


async def set_authorizations(
    caller: Caller,
    context: Ctx,
    *,
    key_id: KeyIdPath,
    body: AuthorizationsRequest,
    issuer: Issuer = None,
    owner: Owner = None,
) -> ServiceKeyDto:
    """Replace what a key grants."""
    value, now = rules.check_authorizations(body.authorizations), context.now()
    scopes = grantable(caller, rules.scopes_of(value))

    def change(tx: Transaction) -> ApiKey:
        service, owner_id = rules.service(issuer), _owner(owner)
        key = _own(tx, caller, key_id, service, owner_id)
        if key.status(now) is not KeyStatus.ACTIVE:
            raise Invalid("Key is not active")
        _slow_down(keys.of_owner(tx, caller.nca_id, owner_id, service.id), context)
        resources = _resources(tx, caller, value)
        return replace(key, authorizations=value, scopes=scopes, resources=resources, changed_at=now)

    return await _changed(context, change)


async def list_user_keys(caller: Caller, context: Ctx, *, user_id: UserPath, issuer: Issuer = None) -> ServiceKeysDto:
    """The keys of any owner in the account, for the service's administrator."""
    service = rules.service(issuer)
    return _listed(await context.db.run(lambda tx: keys.of_owner(tx, caller.nca_id, user_id, service.id)), context)


async def get_user_key(
    caller: Caller, context: Ctx, *, user_id: UserPath, key_id: KeyIdPath, issuer: Issuer = None
) -> ServiceKeyDto:
    """One of them."""
    key = await context.db.run(lambda tx: _of_user(tx, caller, key_id, rules.service(issuer), user_id))
    return ServiceKeyDto.of(key, context.now())


async def delete_user_key(
    caller: Caller, context: Ctx, *, user_id: UserPath, key_id: KeyIdPath, issuer: Issuer = None
) -> Response:
    """End the life of one of them."""

    def write(tx: Transaction) -> None:
        _of_user(tx, caller, key_id, rules.service(issuer), user_id)
        keys.revoke(tx, key_id, now=context.now())

    await context.db.run(write)
    context.hints.hint("key", key_id)
    return Response(status_code=204)


async def set_key_status(
    caller: Caller, context: Ctx, *, user_id: UserPath, key_id: KeyIdPath, body: KeyStatusRequest, issuer: Issuer = None
) -> ServiceKeyDto:
    """Suspend a key, or let it work again."""
    to = KeyStatus(body.status)

    def change(tx: Transaction) -> ApiKey:
        key = _of_user(tx, caller, key_id, rules.service(issuer), user_id)
        rules.check_transition(key, to, context.now())
        return replace(key, suspended=to is KeyStatus.SUSPENDED)

    return await _changed(context, change)


async def suspend_user_keys(
    caller: Caller, context: Ctx, *, user_id: UserPath, issuer: Issuer = None
) -> ServiceKeysDto:
    """Suspend every key of an owner that works; those are in the answer, perhaps none."""
    service, now = rules.service(issuer), context.now()

    def write(tx: Transaction) -> list[ApiKey]:
        present = keys.of_owner(tx, caller.nca_id, user_id, service.id)
        after = [replace(k, suspended=True) for k in present if k.status(now) is KeyStatus.ACTIVE]
        for key in after:
            keys.save(tx, key)
        return after

    suspended = await context.db.run(write)
    for key in suspended:
        context.hints.hint("key", key.id)
    return _listed(suspended, context)


async def look_up_key(caller: Caller, context: Ctx, *, body: LookupRequest) -> ServiceKeyDto:
    """The key of that value, valid or not."""
    key = await _by_value(context, body.key)
    if key is None or (key.nca_id != caller.nca_id and not caller.has_scope(SUPER_SCOPE)):
        raise NotFound("Key not found.")
    return ServiceKeyDto.of(key, context.now())


async def list_all_user_keys(caller: Caller, context: Ctx, *, user_id: UserPath) -> ServiceKeysDto:
    """The keys of an owner across all services."""
    return _listed(await context.db.run(lambda tx: keys.of_owner(tx, caller.nca_id, user_id)), context)


async def delete_all_user_keys(caller: Caller, context: Ctx, *, user_id: UserPath) -> Response:
    """End the life of every one of them."""

    def write(tx: Transaction) -> list[ApiKey]:
        ended = keys.of_owner(tx, caller.nca_id, user_id)
        for key in ended:
            keys.revoke(tx, key.id, now=context.now())
        return ended

    for key in await context.db.run(write):
        context.hints.hint("key", key.id)
    return Response(status_code=204)


async def get_user(caller: Caller, context: Ctx, *, user_id: UserPath) -> OwnerDto:
    """Whether an owner may have keys; who was never suspended is active."""
    found = await context.db.run(lambda tx: keys.owner(tx, caller.nca_id, user_id))
    return _owner_dto(found or KeyOwner(caller.nca_id, user_id, OwnerStatus.ACTIVE))


async def set_user_status(caller: Caller, context: Ctx, *, user_id: UserPath, body: OwnerStatusRequest) -> OwnerDto:
    """Suspend an owner, whose keys then stop to work, or let them work again."""
    after = KeyOwner(caller.nca_id, user_id, body.status, context.now())

    def write(tx: Transaction) -> list[ApiKey]:
        keys.save_owner(tx, after)
        return keys.of_owner(tx, caller.nca_id, user_id)

    for key in await context.db.run(write):
        context.hints.hint("key", key.id)
    return _owner_dto(after)


async def introspect(caller: Caller, context: Ctx, response: Response, *, body: IntrospectRequest) -> IntrospectionDto:
    """Whose key that is, for a service it was made for. What cannot be used is not found, whatever the reason."""
    response.headers.update(NEVER_CACHED)
    key = await _by_value(context, body.key)
    if key is None or not key.is_valid(context.now()):
        raise NotFound("Key not found.")
    if body.audience_service_id not in key.audiences:
        raise Invalid("audience_service_id invalid")
    response.headers.update(INTROSPECTED)
    return IntrospectionDto(
        owner_id=key.owner, key_id=key.id, issuer_service_id=key.issuer, authorizations=key.authorizations
    )


async def evaluate(
    caller: Caller,
    context: Ctx,
    response: Response,
    *,
    namespace: NamespacePath,
    policy_name: PolicyPath,
    body: EvaluationRequest,
) -> EvaluationDto:
    """Whether a key may be used with a service, and under which policy."""
    service = rules.in_namespace(namespace)
    if RULE.fullmatch(policy_name) is None:
        raise Invalid(f"Rule name is not supported: {policy_name}")
    if not body.input.apiKey:
        raise Invalid("Api key is not provided")
    result = await _evaluated(context, body.input.apiKey, service)
    response.headers.update(CACHED if result.allowed else NEVER_CACHED)
    return EvaluationDto(namespace=namespace, rule_name=policy_name, result=result)


async def list_services(caller: Caller) -> ServicesDto:
    """Every service whose keys are made here."""
    return ServicesDto(services=tuple(_service_dto(s) for s in rules.SERVICES))


async def get_service(
    caller: Caller, *, service_id: Annotated[str, Path(alias="serviceId", max_length=256)]
) -> ServiceDto:
    """One of them."""
    found = next((s for s in rules.SERVICES if s.id == service_id), None)
    if found is None:
        raise NotFound(f"service '{service_id[:64]}': Not found")
    return _service_dto(found)


async def _changed(context: Context, change: Callable[[Transaction], ApiKey]) -> ServiceKeyDto:
    def write(tx: Transaction) -> ApiKey:
        after = change(tx)
        keys.save(tx, after)
        return after

    key = await context.db.run(write)
    context.hints.hint("key", key.id)
    return ServiceKeyDto.of(key, context.now())


async def _by_value(context: Context, value: str | None) -> ApiKey | None:
    """The key of that value, revoked or not. Raises Invalid for what is no key at all."""
    known = parse(value)
    found = await context.db.run(lambda tx: keys.by_digest(tx, digest(context.pepper, known.encode())))
    return found if found is not None and matches(found, pepper=context.pepper, value=known) else None


async def _evaluated(context: Context, value: str, service: Service) -> EvaluationResult:
    try:
        key = await _by_value(context, value)
    except Invalid:
        key = None
    policy = rules.policy_of(key.authorizations, service.id) if key is not None else None
    if key is None or policy is None or not key.is_valid(context.now()):
        return EvaluationResult(allowed=False)
    return EvaluationResult(allowed=True, ncaId=key.nca_id, ownerId=key.owner, policy=policy)


def _resources(tx: Transaction, caller: Principal, authorizations: Any) -> tuple[Resource, ...]:
    wanted = rules.resources_of(authorizations)
    return grantable_resources(caller, wanted, owns=partial(functions.owns, tx, caller.nca_id))


def _owner(owner: str | None) -> str:
    if not owner or not owner.strip():
        raise Invalid("Key-Owner-Id is not set")
    return owner


def _require_active(tx: Transaction, caller: Principal, owner_id: str) -> None:
    found = keys.owner(tx, caller.nca_id, owner_id)
    if found is not None and found.status is OwnerStatus.SUSPENDED:
        raise Forbidden(f"owner '{owner_id}' is suspended")


def _own(tx: Transaction, caller: Principal, key_id: str, service: Service, owner_id: str) -> ApiKey:
    _require_active(tx, caller, owner_id)
    return _of_user(tx, caller, key_id, service, owner_id)


def _of_user(tx: Transaction, caller: Principal, key_id: str, service: Service, owner_id: str) -> ApiKey:
    key = keys.get(tx, key_id)
    wanted = (caller.nca_id, owner_id, service.id)
    if key is None or key.revoked_at is not None or (key.nca_id, key.owner, key.issuer) != wanted:
        raise NotFound("Key not found.")
    return key


def _slow_down(present: list[ApiKey], context: Context) -> None:
    last = max((k.changed_at for k in present if k.changed_at is not None), default=None)
    if last is not None and context.now() - last < rules.MIN_INTERVAL:
        raise Exhausted("Slow down.")


def _listed(found: list[ApiKey], context: Context) -> ServiceKeysDto:
    now = context.now()
    return ServiceKeysDto(keys=tuple(ServiceKeyDto.of(key, now, brief=True) for key in found))


def _owner_dto(owner: KeyOwner) -> OwnerDto:
    return OwnerDto(owner_id=owner.owner, status=owner.status, status_updated_at=owner.updated_at)


def _service_dto(service: Service) -> ServiceDto:
    return ServiceDto(
        service_id=service.id,
        service_name=service.name,
        audience_service_ids=tuple(s.id for s in rules.SERVICES),
        max_api_keys_per_user=rules.MAX_KEYS,
        max_api_key_ttl_days=rules.MAX_DAYS,
        max_authz_size_chars=rules.MAX_AUTHORIZATIONS,
        min_authz_update_interval_seconds=int(rules.MIN_INTERVAL.total_seconds()),
    )

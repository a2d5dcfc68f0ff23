"""API keys of the caller's account. gpufn's own routes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi import Response

from gpufn.api.context import Ctx
from gpufn.api.parameters import KeyIdPath
from gpufn.api.security import Caller
from gpufn.auth.access import granted_resources, granted_scopes
from gpufn.auth.keys import mint
from gpufn.model.access import Principal, Resource
from gpufn.model.errors import Invalid, NotFound
from gpufn.store import functions, keys
from gpufn.store.database import Transaction
from gpufn.wire.keys import CreateKeyRequest, KeyDto, KeyResponse, KeysResponse

MAX_KEYS = 1000
"""Valid keys of one account."""


async def create_key(caller: Caller, context: Ctx, *, body: CreateKeyRequest | None = None) -> KeyResponse:
    """Make a key; it gets the caller's own scopes and resources where none are given. Its value is in this answer and
    can never be read again.
    """
    body = body or CreateKeyRequest()
    now = context.now()
    end = body.end(now)
    if end is not None and end <= now:
        raise Invalid("expiresAt: must be in the future")
    scopes = sorted(caller.scopes) if body.scopes is None else body.scopes
    resources = await context.db.run(lambda tx: _resources(tx, caller, body))
    key, value = mint(
        pepper=context.pepper,
        nca_id=caller.nca_id,
        owner=caller.subject,
        scopes=granted_scopes(caller, scopes),
        resources=resources,
        now=now,
        description=body.description,
        expires_at=end,
    )

    def write(tx: Transaction) -> None:
        if len(keys.of_account(tx, caller.nca_id)) >= MAX_KEYS:
            raise Invalid(f"this account has {MAX_KEYS} keys, which is the limit; revoke some first")
        keys.insert(tx, key)

    await context.db.run(write)
    context.hints.hint("key", key.id)
    return KeyResponse(key=KeyDto.of(key, value))


def _resources(tx: Transaction, caller: Principal, body: CreateKeyRequest) -> Sequence[Resource]:
    wanted = body.wanted_resources()
    if wanted is None:
        return caller.resources
    return granted_resources(caller, wanted, owns=partial(functions.owns, tx, caller.nca_id))


async def list_keys(caller: Caller, context: Ctx) -> KeysResponse:
    """Every key of the account that was not revoked, without its value."""
    found = await context.db.run(lambda tx: keys.of_account(tx, caller.nca_id))
    return KeysResponse(keys=tuple(KeyDto.of(key) for key in found))


async def revoke_key(caller: Caller, context: Ctx, *, key_id: KeyIdPath) -> Response:
    """End a key's life: here at once, at the gateways within seconds."""

    def write(tx: Transaction) -> None:
        key = keys.get(tx, key_id)
        if key is None or key.nca_id != caller.nca_id or key.revoked_at is not None:
            raise NotFound(f"Key id '{key_id}': Not found for account '{caller.nca_id}'")
        if key.id == caller.key_id:
            raise Invalid(f"Key id '{key_id}' is the one that makes this call; revoke it with another key")
        keys.revoke(tx, key_id, now=context.now())

    await context.db.run(write)
    context.hints.hint("key", key_id)
    return Response(status_code=204)

"""Who is calling: the bearer key or token, looked at before routing, once each (control-plane page, section 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Annotated, Any, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from gpufn.api.context import Context
from gpufn.auth import keys as auth_keys
from gpufn.auth.access import of_claims, principal, require_scope
from gpufn.auth.tokens import verify
from gpufn.model.access import SUPER_SCOPE, ApiKey, Principal
from gpufn.model.errors import Forbidden, NotFound, Unauthenticated
from gpufn.store import accounts, keys as stored
from gpufn.store.database import Transaction

MAX_TOKEN = 8192
"""Longest bearer token looked at, in characters."""
CALLER = "gpufn.caller"
"""Where the front keeps the caller."""


async def authenticate(context: Context, header: str | None) -> Principal:
    """Who sent this ``Authorization`` header.

    Raises Unauthenticated for no or another kind of token (401), Forbidden for an ``nvapi-`` key that is not valid
    (403): the reference asks its key service and passes the refusal on (section 1, order of checks).
    """
    if not header:
        raise Unauthenticated("no Authorization header; send `Authorization: Bearer nvapi-…`")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
        raise Unauthenticated(
            "the Authorization header holds no API key; send `Authorization: Bearer nvapi-…`",
            challenge='Bearer error="invalid_token"',
        )
    if not token.startswith(auth_keys.PREFIX):
        return await _by_token(context, token)
    key = await find_key(context, token)
    if key is None:
        raise Forbidden("this API key is unknown, revoked or expired; use another one")
    return principal(key)


async def _by_token(context: Context, token: str) -> Principal:
    """Who sent a JWT. It is worth no more than the key it was made with; its client says for which account it acts."""
    now = context.now()
    claims = verify(token, context.trusted(), now=now.timestamp())
    if claims.intended is not None:
        raise Forbidden("Access Denied: this token was made to invoke certain functions, and does nothing else")

    def read(tx: Transaction) -> Principal:
        key = stored.get(tx, claims.key_id) if claims.key_id is not None else None
        if claims.key_id is not None and (key is None or not key.is_valid(now) or SUPER_SCOPE not in key.scopes):
            raise Unauthenticated(
                "the API key that this token was made with is revoked, expired or without scope account_setup; ask for "
                "a token with another key",
                challenge='Bearer error="invalid_token"',
            )
        client = accounts.client(tx, claims.client, claims.issuer) if not claims.nca_id else None
        return of_claims(claims, client.nca_id if client is not None else claims.nca_id)

    return await context.db.run(read)


async def find_key(context: Context, value: str) -> ApiKey | None:
    """The valid key of that value, found by its digest and compared in constant time."""
    if len(value) > MAX_TOKEN or not auth_keys.looks_like_key(value):
        return None
    digest = auth_keys.digest(context.pepper, value.encode())
    key = await context.db.run(lambda tx: stored.by_digest(tx, digest))
    if key is None or not auth_keys.matches(key, pepper=context.pepper, value=value):
        return None
    return key if key.is_valid(context.now()) else None


async def _caller(connection: HTTPConnection) -> Principal:
    return cast("Principal", connection.scope[CALLER])


Caller = Annotated[Principal, Depends(_caller)]
"""The caller, as a parameter of a route."""


def guarded(
    handler: Callable[..., Awaitable[Any]], any_of: Sequence[str], *, in_account: bool = True
) -> Callable[..., Awaitable[Any]]:
    """``handler``, refused to callers without one of the scopes, and with ``in_account`` to clients without an account.
    The checks come after the body's own (section 1).
    """

    @wraps(handler)
    async def checked(**given: Any) -> Any:
        caller: Principal = given["caller"]
        require_scope(caller, any_of)
        if in_account and not caller.nca_id:
            raise NotFound(f"Client '{caller.subject}': Not found; associate it with an account first")
        return await handler(**given)

    return checked

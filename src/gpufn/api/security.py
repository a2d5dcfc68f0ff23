"""Who is calling: the bearer key, looked up once per request, before routing (control-plane page, sections 1 and 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Annotated, Any, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from gpufn.api.context import Context
from gpufn.auth import keys as auth_keys
from gpufn.auth.access import principal, require_scope
from gpufn.model.access import ApiKey, Principal
from gpufn.model.errors import Forbidden, Unauthenticated
from gpufn.store import keys as stored

MAX_TOKEN = 4096
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
    if scheme.lower() != "bearer" or not token.startswith(auth_keys.PREFIX):
        raise Unauthenticated(
            "the Authorization header holds no API key; send `Authorization: Bearer nvapi-…`",
            challenge='Bearer error="invalid_token"',
        )
    key = await find_key(context, token)
    if key is None:
        raise Forbidden("this API key is unknown, revoked or expired; use another one")
    return principal(key)


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


def guarded(handler: Callable[..., Awaitable[Any]], any_of: Sequence[str]) -> Callable[..., Awaitable[Any]]:
    """``handler``, refused to callers without one of the scopes. The check comes after the body's own (section 1)."""

    @wraps(handler)
    async def checked(**given: Any) -> Any:
        require_scope(given["caller"], any_of)
        return await handler(**given)

    return checked

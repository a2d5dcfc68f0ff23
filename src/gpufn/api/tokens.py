"""The admin token, delegated tokens, and the keys that this installation signs them with (auth page, section 6).

The reference gives an admin token to whoever reaches its issuer. Here it takes an API key with scope account_setup,
such as the one in the data directory, unless ``identity.open_issuer`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from gpufn.api.context import Ctx
from gpufn.api.parameters import FunctionIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import known_version, known_versions_of
from gpufn.auth.tokens import OWN_AUDIENCE, Assertion
from gpufn.model.access import ADMIN_TOKEN_SCOPES, Intended
from gpufn.model.errors import Forbidden
from gpufn.wire.scalars import format_time
from gpufn.wire.tokens import ClientTokenRequest, ClientTokenResponse, FunctionsTokenRequest

DELEGATED_SECONDS = 600
"""For which a delegated token is good (control-plane page, section 15)."""


async def issue_admin_token(caller: Caller, context: Ctx) -> dict[str, Any]:
    """A token that may do admin work in every account, until it expires or the key that asked for it is revoked."""
    if not caller.is_key:
        raise Forbidden("Access Denied: a token cannot ask for another one; use an API key with scope account_setup")
    now = context.now()
    identity = context.identity
    token = context.signer.issue(
        identity.admin_client,
        scopes=ADMIN_TOKEN_SCOPES,
        now=now.timestamp(),
        ttl=identity.token_ttl,
        key_id=caller.key_id,
    )
    return {"value": token, "expires_at": format_time(now + timedelta(seconds=identity.token_ttl))}


async def delegate_function(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, body: ClientTokenRequest
) -> ClientTokenResponse:
    """A token with which somebody else invokes one function of those that the caller reaches (section 15)."""
    async for _ in known_versions_of(context.db, caller, function_id):
        break
    return _delegated(caller, context, body.client_id, [(function_id, "")])


async def delegate_version(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath, body: ClientTokenRequest
) -> ClientTokenResponse:
    """The same for one version."""
    await context.db.run(lambda tx: known_version(tx, caller, function_id, version_id))
    return _delegated(caller, context, body.client_id, [(function_id, version_id)])


async def delegate_functions(caller: Caller, context: Ctx, *, body: FunctionsTokenRequest) -> ClientTokenResponse:
    """The same for up to four functions. Whether the caller reaches them is looked at when the token is used."""
    intended = [(f.function_id, f.function_version_id or "") for f in body.functions]
    return _delegated(caller, context, body.client_id, intended)


def _delegated(caller: Caller, context: Ctx, client_id: str, intended: Sequence[Intended]) -> ClientTokenResponse:
    token = context.signer.delegate(
        caller.subject,
        Assertion(caller.nca_id, client_id, frozenset(intended)),
        now=context.now().timestamp(),
        ttl=DELEGATED_SECONDS,
        key_id=caller.key_id,
    )
    return ClientTokenResponse(access_token=token, expires_in=DELEGATED_SECONDS)


async def signing_keys(context: Ctx) -> dict[str, Any]:
    """The public halves, as a JWK set."""
    return dict(context.signer.issuer.keys)


async def openid_configuration(context: Ctx) -> dict[str, Any]:
    """Where verifiers find the keys."""
    name = context.signer.issuer.name
    return {
        "issuer": name,
        "jwks_uri": f"{name.rstrip('/')}/.well-known/jwks.json",
        "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
        "audience": OWN_AUDIENCE,
    }

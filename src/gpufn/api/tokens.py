"""The admin token, and the keys that tokens of this installation are signed with (auth page, section 6).

The reference gives an admin token to whoever reaches its issuer. Here it takes an API key with scope account_setup,
such as the one in the data directory, unless ``identity.open_issuer`` says otherwise.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gpufn.api.context import Ctx
from gpufn.api.security import Caller
from gpufn.auth.tokens import OWN_AUDIENCE
from gpufn.model.access import ADMIN_TOKEN_SCOPES
from gpufn.model.errors import Forbidden
from gpufn.wire.scalars import format_time


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

"""Secrets of versions (control-plane page, section 10): written and merged here, never read out."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Response

from gpufn.api.context import Context, Ctx
from gpufn.api.parameters import FunctionIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import own_version
from gpufn.auth.access import require_account
from gpufn.model.errors import Invalid
from gpufn.model.secret import SECRETS_MAX, Secret, version_place
from gpufn.model.status import FunctionStatus
from gpufn.store import secrets
from gpufn.store.database import Transaction
from gpufn.wire.platform import RotationResponse
from gpufn.wire.secrets import UpdateSecretsRequest

REWRAP_BATCH = 500
"""Secrets wrapped anew in one transaction."""


async def update_secrets(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    body: UpdateSecretsRequest,
) -> Response:
    """Add or overwrite secrets of a version; running instances see the new values without a restart."""

    def write(tx: Transaction) -> None:
        seen = own_version(tx, caller, function_id, version_id)
        place = version_place(caller.nca_id, version_id)
        status = seen.condition.status
        if status is not FunctionStatus.INACTIVE and not secrets.names(tx, place):
            raise Invalid(
                f"Function id '{function_id}', version '{version_id}': Status {status.value}, and it has no secrets "
                "yet; the first can be added only while it is INACTIVE, so undeploy it first"
            )
        put(tx, context, place, body.to_model())

    await context.db.run(write)
    context.hints.hint("secret", version_id)
    return Response(status_code=204)


def put(tx: Transaction, context: Context, place: str, given: Sequence[Secret]) -> None:
    """Seal and merge; raises Invalid when there would be too many."""
    there = {*secrets.names(tx, place), *(s.name for s in given)}
    if len(there) > SECRETS_MAX:
        raise Invalid(f"secrets: {len(there)} are more than the {SECRETS_MAX} that one place holds; leave some out")
    secrets.put(tx, [context.keyring.seal(place, secret) for secret in given])


async def rotate_master_key(caller: Caller, context: Ctx) -> RotationResponse:
    """Make a new master key, wrap every secret's own key under it, and forget all but the former one.

    Whatever moment this is ended at, every secret can still be opened; calling it again finishes the work.
    """
    require_account(caller)
    ring, count = context.keyring, 0
    ring.add()
    while True:

        def write(tx: Transaction) -> int:
            older = secrets.not_under(tx, ring.newest, limit=REWRAP_BATCH)
            secrets.put(tx, [ring.rewrap(one) for one in older])
            return len(older)

        done = await context.db.run(write)
        count += done
        if done < REWRAP_BATCH:
            break
    ring.drop_older()
    return RotationResponse(master_key_id=ring.newest, secrets=count)

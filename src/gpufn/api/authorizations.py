"""Who else may invoke a function: nobody, as accounts cannot share functions (control-plane page, section 9).

Only the reads are here. terraform-provider-ngc asks for the parties of a version whenever it creates or reads one, and
gives up on anything but 200 (clients page, section 7).
"""

from __future__ import annotations

from gpufn.api.context import Ctx
from gpufn.api.parameters import FunctionIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import own_version
from gpufn.auth.access import visible
from gpufn.model.function import FunctionVersion
from gpufn.store import functions
from gpufn.wire.authorizations import AuthorizationDto, AuthorizationResponse, ListAuthorizationsResponse


async def version_authorizations(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> AuthorizationResponse:
    """The accounts that one version is shared with."""
    seen = await context.db.run(lambda tx: own_version(tx, caller, function_id, version_id))
    return AuthorizationResponse(function=_unshared(seen.version))


async def function_authorizations(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath
) -> ListAuthorizationsResponse:
    """The same for every version that the key reaches; one that reaches none gets an empty list, not 403."""
    versions = await context.db.run(lambda tx: functions.of_function(tx, caller.nca_id, function_id))
    return ListAuthorizationsResponse(functions=tuple(_unshared(v) for v in visible(caller, versions)))


def _unshared(version: FunctionVersion) -> AuthorizationDto:
    return AuthorizationDto(id=version.function_id, nca_id=version.nca_id, version_id=version.id)

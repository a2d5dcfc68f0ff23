"""Sharing functions with other accounts (control-plane page, section 9).

Every route comes twice: for a function, whose set of parties holds for all its versions, and for one version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpufn.api.context import Context, Ctx
from gpufn.api.parameters import FunctionIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import own_version, refuse_public
from gpufn.auth.access import require_function, require_version, visible
from gpufn.model import sharing
from gpufn.model.access import Principal
from gpufn.model.errors import Invalid
from gpufn.model.sharing import PUBLIC
from gpufn.store import accounts, authorizations, functions
from gpufn.store.authorizations import WHOLE
from gpufn.store.database import Transaction
from gpufn.wire.authorizations import (
    AuthorizationDto,
    AuthorizationResponse,
    AuthorizedPartyDto,
    ChangePartyRequest,
    ListAuthorizationsResponse,
    PartyRequest,
    SetPartiesRequest,
)

Parties = tuple[str, ...]


async def function_authorizations(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath
) -> ListAuthorizationsResponse:
    """The parties of every version that the key reaches; one that reaches none gets an empty list, not 403."""

    def read(tx: Transaction) -> list[AuthorizationDto]:
        versions = visible(caller, functions.of_function(tx, caller.nca_id, function_id))
        return [_dto(caller, function_id, v.id, authorizations.of_version(tx, function_id, v.id)) for v in versions]

    return ListAuthorizationsResponse(functions=tuple(await context.db.run(read)))


async def version_authorizations(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> AuthorizationResponse:
    """Everybody that one version is shared with: by itself, or with its function."""

    def read(tx: Transaction) -> Parties:
        own_version(tx, caller, function_id, version_id)
        return authorizations.of_version(tx, function_id, version_id)

    found = await context.db.run(read)
    return AuthorizationResponse(function=_dto(caller, function_id, version_id, found))


async def set_function_parties(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, body: SetPartiesRequest
) -> AuthorizationResponse:
    """Share every version of a function, present and future, with exactly these accounts."""
    return await _set(context, _Level(caller, function_id), body)


async def add_function_party(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, body: ChangePartyRequest
) -> AuthorizationResponse:
    """Share a function with one account more."""
    return await _add(context, _Level(caller, function_id), body)


async def remove_function_party(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, body: ChangePartyRequest
) -> AuthorizationResponse:
    """Share a function with one account less."""
    return await _remove(context, _Level(caller, function_id), body)


async def clear_function_parties(caller: Caller, context: Ctx, *, function_id: FunctionIdPath) -> AuthorizationResponse:
    """Share a function with nobody; what its versions share by themselves stays."""
    return await _clear(context, _Level(caller, function_id))


async def set_version_parties(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath, body: SetPartiesRequest
) -> AuthorizationResponse:
    """Share one version with exactly these accounts."""
    return await _set(context, _Level(caller, function_id, version_id), body)


async def add_version_party(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath, body: ChangePartyRequest
) -> AuthorizationResponse:
    """Share one version with one account more."""
    return await _add(context, _Level(caller, function_id, version_id), body)


async def remove_version_party(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath, body: ChangePartyRequest
) -> AuthorizationResponse:
    """Share one version with one account less."""
    return await _remove(context, _Level(caller, function_id, version_id), body)


async def clear_version_parties(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> AuthorizationResponse:
    """Share one version with nobody; what its function shares stays."""
    return await _clear(context, _Level(caller, function_id, version_id))


@dataclass(frozen=True)
class _Level:
    """What is shared: a function, or one version of it; and who asks."""

    caller: Principal
    function_id: str
    version_id: str = WHOLE

    def check(self, tx: Transaction) -> None:
        """Raises NotFound, then Forbidden, unless it is the caller's and within reach of its key."""
        if self.version_id == WHOLE:
            functions.of_function(tx, self.caller.nca_id, self.function_id)
            require_function(self.caller, self.function_id)
        else:
            functions.get(tx, self.caller.nca_id, self.function_id, self.version_id)
            require_version(self.caller, self.function_id, self.version_id)


async def _set(context: Context, level: _Level, body: SetPartiesRequest) -> AuthorizationResponse:
    caller = level.caller
    wanted = tuple(p.nca_id for p in body.authorized_parties)
    parties = sharing.checked(wanted, owner=caller.nca_id, admin=caller.acts_for_others)

    def change(tx: Transaction, present: Parties) -> Parties:
        _check_known(tx, body.authorized_parties)
        return parties

    return await _change(context, level, "create" if caller.acts_for_others else "add", change)


async def _add(context: Context, level: _Level, body: ChangePartyRequest) -> AuthorizationResponse:
    party = body.authorized_party

    def change(tx: Transaction, present: Parties) -> Parties:
        after = sharing.added(present, party.nca_id, owner=level.caller.nca_id)
        _check_known(tx, (party,))
        return after

    return await _change(context, level, "add", change)


async def _remove(context: Context, level: _Level, body: ChangePartyRequest) -> AuthorizationResponse:
    def change(tx: Transaction, present: Parties) -> Parties:
        return sharing.removed(present, body.authorized_party.nca_id)

    return await _change(context, level, "remove", change)


async def _clear(context: Context, level: _Level) -> AuthorizationResponse:
    caller = level.caller
    await _change(context, level, None if caller.acts_for_others else "delete", lambda tx, present: ())
    return AuthorizationResponse(function=_dto(caller, level.function_id, level.version_id, None))


async def _change(
    context: Context, level: _Level, verb: str | None, change: Callable[[Transaction, Parties], Parties]
) -> AuthorizationResponse:
    """Write the set that ``change`` makes of the present one. ``verb``: what cannot be done to a public function."""
    fid, vid = level.function_id, level.version_id

    def write(tx: Transaction) -> tuple[Parties, list[str]]:
        if verb is not None:
            article = "a " if level.caller.acts_for_others else ""
            refuse_public(tx, fid, vid, f"Cannot {verb} authorized parties for {article}public function")
        level.check(tx)
        after = change(tx, authorizations.parties(tx, fid, vid))
        authorizations.replace(tx, fid, vid, after)
        told = [vid] if vid != WHOLE else [str(v.id) for v in functions.of_function(tx, level.caller.nca_id, fid)]
        return after, told

    after, told = await context.db.run(write)
    for version_id in told:
        context.hints.hint("version", version_id)
    return AuthorizationResponse(function=_dto(level.caller, fid, vid, after))


def _check_known(tx: Transaction, parties: tuple[PartyRequest, ...]) -> None:
    """Raises Invalid for an account or a client that does not exist."""
    for party in parties:
        if party.client_id is not None and not accounts.has_client(tx, party.nca_id, party.client_id):
            raise Invalid(f"clientId: '{party.client_id}' is not a client of account '{party.nca_id}'; leave it out")
        if party.nca_id != PUBLIC and accounts.get(tx, party.nca_id) is None:
            raise Invalid(f"ncaId: there is no account '{party.nca_id}'")


def _dto(caller: Principal, function_id: str, version_id: str, parties: Parties | None) -> AuthorizationDto:
    return AuthorizationDto(
        id=function_id,
        nca_id=caller.nca_id,
        version_id=version_id or None,
        authorized_parties=None if parties is None else tuple(AuthorizedPartyDto(nca_id=p) for p in parties),
    )

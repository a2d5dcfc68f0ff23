"""Accounts of this installation, and the clients whose tokens act for them (control-plane page, section 19)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query, Response

from gpufn.api.across import AccountPath
from gpufn.api.context import Context, Ctx
from gpufn.api.lists import LEAN_PAGE, answered, pages
from gpufn.api.parameters import ClientIdPath
from gpufn.api.security import Caller
from gpufn.model.access import Principal
from gpufn.model.account import Account, Client
from gpufn.model.errors import Conflict, Forbidden, Invalid, NotFound
from gpufn.model.ids import DEFAULT_ACCOUNT, AccountId, KeyId
from gpufn.store import accounts, authorizations, functions, keys, pages as stored, tasks
from gpufn.store.database import Transaction
from gpufn.store.pages import Position
from gpufn.wire.accounts import (
    AccountDto,
    AccountResponse,
    ClientDto,
    ClientRequest,
    ClientResponse,
    CreateAccountRequest,
    UpdateAccountRequest,
)

MAX_ACCOUNTS = 10_000
"""Accounts of one installation."""
_FIRST = re.compile(r"[A-Za-z0-9][^/\x00-\x20\x7f]*")


async def create_account(
    caller: Caller, context: Ctx, *, nca_id: AccountPath, body: CreateAccountRequest
) -> AccountResponse:
    """Make an account. Its first key is made with ``POST /v2/gpufn/accounts/{ncaId}/keys``."""
    _require_token(caller)
    if _FIRST.fullmatch(nca_id) is None:
        raise Invalid(f"ncaId: '{nca_id}' must begin with a letter or digit and hold no blanks or slashes")
    now = context.now()
    account = Account(
        AccountId(nca_id),
        body.name,
        now,
        max_functions=body.max_functions_allowed,
        max_tasks=body.max_tasks_allowed,
        updated_at=now,
    )
    if body.max_telemetries_allowed is not None:
        account = replace(account, max_telemetries=body.max_telemetries_allowed)
    if body.max_registry_credentials_allowed is not None:
        account = replace(account, max_registry_credentials=body.max_registry_credentials_allowed)

    def write(tx: Transaction) -> AccountDto:
        if accounts.get(tx, nca_id) is not None:
            raise Conflict(f"Account '{nca_id}' exists already")
        if accounts.count(tx) >= MAX_ACCOUNTS:
            raise Invalid(f"there are {MAX_ACCOUNTS} accounts, which is the limit; delete some first")
        accounts.ensure(tx, account)
        if body.admin_client_id is not None:
            _associate(tx, context, Client(body.admin_client_id, account.nca_id, now, body.issuer))
        return _dto(tx, account)

    answer = AccountResponse(account=await context.db.run(write))
    context.hints.hint("client", body.admin_client_id or "")
    return answer


async def list_accounts(caller: Caller, context: Ctx) -> Response:
    """Every account; an API key sees its own."""

    def read(tx: Transaction, after: Position | None) -> tuple[list[AccountDto], Position | None]:
        own = caller.nca_id if caller.is_key else None
        found = stored.of_accounts(tx, after=after, limit=LEAN_PAGE, nca_id=own)
        clients = accounts.clients_of_many(tx, [a.nca_id for a in found])
        shown = [AccountDto.of(a, clients.get(a.nca_id, ())) for a in found]
        return shown, (found[-1].created_at, found[-1].nca_id) if len(found) == LEAN_PAGE else None

    return await answered("cloudAccounts", AccountDto, pages(context.db, read))


async def get_account(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> AccountResponse:
    """One account, with how many versions it has."""

    def read(tx: Transaction) -> AccountDto:
        account = _existing(tx, caller, nca_id)
        return AccountDto.of(account, accounts.clients_of(tx, nca_id), functions.count(tx, nca_id))

    return AccountResponse(account=await context.db.run(read))


async def update_account(
    caller: Caller, context: Ctx, *, nca_id: AccountPath, body: UpdateAccountRequest
) -> AccountResponse:
    """Change the name or the bounds; what is there already stays."""

    def write(tx: Transaction) -> AccountDto:
        before = _existing(tx, caller, nca_id)
        after = replace(before, updated_at=context.now(), **_changes(body))
        accounts.save(tx, after)
        return _dto(tx, after)

    return AccountResponse(account=await context.db.run(write))


async def delete_account(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> Response:
    """Remove an account that owns no functions and tasks and shares in none; its keys and clients end with it."""
    _require_token(caller)

    def write(tx: Transaction) -> list[KeyId]:
        _existing(tx, caller, nca_id)
        if nca_id == DEFAULT_ACCOUNT:
            raise Invalid(f"Account '{nca_id}' is this installation's own; it cannot be deleted")
        if functions.count(tx, nca_id) or authorizations.functions_naming(tx, nca_id):
            raise Invalid(f"Account '{nca_id}' still owns functions, or some are shared with it; delete those first")
        if tasks.count(tx, nca_id):
            raise Invalid(f"Account '{nca_id}' still owns tasks; delete those first, which takes a moment")
        ended = [k.id for k in keys.of_account(tx, nca_id)]
        accounts.delete(tx, nca_id)
        return ended

    for key_id in await context.db.run(write):
        context.hints.hint("key", key_id)
    context.hints.hint("client", "")
    return Response(status_code=204)


async def associate_client(
    caller: Caller, context: Ctx, *, nca_id: AccountPath, body: ClientRequest
) -> AccountResponse:
    """Let the tokens of a client act for the account."""

    def write(tx: Transaction) -> AccountDto:
        account = _existing(tx, caller, nca_id)
        _associate(tx, context, Client(body.admin_client_id, account.nca_id, context.now(), body.issuer))
        return _dto(tx, account)

    answer = AccountResponse(account=await context.db.run(write))
    context.hints.hint("client", body.admin_client_id)
    return answer


async def disassociate_client(
    caller: Caller, context: Ctx, *, nca_id: AccountPath, body: ClientRequest
) -> AccountResponse:
    """Let the tokens of a client act for nobody any more."""
    client_id = body.admin_client_id

    def write(tx: Transaction) -> AccountDto:
        account = _existing(tx, caller, nca_id)
        client = accounts.client(tx, client_id, body.issuer)
        if client is None:
            raise NotFound(f"Client '{client_id}': Not found")
        if client.nca_id != nca_id:
            raise Invalid(f"adminClientId: client '{client_id}' is not associated with account '{nca_id}'")
        accounts.remove_client(tx, client)
        return _dto(tx, account)

    answer = AccountResponse(account=await context.db.run(write))
    context.hints.hint("client", client_id)
    return answer


async def get_client(
    caller: Caller, context: Ctx, *, client_id: ClientIdPath, issuer: Annotated[str, Query(max_length=512)] = ""
) -> ClientResponse:
    """The account that a client acts for: with ``issuer`` one of that issuer's, else one of this installation's own."""

    def read(tx: Transaction) -> ClientDto:
        client = accounts.client(tx, client_id, issuer)
        account = accounts.get(tx, client.nca_id) if client is not None else None
        if client is None or account is None or (caller.is_key and client.nca_id != caller.nca_id):
            raise NotFound(f"Client '{client_id}': Not found")
        return ClientDto.of(client, account)

    return ClientResponse(client=await context.db.run(read))


def _require_token(caller: Principal) -> None:
    if caller.is_key:
        raise Forbidden(
            "Access Denied: an API key cannot make or delete accounts; use an admin token (POST /v1/admin/keys)"
        )


def _existing(tx: Transaction, caller: Principal, nca_id: str) -> Account:
    """The account; an API key may look at its own only, and learns of no other."""
    if caller.is_key and caller.nca_id != nca_id:
        raise Forbidden(f"Access Denied: this key belongs to account '{caller.nca_id}', not to '{nca_id}'")
    account = accounts.get(tx, nca_id)
    if account is None:
        raise NotFound(f"Account '{nca_id}': Not found")
    return account


def _associate(tx: Transaction, context: Context, client: Client) -> None:
    if client.issuer and client.issuer not in context.issuers:
        known = ", ".join(context.issuers) or "none"
        raise Invalid(f"issuer: '{client.issuer[:256]}' is not an issuer whose tokens are believed; there are {known}")
    if accounts.client(tx, client.client_id, client.issuer) is not None:
        raise Conflict(f"Client '{client.client_id}' is associated with an account already")
    accounts.add_client(tx, client)


def _changes(body: UpdateAccountRequest) -> dict[str, Any]:
    given = {
        "name": body.name,
        "max_functions": body.max_functions_allowed,
        "max_tasks": body.max_tasks_allowed,
        "max_telemetries": body.max_telemetries_allowed,
        "max_registry_credentials": body.max_registry_credentials_allowed,
    }
    return {name: value for name, value in given.items() if value is not None}


def _dto(tx: Transaction, account: Account) -> AccountDto:
    return AccountDto.of(account, accounts.clients_of(tx, account.nca_id))

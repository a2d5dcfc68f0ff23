"""Accounts and clients (control-plane page, section 19), and the admin token (auth page, section 6.1)."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpufn.model.account import Account, Client
from gpufn.wire.base import Wire
from gpufn.wire.scalars import INT_MAX, Int, Timestamp

_NAME = re.compile(r"[a-z0-9A-Z][a-z0-9A-Z\-_]*")


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise ValueError("must begin with a letter or digit and hold only those, - and _")
    return text


def _client(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


AccountName: TypeAlias = Annotated[str, Field(min_length=4, max_length=36), AfterValidator(_name)]
ClientId: TypeAlias = Annotated[str, Field(max_length=128), AfterValidator(_client)]


ClientIssuer: TypeAlias = Annotated[
    Annotated[str, Field(max_length=512)], BeforeValidator(lambda v: "" if v is None else v)
]


class CreateAccountRequest(Wire):
    """A new account. Without bounds it may have any number of functions and tasks."""

    name: AccountName
    admin_client_id: ClientId | None = None
    issuer: ClientIssuer = ""
    """Whose tokens that client has; empty: this installation's own."""
    max_functions_allowed: Annotated[Int, Field(ge=1)] | None = None
    max_tasks_allowed: Annotated[Int, Field(ge=1)] | None = None
    max_telemetries_allowed: Annotated[Int, Field(ge=1, le=25)] | None = None
    max_registry_credentials_allowed: Annotated[Int, Field(ge=1, le=25)] | None = None
    registry_credentials: Annotated[tuple[dict[str, Any], ...], Field(max_length=0)] = ()
    """Only an empty list: credentials are given afterwards, with ``POST …/registry-credentials``."""


class UpdateAccountRequest(Wire):
    """Changes to an account; at least one. A bound of 0 lets it make nothing new."""

    name: AccountName | None = None
    max_functions_allowed: Annotated[Int, Field(ge=0)] | None = None
    max_tasks_allowed: Annotated[Int, Field(ge=0)] | None = None
    max_telemetries_allowed: Annotated[Int, Field(ge=0, le=50)] | None = None
    max_registry_credentials_allowed: Annotated[Int, Field(ge=0, le=50)] | None = None

    @model_validator(mode="after")
    def _something(self) -> UpdateAccountRequest:
        if not self.model_dump(exclude_none=True):
            raise ValueError("give at least one of name and the max… fields")
        return self


class ClientRequest(Wire):
    """A client to associate with an account, or to part from it; ``issuer`` where other issuers are trusted."""

    admin_client_id: ClientId
    issuer: ClientIssuer = ""


class AccountDto(Wire):
    """An account. No bound is shown as the largest number there is."""

    nca_id: str
    name: str
    admin_client_ids: tuple[str, ...] | None = None
    max_functions_allowed: int
    max_tasks_allowed: int
    max_telemetries_allowed: int
    max_registry_credentials_allowed: int
    current_number_functions: int | None = None
    last_updated_at: Timestamp

    @staticmethod
    def of(account: Account, clients: tuple[str, ...], functions: int | None = None) -> AccountDto:
        return AccountDto(
            nca_id=account.nca_id,
            name=account.name,
            admin_client_ids=clients or None,
            max_functions_allowed=INT_MAX if account.max_functions is None else account.max_functions,
            max_tasks_allowed=INT_MAX if account.max_tasks is None else account.max_tasks,
            max_telemetries_allowed=account.max_telemetries,
            max_registry_credentials_allowed=account.max_registry_credentials,
            current_number_functions=functions,
            last_updated_at=account.updated_at or account.created_at,
        )


class AccountResponse(Wire):
    """One account, wrapped."""

    account: AccountDto


class ListAccountsResponse(Wire):
    """Every account the caller may see."""

    cloud_accounts: tuple[AccountDto, ...]


class ClientDto(Wire):
    """A client and the account it belongs to, with the account's name."""

    client_id: str
    nca_id: str
    name: str
    issuer: str | None = None
    """Whose tokens it has, if not this installation's."""

    @staticmethod
    def of(client: Client, account: Account) -> ClientDto:
        return ClientDto(
            client_id=client.client_id, nca_id=client.nca_id, name=account.name, issuer=client.issuer or None
        )


class ClientResponse(Wire):
    """One client, wrapped."""

    client: ClientDto

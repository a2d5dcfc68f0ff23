"""Accounts own everything; clients are those whose tokens act for one (control-plane page, section 19)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gpufn.model.ids import AccountId


@dataclass(frozen=True)
class Account:
    """Who owns functions, tasks and keys, and how many things it may have. None is no bound."""

    nca_id: AccountId
    name: str
    created_at: datetime
    max_functions: int | None = None
    """Versions, over all functions."""
    max_tasks: int | None = None
    max_telemetries: int = 25
    max_registry_credentials: int = 25
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Client:
    """The subject of tokens that act for an account: ``sub`` of a JWT."""

    client_id: str
    nca_id: AccountId
    created_at: datetime
    issuer: str = ""
    """Whose tokens: one name of two issuers is two clients. Empty: this installation's own."""

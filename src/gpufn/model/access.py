"""Who is calling, and what a key lets its holder do (auth page, sections 4.4 and 7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias

from gpufn.model.ids import AccountId, KeyId

USER_SCOPES = (
    "register_function",
    "update_function",
    "delete_function",
    "deploy_function",
    "list_functions",
    "list_functions_details",
    "invoke_function",
    "queue_details",
    "authorize_clients",
    "update_secrets",
    "manage_telemetries",
    "manage_registry_credentials",
    "list_cluster_groups",
    "manage_keys",
    "account_setup",
    "launch_task",
    "list_tasks",
    "task_details",
    "cancel_task",
    "delete_task",
    "list_events",
    "list_results",
)
"""Every scope a key may carry today, in the order they are shown. ``manage_keys`` is gpufn's own."""
SUPER_SCOPE = "account_setup"
"""Above all accounts; its holder may ask for an admin token (auth page, section 7)."""
ADMIN = "admin:"
"""Begins the scopes that hold in the account a path names. No API key can have one."""
ADMIN_SCOPES = tuple(ADMIN + scope for scope in USER_SCOPES if scope != SUPER_SCOPE)
ADMIN_TOKEN_SCOPES = (*(s for s in USER_SCOPES if s != "invoke_function"), "cluster-management", *ADMIN_SCOPES)
"""What an admin token carries: everything but the right to invoke (auth page, section 6.1)."""


@dataclass(frozen=True)
class Resource:
    """What a key reaches: ``account-functions`` or ``authorized-functions`` with id ``*``, or ``function`` with id
    ``<functionId>/*`` or ``<functionId>/<versionId>``; ``account-tasks`` with id ``*``, or ``task`` with a task's id
    (tasks page, section 1). Any other form grants nothing.
    """

    type: str
    id: str


_ACCOUNT, _AUTHORIZED = Resource("account-functions", "*"), Resource("authorized-functions", "*")
ALL_FUNCTIONS = (_ACCOUNT, _AUTHORIZED)
ALL_TASKS = Resource("account-tasks", "*")
ALL_RESOURCES = (*ALL_FUNCTIONS, ALL_TASKS)
"""What a key reaches that is limited to nothing."""


Intended: TypeAlias = tuple[str, str]
"""A function and a version of it; the version is empty for all of them."""


def _of(function_id: str, version_id: str) -> tuple[Resource, Resource]:
    """What grants one version, by its own name or its function's."""
    return Resource("function", f"{function_id}/*"), Resource("function", f"{function_id}/{version_id}")


class KeyStatus(StrEnum):
    """Of a key that is not revoked (auth page, section 3.3)."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    EXPIRED = "EXPIRED"


class OwnerStatus(StrEnum):
    """Of an owner of keys."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True)
class ApiKey:
    """A key as it is stored: never the key itself, only a keyed hash of it."""

    id: KeyId
    prefix: str
    """The first characters, for people to recognise it: ``nvapi-AbCdEfGh``."""
    digest: bytes
    """The keyed hash of the whole key under the installation's pepper; 32 bytes."""
    nca_id: AccountId
    owner: str
    description: str
    scopes: tuple[str, ...]
    resources: tuple[Resource, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    issuer: str = ""
    """The service of the API-key service that it was made for; empty for keys made otherwise."""
    audiences: tuple[str, ...] = ()
    authorizations: Any = None
    """What its maker wrote, verbatim; ``scopes`` and ``resources`` follow from it."""
    suspended: bool = False
    owner_suspended: bool = False
    changed_at: datetime | None = None
    """When its authorizations were last written."""

    def is_valid(self, now: datetime) -> bool:
        """Neither revoked nor expired, and neither it nor its owner suspended."""
        return self.revoked_at is None and not self.owner_suspended and self.status(now) is KeyStatus.ACTIVE

    def status(self, now: datetime) -> KeyStatus:
        """Derived when read; suspended wins over expired."""
        if self.suspended:
            return KeyStatus.SUSPENDED
        return KeyStatus.ACTIVE if self.expires_at is None or now < self.expires_at else KeyStatus.EXPIRED


@dataclass(frozen=True)
class KeyOwner:
    """Whose keys they are, within an account."""

    nca_id: AccountId
    owner: str
    status: OwnerStatus
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Principal:
    """Who is calling, as every request carries it after authentication."""

    nca_id: AccountId
    """Empty for the client of a token that acts for no account."""
    subject: str
    """The caller's identity: ``NVCF-SUB`` for the instance."""
    scopes: frozenset[str]
    resources: tuple[Resource, ...]
    key_id: KeyId | None = None
    """The API key that calls, or that the calling token was made with."""
    is_key: bool = True
    """Whether an API key calls, rather than a token."""
    intended: frozenset[Intended] | None = None
    """The only functions that a delegated token is good for, whatever else is within reach. None: it is none."""
    acts_for_others: bool = False
    """An admin at work in an account that the path names: ``nca_id`` is that account (control-plane page, 4.4)."""

    def has_scope(self, *any_of: str) -> bool:
        return not self.scopes.isdisjoint(any_of)

    def intends(self, function_id: str, version_id: str) -> bool:
        """Whether the caller may have to do with that version at all, public ones included."""
        return self.intended is None or not self.intended.isdisjoint(((function_id, ""), (function_id, version_id)))

    def reaches_account(self) -> bool:
        """Whether every function of the account is within reach, so that new ones may be made."""
        return self._reaches_account

    @cached_property
    def _reaches_account(self) -> bool:
        return self.intended is None and _ACCOUNT in self.resources

    def reaches_function(self, function_id: str) -> bool:
        """Whether every version of one own function is within reach."""
        return self.intends(function_id, "") and self._holds(_ACCOUNT, Resource("function", f"{function_id}/*"))

    def reaches_version(self, function_id: str, version_id: str) -> bool:
        """Whether one own version is within reach."""
        return self.intends(function_id, version_id) and self._holds(_ACCOUNT, *_of(function_id, version_id))

    def reaches_shared(self, function_id: str, version_id: str) -> bool:
        """Whether one version that another account shares is within reach."""
        return self.intends(function_id, version_id) and self._holds(_AUTHORIZED, *_of(function_id, version_id))

    def _holds(self, *any_of: Resource) -> bool:
        return not self._reach.isdisjoint(any_of)

    @cached_property
    def _reach(self) -> frozenset[Resource]:
        return frozenset(self.resources)

    def reaches_tasks(self) -> bool:
        """Whether every task of the account is within reach, so that new ones may be made."""
        return ALL_TASKS in self.resources

    def reaches_task(self, task_id: str) -> bool:
        """Whether one own task is within reach."""
        return self.reaches_tasks() or Resource("task", task_id) in self.resources

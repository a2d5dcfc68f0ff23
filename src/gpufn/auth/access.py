"""Decisions about a caller: scopes, and which functions a key reaches (auth page, section 4.4).

Existence is checked before access: the unknown is NotFound, the known that is out of reach is Forbidden, lists are
filtered silently (control-plane page, section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, assert_never

from gpufn.auth.tokens import Claims
from gpufn.model.access import ALL_RESOURCES, SUPER_SCOPE, USER_SCOPES, ApiKey, Principal, Resource
from gpufn.model.errors import Forbidden, Invalid
from gpufn.model.function import FunctionVersion
from gpufn.model.ids import AccountId, KeyId, is_uuid
from gpufn.model.sharing import Relation


def of_claims(claims: Claims, nca_id: str) -> Principal:
    """Who calls with a token: unrestricted inside its account (control-plane page, section 4.3)."""
    return Principal(
        nca_id=AccountId(nca_id),
        subject=claims.client,
        scopes=claims.scopes,
        resources=ALL_RESOURCES,
        key_id=None if claims.key_id is None else KeyId(claims.key_id),
        is_key=False,
    )


def principal(key: ApiKey) -> Principal:
    """Who calls with ``key``."""
    return Principal(
        nca_id=key.nca_id,
        subject=key.owner,
        scopes=frozenset(key.scopes),
        resources=key.resources,
        key_id=key.id,
    )


def require_scope(caller: Principal, any_of: Sequence[str]) -> None:
    """Raises Forbidden unless the caller has one of the scopes; no scope named means any caller will do."""
    if any_of and not caller.has_scope(*any_of):
        raise Forbidden(
            f"Access Denied: this call needs scope {' or '.join(any_of)}, which this key does not have; "
            "use a key that was created with it"
        )


def require_account(caller: Principal) -> None:
    """Raises Forbidden unless every function of the account is within reach, as a new function needs."""
    if not caller.reaches_account():
        raise Forbidden(
            "Access Denied: this key is limited to certain functions; a new function needs a key with resource "
            "account-functions:*"
        )


def require_function(caller: Principal, function_id: str) -> None:
    """Raises Forbidden unless every version of the function is within reach."""
    if not caller.reaches_function(function_id):
        raise Forbidden(
            f"Access Denied: function id '{function_id}' is not among this key's resources; it needs "
            f"account-functions:* or function:{function_id}/*"
        )


def require_version(caller: Principal, function_id: str, version_id: str) -> None:
    """Raises Forbidden unless that version is within reach."""
    if not caller.reaches_version(function_id, version_id):
        raise Forbidden(
            f"Access Denied: function id '{function_id}', version '{version_id}' is not among this key's resources; "
            f"it needs account-functions:*, function:{function_id}/* or function:{function_id}/{version_id}"
        )


def require_tasks(caller: Principal) -> None:
    """Raises Forbidden unless every task of the account is within reach, as a new one needs (tasks page, 3.2)."""
    if not caller.reaches_tasks():
        raise Forbidden("Forbidden to create task")


def require_task(caller: Principal, task_id: str, denied: str) -> None:
    """Raises Forbidden with ``denied`` unless that task is within reach."""
    if not caller.reaches_task(task_id):
        raise Forbidden(denied)


def visible(caller: Principal, versions: Iterable[FunctionVersion]) -> list[FunctionVersion]:
    """Those of the caller's own versions that its key reaches, in their order."""
    return [v for v in versions if caller.reaches_version(v.function_id, v.id)]


def reaches(caller: Principal, relation: Relation, function_id: str, version_id: str) -> bool:
    """Whether a version that the caller's account may know of is within reach of its key (control-plane page, 4.3)."""
    match relation:
        case Relation.PUBLIC:
            return caller.intends(function_id, version_id)
        case Relation.PRIVATE:
            return caller.reaches_version(function_id, version_id)
        case Relation.AUTHORIZED:
            return caller.reaches_shared(function_id, version_id)
        case never:
            assert_never(never)


def granted_scopes(caller: Principal, wanted: Sequence[str]) -> tuple[str, ...]:
    """The scopes a new key gets. Raises Invalid for an unknown one, Forbidden for one that the caller has not."""
    for scope in wanted:
        if scope not in USER_SCOPES:
            raise Invalid(f"scopes: there is no scope {scope!r}; there are {', '.join(USER_SCOPES)}")
        if scope not in caller.scopes:
            raise Forbidden(f"scopes: this key does not have {scope!r}, so it cannot grant it; leave it out")
    return tuple(scope for scope in USER_SCOPES if scope in wanted)


def grantable(caller: Principal, wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of ``wanted`` that are scopes here, for a key of the key service. Raises Forbidden for one that the caller
    has not, unless it stands above all accounts: an admin token makes keys that invoke, which it cannot do itself.
    """
    known = tuple(scope for scope in USER_SCOPES if scope in wanted)
    own = {*caller.scopes, *(USER_SCOPES if caller.has_scope(SUPER_SCOPE) else ())}
    for scope in known:
        if scope not in own:
            raise Forbidden(f"scopes: the caller does not have {scope!r}, so it cannot grant it; leave it out")
    return known


Owns: TypeAlias = Callable[[str], bool]
"""Whether the caller's account has a function of that id: of another's, only the shared is within reach."""


def grantable_resources(caller: Principal, wanted: Sequence[Resource], *, owns: Owns) -> tuple[Resource, ...]:
    """Those of ``wanted`` that grant something. Raises Forbidden beyond the caller's own reach."""
    return granted_resources(caller, [resource for resource in wanted if _is_well_formed(resource)], owns=owns)


def granted_resources(caller: Principal, wanted: Sequence[Resource], *, owns: Owns) -> tuple[Resource, ...]:
    """The resources a new key gets. Raises Invalid for a form that would grant nothing, Forbidden beyond own reach."""
    for resource in wanted:
        if not _is_well_formed(resource):
            raise Invalid(
                f"resources: {resource.type}:{resource.id} grants nothing; use account-functions:*, "
                "authorized-functions:*, function:<functionId>/*, function:<functionId>/<versionId>, account-tasks:* "
                "or task:<taskId>"
            )
        if not _within_reach(caller, resource, owns):
            raise Forbidden(f"resources: {resource.type}:{resource.id} is beyond this key's own reach; leave it out")
    return tuple(dict.fromkeys(wanted))


def _is_well_formed(resource: Resource) -> bool:
    if resource.type == "function":
        function_id, slash, version_id = resource.id.partition("/")
        return bool(slash) and is_uuid(function_id) and (version_id == "*" or is_uuid(version_id))
    if resource.type == "task":
        return is_uuid(resource.id)
    return resource in ALL_RESOURCES


def _within_reach(caller: Principal, resource: Resource, owns: Owns) -> bool:
    if resource in caller.resources:
        return True
    if resource.type == "task":
        return caller.reaches_task(resource.id)
    if resource.type != "function":
        return False
    function_id, version_id = resource.id.split("/", 1)
    reach = caller.reaches_version if owns(function_id) else caller.reaches_shared
    return reach(function_id, version_id)

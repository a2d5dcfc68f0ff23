"""Reading a version together with what its public status is derived from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpufn.auth.access import reaches, require_version
from gpufn.model.access import Principal
from gpufn.model.account import Account
from gpufn.model.deployment import Deployment
from gpufn.model.errors import Forbidden, Invalid, NotFound
from gpufn.model.function import FunctionVersion
from gpufn.model.instance import Instance
from gpufn.model.sharing import PUBLIC, Relation, relation
from gpufn.model.status import Condition, condition
from gpufn.store import accounts, authorizations, deployments, functions, instances
from gpufn.store.database import Transaction


@dataclass(frozen=True)
class Seen:
    """A version, its deployment if it has one, all its recorded instances, and the status that follows."""

    version: FunctionVersion
    deployment: Deployment | None
    instances: tuple[Instance, ...]

    @property
    def condition(self) -> Condition:
        deployment = self.deployment
        of_this = [i for i in self.instances if deployment is not None and i.deployment_id == deployment.id]
        return condition(deployment, of_this)


def account_of(tx: Transaction, caller: Principal) -> Account:
    """The caller's account; raises NotFound for a key whose account is gone."""
    account = accounts.get(tx, caller.nca_id)
    if account is None:
        raise NotFound(f"Account '{caller.nca_id}': Not found")
    return account


def see(tx: Transaction, versions: Sequence[FunctionVersion]) -> list[Seen]:
    """Each of ``versions``, in their order, in three queries."""
    ids = [v.id for v in versions]
    deployed, running = deployments.of_versions(tx, ids), instances.of_versions(tx, ids)
    return [Seen(v, deployed.get(v.id), tuple(running.get(v.id, ()))) for v in versions]


def own_version(tx: Transaction, caller: Principal, function_id: str, version_id: str) -> Seen:
    """One version of the caller's; raises NotFound, then Forbidden (auth page, section 4.4)."""
    version = functions.get(tx, caller.nca_id, function_id, version_id)
    require_version(caller, function_id, version_id)
    return see(tx, [version])[0]


def known_version(tx: Transaction, caller: Principal, function_id: str, version_id: str) -> Seen:
    """One version that the caller may know of: public, own or shared (control-plane page, section 5)."""
    version = functions.find(tx, version_id)
    related = None
    if version is not None and version.function_id == function_id:
        parties = authorizations.of_version(tx, function_id, version_id)
        related = relation(caller.nca_id, version.nca_id, parties)
    if version is None or related is None:
        what = f"Function id '{function_id}', version '{version_id}'"
        raise NotFound(f"{what}: Not found for account '{caller.nca_id}'")
    if not reaches(caller, related, function_id, version_id):
        raise Forbidden(
            f"Access Denied: function id '{function_id}', version '{version_id}' is not among this key's resources; "
            f"use a key with {'authorized' if related is Relation.AUTHORIZED else 'account'}-functions:* or "
            f"function:{function_id}/{version_id}"
        )
    return see(tx, [version])[0]


def known_versions(tx: Transaction, caller: Principal, kinds: frozenset[Relation]) -> list[FunctionVersion]:
    """Every version within the caller's reach that is to it one of ``kinds``: public, own, shared, in this order."""
    public = authorizations.shared_with(tx, PUBLIC)
    own = functions.of_account(tx, caller.nca_id) if Relation.PRIVATE in kinds else []
    shared = authorizations.shared_with(tx, caller.nca_id) if Relation.AUTHORIZED in kinds else []
    return _reached(caller, kinds, public=public, own=own, shared=shared)


def known_versions_of(tx: Transaction, caller: Principal, function_id: str) -> list[FunctionVersion]:
    """The versions of one function that the caller reaches; NotFound when it may know of none, Forbidden when its key
    reaches none of those.
    """
    public = authorizations.of_function(tx, function_id, PUBLIC)
    shared = authorizations.of_function(tx, function_id, caller.nca_id)
    own = functions.siblings(tx, caller.nca_id, function_id)
    if not (public or shared or own):
        raise NotFound(f"Function '{function_id}': Not found for account '{caller.nca_id}'", function_id=function_id)
    found = _reached(caller, frozenset(Relation), public=public, own=own, shared=shared)
    if not found:
        raise Forbidden(f"Access Denied: function id '{function_id}' is not among this key's resources")
    return found


def _reached(
    caller: Principal,
    kinds: frozenset[Relation],
    *,
    public: Sequence[FunctionVersion],
    own: Sequence[FunctionVersion],
    shared: Sequence[FunctionVersion],
) -> list[FunctionVersion]:
    """A version that is several things is the first of them, and there once."""
    found: dict[str, tuple[Relation, FunctionVersion]] = {}
    for related, versions in ((Relation.PUBLIC, public), (Relation.PRIVATE, own), (Relation.AUTHORIZED, shared)):
        for version in versions:
            found.setdefault(version.id, (related, version))
    return [
        version
        for related, version in found.values()
        if related in kinds and reaches(caller, related, version.function_id, version.id)
    ]


def refuse_public(tx: Transaction, function_id: str, version_id: str, text: str) -> None:
    """Raises Invalid with ``text`` for a public version, or function when no version is named (section 1, step 5)."""
    if authorizations.is_public(tx, function_id, version_id):
        what = f"Function id '{function_id}'" + (f", version '{version_id}'" if version_id else "")
        raise Invalid(f"{what}: {text}")

"""Reading a version together with what its public status is derived from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from gpufn.api.lists import LEAN_PAGE, PAGE, pages
from gpufn.auth.access import reaches, require_version
from gpufn.model.access import Principal
from gpufn.model.account import Account
from gpufn.model.deployment import Deployment
from gpufn.model.errors import Forbidden, Invalid, NotFound
from gpufn.model.function import FunctionVersion
from gpufn.model.instance import Instance
from gpufn.model.sharing import Relation, relation
from gpufn.model.status import Condition, condition
from gpufn.store import accounts, authorizations, deployments, functions, instances, pages as stored
from gpufn.store.database import Database, Transaction
from gpufn.store.pages import Position


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


def _see_one(tx: Transaction, version: FunctionVersion) -> Seen:
    return Seen(version, deployments.of_version(tx, version.id), tuple(instances.of_version(tx, version.id)))


def own_version(tx: Transaction, caller: Principal, function_id: str, version_id: str) -> Seen:
    """One version of the caller's; raises NotFound, then Forbidden (auth page, section 4.4)."""
    version = functions.get(tx, caller.nca_id, function_id, version_id)
    require_version(caller, function_id, version_id)
    return _see_one(tx, version)


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
    return _see_one(tx, version)


async def known_versions(
    db: Database, caller: Principal, kinds: frozenset[Relation], function_id: str | None = None
) -> AsyncIterator[list[Seen]]:
    """Every version within the caller's reach that is to it one of ``kinds``, of one function or of all, page by page:
    public, own, shared, in this order, each once.
    """
    for to in (to for to in Relation if to in kinds):

        def read(tx: Transaction, after: Position | None, to: Relation = to) -> tuple[list[Seen], Position | None]:
            found = stored.of_versions(tx, caller.nca_id, to, after=after, limit=PAGE, function_id=function_id)
            reached = [v for v in found if reaches(caller, to, v.function_id, v.id)]
            return see(tx, reached), (found[-1].created_at, found[-1].id) if len(found) == PAGE else None

        async for page in pages(db, read):
            yield list(page)


async def known_versions_of(db: Database, caller: Principal, function_id: str) -> AsyncIterator[list[Seen]]:
    """The versions of one function that the caller reaches; NotFound when it may know of none, Forbidden when its key
    reaches none of those.
    """
    reached = False
    async for page in known_versions(db, caller, frozenset(Relation), function_id):
        reached = True
        yield page
    if reached:
        return

    def exists(tx: Transaction) -> bool:
        found = (
            stored.of_version_ids(tx, caller.nca_id, to, after=None, limit=1, function_id=function_id)
            for to in Relation
        )
        return any(found)

    if await db.run(exists):
        raise Forbidden(f"Access Denied: function id '{function_id}' is not among this key's resources")
    raise NotFound(f"Function '{function_id}': Not found for account '{caller.nca_id}'", function_id=function_id)


async def known_function_ids(db: Database, caller: Principal, kinds: frozenset[Relation]) -> AsyncIterator[list[str]]:
    """The distinct functions of those versions, page by page. Only their ids are kept, to know which were there."""
    told: set[str] = set()
    for to in (to for to in Relation if to in kinds):

        def read(tx: Transaction, after: Position | None, to: Relation = to) -> tuple[list[str], Position | None]:
            found = stored.of_version_ids(tx, caller.nca_id, to, after=after, limit=LEAN_PAGE)
            reached = [v.function_id for v in found if reaches(caller, to, v.function_id, v.id)]
            return reached, (found[-1].created_at, found[-1].id) if len(found) == LEAN_PAGE else None

        async for page in pages(db, read):
            new = [function_id for function_id in dict.fromkeys(page) if function_id not in told]
            told.update(new)
            if new:
                yield new


def refuse_public(tx: Transaction, function_id: str, version_id: str, text: str) -> None:
    """Raises Invalid with ``text`` for a public version, or function when no version is named (section 1, step 5)."""
    if authorizations.is_public(tx, function_id, version_id):
        what = f"Function id '{function_id}'" + (f", version '{version_id}'" if version_id else "")
        raise Invalid(f"{what}: {text}")

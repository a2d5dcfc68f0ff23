"""Pages of versions, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from gpufn.model.account import Account
from gpufn.model.function import Definition, FunctionVersion, Health
from gpufn.model.ids import AccountId, FunctionId, VersionId, new_id
from gpufn.model.sharing import Relation
from gpufn.settings import DatabaseSettings
from gpufn.store import accounts, authorizations, functions, pages
from gpufn.store.database import Database, Sqlite, Transaction
from gpufn.store.migrate import upgrade
from gpufn.store.opening import open_database

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
ME, YOU = AccountId("me"), AccountId("you")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database with two accounts."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    made = open_database(DatabaseSettings(url), tmp_path / "gpufn.db")
    upgrade(made)

    def prepare(tx: Transaction) -> None:
        for nca_id in (ME, YOU):
            accounts.ensure(tx, Account(nca_id, nca_id, NOW))

    await made.run(prepare)
    yield made
    await made.close()


def a_version(number: int, owner: AccountId, function_id: str) -> FunctionVersion:
    definition = Definition(inference_url="/", health=Health(), container_image="echo:1")
    at = NOW + timedelta(microseconds=number // 2)
    return FunctionVersion(VersionId(new_id()), FunctionId(function_id), owner, "f", definition, at)


async def read(db: Database, to: Relation, *, limit: int, function_id: str | None = None) -> list[str]:
    """Page after page of versions; the lean form must agree."""
    found: list[str] = []
    lean: list[str] = []
    after: pages.Position | None = None
    while True:

        def page(tx: Transaction, after: pages.Position | None = after) -> tuple[list[FunctionVersion], list[str]]:
            given = {"after": after, "limit": limit, "function_id": function_id}
            whole = pages.of_versions(tx, ME, to, **given)  # type: ignore[arg-type]
            ids = pages.of_version_ids(tx, ME, to, **given)  # type: ignore[arg-type]
            return list(whole), [v.id for v in ids]

        versions, ids = await db.run(page)
        found += [v.id for v in versions]
        lean += ids
        if len(versions) < limit:
            assert found == lean
            return found
        after = (versions[-1].created_at, versions[-1].id)


@pytest.mark.parametrize("limit", [1, 3, 10, 11])
async def test_pages_hold_everything_once_in_order(db: Database, limit: int) -> None:
    """Oldest first, ids where times are the same; own, shared and public apart; of one function or of all."""
    function_id = new_id()
    own = [a_version(n, ME, function_id if n % 2 else new_id()) for n in range(10)]
    theirs = [a_version(n, YOU, new_id()) for n in range(6)]

    def write(tx: Transaction) -> None:
        for version in (*own, *theirs):
            functions.insert(tx, version)
        for version in theirs[:2]:
            authorizations.replace(tx, version.function_id, version.id, ["*"])
        for version in theirs[2:4]:
            authorizations.replace(tx, version.function_id, "", [ME])

    await db.run(write)

    def in_order(versions: list[FunctionVersion]) -> list[str]:
        return [v.id for v in sorted(versions, key=lambda v: (v.created_at, v.id))]

    assert await read(db, Relation.PRIVATE, limit=limit) == in_order(own)
    assert await read(db, Relation.PUBLIC, limit=limit) == in_order(theirs[:2])
    assert await read(db, Relation.AUTHORIZED, limit=limit) == in_order(theirs[2:4])
    of_function = [v for v in own if v.function_id == function_id]
    assert await read(db, Relation.PRIVATE, limit=limit, function_id=function_id) == in_order(of_function)


@pytest.mark.parametrize("to", list(Relation))
async def test_a_page_is_found_by_an_index(tmp_path: Path, to: Relation) -> None:
    """No page of own versions is sorted, and none of any kind reads the versions of everybody."""
    db = Sqlite(tmp_path / "gpufn.db")
    upgrade(db)
    asked: list[tuple[str, tuple[object, ...]]] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda _c, _cu, query, given, *_: asked.append((query, given)))
    plans = []

    def explain(tx: Transaction) -> None:
        for function_id in (None, new_id()):
            pages.of_version_ids(tx, ME, to, after=(NOW, new_id()), limit=10, function_id=function_id)
            query, given = asked[-1]
            plans.append("\n".join(row[-1] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", given)))

    await db.run(explain)
    await db.close()

    assert not any("SCAN versions" in plan for plan in plans), plans
    if to is Relation.PRIVATE:
        assert not any("TEMP B-TREE" in plan for plan in plans), plans
        assert "ix_versions_function_id_nca_id_created_at_id" in plans[1]

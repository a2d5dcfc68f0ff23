"""Long lists, and what the most frequent calls cost: counted, not timed (docs/performance.md has the times)."""

from __future__ import annotations

import asyncio
import json
import random
import tracemalloc
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias

import pytest
import sqlalchemy as sa
from api_building import NOW, OTHER_ACCOUNT, Installation, a_body, an_installation, bearer, version_path

from gpufn.api.lists import PAGE
from gpufn.model.errors import Unavailable
from gpufn.model.function import Definition, FunctionVersion, Health
from gpufn.model.ids import DEFAULT_ACCOUNT, AccountId, FunctionId, VersionId, new_id
from gpufn.model.sharing import PUBLIC, Relation, relation
from gpufn.store import authorizations, functions
from gpufn.store.database import Database, Sqlite

FUNCTIONS = "/v2/nvcf/functions"
OWNERS = (DEFAULT_ACCOUNT, OTHER_ACCOUNT)


def a_version(number: int, function_id: str, owner: AccountId = DEFAULT_ACCOUNT) -> FunctionVersion:
    """Of three versions in a row, the creation is the same."""
    definition = Definition(inference_url="/echo", health=Health(), container_image="docker.io/team/echo:1")
    return FunctionVersion(
        id=VersionId(new_id()),
        function_id=FunctionId(function_id),
        nca_id=owner,
        name=f"f{number}",
        definition=definition,
        created_at=NOW + timedelta(seconds=number // 3),
    )


async def fill(it: Installation, count: int) -> list[FunctionVersion]:
    """``count`` versions, two of each function, in the order of a list."""
    ids = [new_id() for _ in range(count // 2 + 1)]
    made = [a_version(n, ids[n // 2]) for n in range(count)]

    def write(tx: Any) -> None:
        for version in made:
            functions.insert(tx, version)

    await it.context.db.run(write)
    return sorted(made, key=lambda v: (v.created_at, v.id))


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE + 7])
async def test_a_list_is_whole_however_many_pages_it_has(count: int) -> None:
    """Every version once, the oldest first, also where many have one time of creation; and every function once."""
    async with an_installation() as it:
        made = await fill(it, count)
        listed = await it.client.get(FUNCTIONS)
        ids = (await it.client.get(f"{FUNCTIONS}/ids")).json()["functionIds"]

    assert [f["versionId"] for f in listed.json()["functions"]] == [v.id for v in made]
    assert listed.headers["content-type"] == "application/json"
    assert sorted(ids) == sorted({v.function_id for v in made})


Parties: TypeAlias = dict[tuple[str, str], list[str]]
"""By function and version; the version is empty for all of a function's."""


def shared_at_random(chance: random.Random) -> tuple[list[FunctionVersion], Parties]:
    """Versions of two accounts, and who they are shared with, at both levels."""
    versions, parties = [], Parties()
    for number in range(2 * PAGE):
        owner, function_id = chance.choice(OWNERS), new_id()
        for _ in range(chance.choice((1, 2))):
            version = a_version(number, function_id, owner)
            versions.append(version)
            level = chance.choice(("", version.id))
            wanted = (p for p in (PUBLIC, *OWNERS) if p != owner)
            parties[function_id, level] = [p for p in wanted if chance.random() < 0.3]
    return versions, parties


def named(version: FunctionVersion, parties: Parties) -> list[str]:
    return [*parties.get((version.function_id, ""), ()), *parties.get((version.function_id, version.id), ())]


async def test_lists_hold_each_version_by_what_it_is_to_the_account() -> None:
    """Public wins over own, and own over authorized, at either level, for every choice of kinds: as `relation` says."""
    async with an_installation() as it:
        versions, parties = shared_at_random(random.Random(7))

        def write(tx: Any) -> None:
            for version in versions:
                functions.insert(tx, version)
            for (function_id, level), whom in parties.items():
                authorizations.replace(tx, function_id, level, whom)

        await it.context.db.run(write)
        keys = {owner: bearer(await it.a_key(nca_id=owner)) for owner in OWNERS}
        for owner, chosen in ((o, c) for o in OWNERS for c in (*([k] for k in Relation), list(Relation))):
            query = ",".join(k.value for k in chosen)
            answer = await it.client.get(f"{FUNCTIONS}?visibility={query}", headers=keys[owner])
            expected = {v.id for v in versions if relation(owner, v.nca_id, named(v, parties)) in chosen}
            found = [f["versionId"] for f in answer.json()["functions"]]

            assert len(found) == len(set(found))
            assert set(found) == expected


async def test_others_are_answered_while_a_list_is_sent() -> None:
    """A call that comes later than a long list ends before it."""
    async with an_installation() as it:
        made = await fill(it, 20 * PAGE)
        ended = []

        async def call(path: str) -> None:
            assert (await it.client.get(path)).status_code == 200
            ended.append(path)

        one = version_path(made[0].function_id, made[0].id)
        async with asyncio.TaskGroup() as group:
            group.create_task(call(FUNCTIONS))
            group.create_task(call(one))

    assert ended == [one, FUNCTIONS]


@dataclass
class FailsAfter:
    """A database that works so many times."""

    db: Database
    left: int

    async def run(self, fn: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Unavailable("the database cannot be used now")
        return await self.db.run(fn)

    async def close(self) -> None:
        await self.db.close()


async def test_half_a_list_is_never_taken_for_a_whole() -> None:
    """Before the answer begins a failure is a 503; after that the connection is cut, for the status is out."""
    async with an_installation() as it:
        await fill(it, 6 * PAGE)
        whole = it.context
        app = it.client._transport.app  # type: ignore[attr-defined]
        outcomes = []
        for works in (1, 5):
            app.state.context = replace(whole, db=FailsAfter(whole.db, works))
            try:
                outcomes.append(str((await it.client.get(FUNCTIONS)).status_code))
            except Unavailable:
                outcomes.append("cut")
        app.state.context = whole

    assert outcomes == ["503", "cut"]


@dataclass
class Counter:
    """What a database was asked: statements, and how many of them had to be put together anew."""

    statements: list[str] = field(default_factory=list)
    compiled: int = 0

    def watch(self, db: Database) -> None:
        assert isinstance(db, Sqlite)
        sa.event.listen(db.engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, statement: str, _p: Any, context: Any, _many: bool) -> None:
        self.statements.append(statement)
        if context is not None and context.compiled is not None and context.cache_hit.value:
            self.compiled += 1

    def reset(self) -> None:
        self.statements.clear()
        self.compiled = 0


@pytest.mark.parametrize(
    ("method", "path", "body", "most"),
    [
        ("POST", FUNCTIONS, a_body(), 9),
        ("GET", version_path("{f}", "{v}"), None, 8),
        ("GET", FUNCTIONS + "/{f}/versions", None, 11),
        ("GET", FUNCTIONS, None, 11),
    ],
)
async def test_frequent_calls_take_few_statements_and_compile_none(
    method: str, path: str, body: dict[str, Any] | None, most: int
) -> None:
    """However many versions there are; transactions begin with one each, and none is compiled a second time."""
    counter = Counter()
    async with an_installation() as it:
        counter.watch(it.context.db)
        for size in (3, PAGE - 8):
            at = (await fill(it, size))[0]
            for _ in range(2):
                counter.reset()
                answer = await it.client.request(method, path.format(f=at.function_id, v=at.id), json=body)
                assert answer.status_code == 200

            assert len(counter.statements) <= most, counter.statements
            assert counter.compiled == 0


async def sent(it: Installation, path: str) -> tuple[int, int]:
    """Call the application and let go of what it sends: how many bytes that was, and the most memory used for it."""
    size = 0

    async def receive() -> dict[str, Any]:
        return await asyncio.Event().wait()  # type: ignore[return-value]  # nothing comes, and nobody leaves

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal size
        size += len(message.get("body", b""))

    headers = [(b"authorization", it.client.headers["authorization"].encode()), (b"host", b"api")]
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "headers": headers, "scheme": "http", "server": ("api", 80)}
    app = it.client._transport.app  # type: ignore[attr-defined]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await app(scope, receive, send)
    most = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return size, most


async def test_memory_stays_flat_however_long_the_list() -> None:
    """Four times as many versions are four times as many bytes, and no more memory."""
    found = []
    async with an_installation() as it:
        for more in (5 * PAGE, 15 * PAGE):
            await fill(it, more)
            await sent(it, FUNCTIONS)
            found.append(await sent(it, FUNCTIONS))

    (small, small_memory), (large, large_memory) = found
    assert large > 3.5 * small
    assert large_memory < 1.5 * small_memory


async def test_a_short_list_has_its_length() -> None:
    """What fits into a page is not sent in chunks."""
    async with an_installation() as it:
        await fill(it, 3)
        answer = await it.client.get(FUNCTIONS)

    assert answer.headers["content-length"] == str(len(answer.content))
    assert json.loads(answer.content) == answer.json()

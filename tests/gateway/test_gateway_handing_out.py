"""A kept result is handed out once and in full, or not at all: what may go wrong at the poll that should get it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from gateway_world import World, a_world
from test_gateway_windows import Gate, a_detached_call, status_of

from gpufn.gateway import spool
from gpufn.model.errors import Unavailable
from gpufn.runtime.clock import utc_now
from gpufn.store import invocations
from gpufn.store.database import Transaction

LARGE = b"x" * (20 * spool.INLINE_MAX)
Get = Callable[[str], Awaitable[AsyncIterator[bytes] | None]]


async def a_kept_result(world: World, body: bytes) -> str:
    """An invocation whose result waits for a poll; its request id."""
    gate = Gate(body=body)
    gate_id = await a_detached_call(world, gate)
    gate.open.set()
    await world.until(lambda: not world.gateway._plane.calls)
    return gate_id


async def test_an_object_store_that_is_away_loses_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that comes while a large result cannot be read is told to come again, and then gets it."""

    async def away(key: str) -> None:
        raise Unavailable("the object store cannot be used now")

    async with a_world() as world:
        request_id = await a_kept_result(world, LARGE)
        with monkeypatch.context() as patch:
            patch.setattr(world.gateway._plane.stores.objects, "get", away)
            found = await world.call("GET", status_of(request_id))
            assert (found.status, found["retry-after"]) == (503, "1")
        assert (await world.call("GET", status_of(request_id))).body == LARGE


async def test_a_client_that_leaves_before_a_large_result_is_opened_may_ask_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A poll that ends while the object store is asked for the result has not had it."""
    async with a_world() as world:
        request_id = await a_kept_result(world, LARGE)
        objects, asked, go_on = world.gateway._plane.stores.objects, asyncio.Event(), asyncio.Event()
        real: Get = objects.get

        async def slow(key: str) -> AsyncIterator[bytes] | None:
            asked.set()
            await go_on.wait()
            return await real(key)

        with monkeypatch.context() as patch:
            patch.setattr(objects, "get", slow)
            client = await world.client()
            await client.send("GET", status_of(request_id))
            await asked.wait()
            client.close()
            await world.until(lambda: len(world.gateway._service.edges) == 0)
            go_on.set()
        assert (await world.call("GET", status_of(request_id))).body == LARGE


@pytest.mark.parametrize("body", [b'{"small":1}', LARGE], ids=["small", "large"])
async def test_a_head_poll_fetches_nothing(body: bytes) -> None:
    """HEAD tells how long the result is, sends no byte of it, and leaves it for the GET that follows."""
    async with a_world() as world:
        request_id = await a_kept_result(world, body)
        client = await world.client()
        looked = await client.call("HEAD", status_of(request_id))
        assert (looked.status, looked["content-length"], looked["x-own"]) == (200, str(len(body)), "1")
        found = await client.call("GET", status_of(request_id))
        assert (found.status, found.body) == (200, body)


async def test_exec_leaves_a_result_that_it_cannot_wrap() -> None:
    """A result that is no JSON is refused by the wrapped poll, and still there for the plain one."""
    async with a_world() as world:
        request_id = await a_kept_result(world, b"no JSON")
        refused = await world.call("GET", f"/v2/nvcf/exec/status/{request_id}")
        assert (refused.status, b"use pexec" in refused.body) == (500, True)
        assert (await world.call("GET", status_of(request_id))).body == b"no JSON"


async def test_a_kept_result_has_one_set_of_cors_headers() -> None:
    """What an instance says of origins gives way to what the platform says, at a poll as in an answer at once."""

    class Open(Gate):
        async def __call__(self, seen, reader, writer) -> None:  # type: ignore[no-untyped-def]
            await self.open.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok")

    async with a_world() as world:
        gate = Open()
        request_id = await a_detached_call(world, gate)
        gate.open.set()
        await world.until(lambda: not world.gateway._plane.calls)
        found = await world.call("GET", status_of(request_id), {"Origin": "http://page"})
        assert found.all("access-control-allow-origin") == ["http://page"]


async def test_a_result_on_its_way_is_not_forgotten() -> None:
    """A delivered result is forgotten after a minute, but not one whose client is still reading it."""
    async with a_world() as world:
        request_id = await a_kept_result(world, LARGE)
        db, later = world.databases[0], utc_now() + timedelta(minutes=5)

        def due(tx: Transaction) -> list[tuple[str, list[str]]]:
            return invocations.old(tx, finished=utc_now() - timedelta(hours=1), delivered=later, linked=later, limit=9)

        at = utc_now()
        await db.run(lambda tx: invocations.begin_delivery(tx, request_id, owner="me", at=at))
        assert await db.run(due) == []
        await db.run(lambda tx: invocations.end_delivery(tx, request_id, owner="me", at=at, arrived=True))
        assert [found for found, _ in await db.run(due)] == [request_id]

"""Accepted means kept: what becomes of a 202 when instances, gateways and connections end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from gateway_fakes import Seen, read_body
from gateway_world import PEXEC, PINNED, World, a_world
from test_gateway_windows import ONE, Gate, a_detached_call, status_of

from gpufn.gateway import spool
from gpufn.model.errors import Unavailable
from gpufn.settings import DatabaseSettings
from gpufn.store.database import T, Transaction


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], autouse=True)
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test here runs on both databases; which one it is."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        monkeypatch.setattr("gateway_world.DATABASE", DatabaseSettings(url))
    return str(request.param)


class Recorder(Gate):
    """A gate that remembers what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self.ids: list[str] = []

    async def __call__(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ids.append(seen.one("nvcf-reqid") or "")
        await super().__call__(seen, reader, writer)
        self.bodies.append(seen.body)


async def result_of(world: World, request_id: str) -> bytes:
    """What polls get, once they get it."""
    async with asyncio.timeout(10):
        while True:
            found = await world.call("GET", status_of(request_id), ONE)
            if found.status == 200:
                return found.body
            assert found.status == 202, (found.status, found.body)


async def test_the_successor_of_a_killed_gateway_goes_on() -> None:
    """What a gateway had accepted is run again by the next one, with the same id, body and headers, and ends once."""
    async with a_world() as world:
        gate = Recorder()
        await world.deploy(await world.instance(gate), slots=4)
        sent = {**ONE, "Content-Type": "application/x-own", "X-Mine": "1"}
        first = await world.call("POST", PINNED, sent, b"precious")
        assert first.status == 202
        await world.kill()
        await world.move_to(world.another("gw-test"))
        await world.until(lambda: len(gate.ids) == 2)
        gate.open.set()
        assert await result_of(world, first["nvcf-reqid"]) == b'{"late":1}'
        assert set(gate.ids) == {first["nvcf-reqid"]}
        assert gate.bodies[-1] == b"precious"
        again = world.servers[0].seen[-1]
        assert (again.one("content-type"), again.one("x-mine"), again.one("nvcf-sub")) == (
            "application/x-own",
            "1",
            "tester",
        )
        assert (await world.call("GET", status_of(first["nvcf-reqid"]))).status == 404


async def test_another_gateway_notices_the_silence() -> None:
    """A gateway that says nothing for a lease is taken for dead, and another one takes its invocations over."""
    async with a_world(lease=0.3) as world:
        gate = Recorder()
        await world.deploy(await world.instance(gate), slots=4)
        first = await world.call("POST", PINNED, ONE)
        await world.kill()
        await world.move_to(world.another("gw-other"))
        await world.until(lambda: len(gate.ids) == 2)
        gate.open.set()
        assert await result_of(world, first["nvcf-reqid"]) == b'{"late":1}'


async def test_a_zombie_finishes_nothing() -> None:
    """A gateway that was stopped for longer than a lease and comes back cannot write over what its successor has."""
    async with a_world(lease=0.3) as world:
        slow, quick = Gate(body=b"of the zombie"), Gate(body=b"of the successor")
        zombie = world.gateway
        request_id = await a_detached_call(world, slow)
        await world.deploy(await world.instance(quick))
        journal = zombie._plane.journal
        real, journal._db = journal._db, Stopped()
        await world.move_to(world.another("gw-other"))
        await world.until(lambda: len(world.servers[1].seen) == 1)
        journal._db = real
        slow.open.set()
        await asyncio.sleep(0.3)
        quick.open.set()
        assert await result_of(world, request_id) == b"of the successor"


class Stopped:
    """A database as a process sees it that is not running: nothing comes of anything, for now."""

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        raise Unavailable("stopped")

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_result_outlives_the_gateway() -> None:
    """A result that nobody has fetched when the gateway dies is there for the poll that comes to the next one."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        gate.open.set()
        await world.until(lambda: not world.gateway._plane.calls)
        await world.kill()
        await world.move_to(world.another("gw-test"))
        found = await world.call("GET", status_of(request_id))
        assert (found.status, found.body, found["x-own"]) == (200, b'{"late":1}', "1")
        assert (await world.call("GET", status_of(request_id))).status == 404


async def test_an_instance_that_dies_is_replaced_by_another() -> None:
    """When the instance breaks off, an accepted invocation is given to another one instead of failing."""
    async with a_world() as world:
        request_id = await a_detached_call(world, Gate())
        gate = Gate(body=b"second")
        gate.open.set()
        second = await world.instance(gate)
        await world.servers[0].stop()
        await world.deploy(second)
        assert await result_of(world, request_id) == b"second"


async def test_attempts_are_bounded() -> None:
    """An invocation that kills every instance it is given to ends with an error that says so."""
    async with a_world(attempts=2) as world:
        died = 0

        async def dying(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal died
            await read_body(reader, seen)
            await asyncio.sleep(1.2)
            died += 1
            writer.close()

        await world.deploy(await world.instance(dying))
        first = await world.call("POST", PINNED, ONE)
        found = await world.call("GET", status_of(first["nvcf-reqid"]))
        assert (found.status, died) == (500, 2)
        assert "tried 2 times" in json.loads(found.body)["detail"]


async def test_large_bodies_go_through_the_object_store() -> None:
    """A large request is sent again in full after a crash, a large result is streamed to the poll, both unchanged."""
    size = 20 * spool.INLINE_MAX + 7
    request, response = bytes(range(256)) * (size // 256), b"r" * size

    class Echo(Recorder):
        async def __call__(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.body = response
            await super().__call__(seen, reader, writer)

    async with a_world() as world:
        gate = Echo()
        await world.deploy(await world.instance(gate), slots=4)
        first = await world.call("POST", PINNED, ONE, request)
        assert first.status == 202
        await world.kill()
        await world.move_to(world.another("gw-test"))
        await world.until(lambda: len(gate.ids) == 2)
        gate.open.set()
        assert await result_of(world, first["nvcf-reqid"]) == response
        assert gate.bodies[-1] == request


async def test_a_large_request_that_is_answered_in_time_leaves_nothing() -> None:
    """A body that was spooled in case of a 202 is removed when the answer comes within the window."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        body = b"x" * (20 * spool.INLINE_MAX)
        assert (await world.call("POST", PINNED, {}, body)).body == body
        await world.until(lambda: not [p for p in (world.directory / "objects").rglob("*") if p.is_file()])


async def test_a_poll_whose_connection_breaks_may_ask_again() -> None:
    """A result that was being sent when the connection broke is not lost: the next poll gets all of it."""
    async with a_world() as world:
        gate = Gate(body=b"x" * 5_000_000)
        request_id = await a_detached_call(world, gate)
        gate.open.set()
        await world.until(lambda: not world.gateway._plane.calls)
        client = await world.client()
        await client.send("GET", status_of(request_id))
        assert (await client.head("GET")).status == 200
        client.writer.transport.abort()
        await asyncio.sleep(0.3)
        found = await world.call("GET", status_of(request_id))
        assert (found.status, len(found.body)) == (200, 5_000_000)


async def test_polls_at_the_same_time_share_one_result() -> None:
    """Of two polls for a finished invocation one gets the result and the other is told that there is none."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        gate.open.set()
        await world.until(lambda: not world.gateway._plane.calls)
        both = await asyncio.gather(*(world.call("GET", status_of(request_id)) for _ in range(2)))
        assert sorted(found.status for found in both) == [200, 404]


async def test_a_stopping_gateway_hands_over() -> None:
    """A gateway that stops answers waiting polls with 202 and leaves its invocations to the next, at no cost of an
    attempt.
    """
    async with a_world(attempts=1) as world:
        gate = Recorder()
        await world.deploy(await world.instance(gate), slots=4)
        first = await world.call("POST", PINNED, ONE)
        client = await world.client()
        await client.send("GET", status_of(first["nvcf-reqid"]))
        await asyncio.sleep(0.1)
        await world.gateway.drain(0.1)
        assert (await client.answer("GET")).status == 202
        await world.gateway.close()
        await world.move_to(world.another("gw-next"))
        await world.until(lambda: len(gate.ids) == 2)
        gate.open.set()
        assert await result_of(world, first["nvcf-reqid"]) == b'{"late":1}'


async def test_a_database_that_cannot_be_used_accepts_nothing() -> None:
    """Without a commit there is no 202: the call ends with 503 and the cause, and is cancelled at the instance."""
    async with a_world() as world:
        gate = Gate()
        await world.deploy(await world.instance(gate))
        await world.databases[0].run(lambda tx: tx.exec_driver_sql("DROP TABLE invocations"))
        found = await world.call("POST", PEXEC, ONE)
        assert (found.status, found["retry-after"]) == (503, "1")
        assert "could not be recorded" in json.loads(found.body)["detail"]
        await world.until(lambda: gate.cut == 1)
        assert world.is_quiet
        assert (await world.call("POST", PEXEC, {"NVCF-POLL-SECONDS": "x"})).status == 400


async def test_an_attempt_that_is_over_does_not_fail_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the object store answers an attempt that has ended with an error, the attempt that runs goes on."""
    async with a_world() as world:
        objects, asked, go_on = world.gateway._plane.stores.objects, asyncio.Event(), asyncio.Event()
        real = objects.get

        async def late(key: str) -> AsyncIterator[bytes] | None:
            if asked.is_set():
                return await real(key)
            asked.set()
            await go_on.wait()
            raise Unavailable("the object store cannot be used now")

        monkeypatch.setattr(objects, "get", late)
        body, gate = b"x" * (20 * spool.INLINE_MAX), Recorder()
        await world.deploy(await world.instance(Gate()), await world.instance(Gate()), slots=1)
        first = await world.call("POST", PINNED, ONE, body)
        for server in world.servers:  # the second attempt, which is not sent yet, has the other one
            await server.stop()
            await asyncio.sleep(1.3)
        assert asked.is_set()
        await world.deploy(await world.instance(gate))
        await world.until(lambda: len(gate.ids) == 1)
        go_on.set()
        await asyncio.sleep(0.1)
        gate.open.set()
        assert await result_of(world, first["nvcf-reqid"]) == b'{"late":1}'
        assert gate.bodies == [body]


async def test_a_gateway_that_is_replaced_abandons_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls go to the successor, so a gateway that finishes what it has does not take their absence for disinterest."""
    monkeypatch.setattr("gpufn.gateway.accepted.ABANDON_MIN", 0.1)
    async with a_world(abandon="reference") as world:
        gate, old = Gate(), world.gateway
        request_id = await a_detached_call(world, gate)
        await world.move_to(world.another("gw-next"))
        old._plane.tasks.start(old.drain(20, succeeded=True), name="drain")
        await asyncio.sleep(4.5)
        assert gate.cut == 0
        gate.open.set()
        assert await result_of(world, request_id) == b'{"late":1}'

"""An instance dies before it answers: another one answers, at once, if the request may be repeated (section 6.3)."""

from __future__ import annotations

import asyncio
import json

from gateway_fakes import Handler, Seen, Server, answer, read_body
from gateway_world import PINNED, F, V, World, a_world

from gpufn.gateway.slots import Instance

CONNECTION = "urn:inference-connection:problem-details:internal-server-error"


async def dies(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the whole request, and end without a word."""
    seen.body = await read_body(reader, seen)
    writer.close()


def tells(name: str) -> Handler:
    async def handle(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.body = await read_body(reader, seen)
        writer.write(answer(200, name.encode() + b":" + seen.body))

    return handle


async def two(world: World, first: Handler, second: Handler) -> tuple[Server, Server]:
    """Two instances; the first is asked first."""
    servers = await world.instance(first), await world.instance(second)
    await world.deploy(*servers)
    return servers


def instances(world: World) -> list[Instance]:
    """What the gateway has of them."""
    version = world.gateway._snapshot.version(V)
    assert version is not None
    return list(version.slots._instances.values())


async def test_another_instance_answers_for_one_that_died() -> None:
    """The client sees one 200 with one id; the second instance got the same request, at once."""
    async with a_world() as world:
        one, other = await two(world, dies, tells("other"))
        began = asyncio.get_running_loop().time()
        found = await world.call("POST", PINNED, {"X-Own": "v"}, b"body" * 1000)
        assert (found.status, found.body) == (200, b"other:" + b"body" * 1000)
        assert asyncio.get_running_loop().time() - began < 1
        assert one.seen[0].one("nvcf-reqid") == other.seen[0].one("nvcf-reqid") == found["nvcf-reqid"]
        assert (one.seen[0].one("x-own"), other.seen[0].one("x-own")) == ("v", "v")
        assert world.is_quiet


async def test_a_body_in_chunks_and_a_direct_call_are_repeated_too() -> None:
    """What was sent is sent again, byte for byte."""
    async with a_world() as world:
        await two(world, dies, tells("other"))
        client = await world.client()
        await client.send("PUT", "/x?y", {"Host": f"{F}.x", "Content-Length": "", "Transfer-Encoding": "chunked"})
        client.writer.write(b"3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        client.writer.write(b"2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer("PUT")).body == b"other:abcde"
        assert (world.servers[1].seen[0].method, world.servers[1].seen[0].target) == ("PUT", "/x?y")


async def test_instances_that_cannot_be_reached_are_avoided() -> None:
    """Nothing reaches a dead one, however many there are; while it is fresh in memory it is not even tried."""
    async with a_world() as world:
        dead = [await world.instance() for _ in range(2)]
        living = await world.instance(tells("living"))
        await world.deploy(*dead, living, slots=4)
        for server in dead:
            await server.stop()
        found = await asyncio.gather(*(world.call("POST", PINNED, {}, b"%d" % n) for n in range(4)))
        assert sorted(f.body for f in found) == [b"living:%d" % n for n in range(4)]
        assert {i.failed_until > 0 for i in instances(world)} == {True, False}


async def test_a_request_is_not_given_to_every_instance_to_die_of() -> None:
    """One that has ended two instances is a 500; the third never sees it."""
    async with a_world() as world:
        servers = [await world.instance(dies) for _ in range(3)]
        await world.deploy(*servers)
        found = await world.call("POST", PINNED)
        assert (found.status, json.loads(found.body)["type"]) == (500, CONNECTION)
        assert sorted(len(server.seen) for server in servers) == [0, 1, 1]
        assert world.is_quiet


async def test_an_answer_that_has_begun_is_not_repeated() -> None:
    """Half a head, garbage, or a part of a body: the request may have been served, and nobody else gets it."""

    def begins(raw: bytes) -> Handler:
        async def handle(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_body(reader, seen)
            writer.write(raw)
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.close()

        return handle

    async with a_world() as world:
        one, other = await two(world, dies, tells("other"))
        for raw in (b"HTTP/1.1 200 O", b"garbage\r\n\r\n"):
            one.handler = begins(raw)
            for instance in instances(world):
                instance.failed_until = 0.0
            found = await world.call("POST", PINNED)
            assert (found.status, json.loads(found.body)["type"]) == (500, CONNECTION)
        assert other.seen == []


async def test_a_request_too_large_to_keep_is_not_repeated() -> None:
    """Beyond what is kept the client is told, and may decide itself."""
    async with a_world() as world:
        _, other = await two(world, dies, tells("other"))
        found = await world.call("POST", PINNED, {}, b"x" * 1_000_000)
        assert (found.status, other.seen) == (500, [])


async def test_the_only_instance_is_tried_however_often_it_failed() -> None:
    """With nobody else a failure is told at once, and the next call is tried again."""
    async with a_world() as world:
        server = await world.instance(dies)
        await world.deploy(server)
        assert (await world.call("POST", PINNED)).status == 500
        server.handler = tells("again")
        assert (await world.call("POST", PINNED)).body == b"again:"


async def test_a_busy_other_instance_is_waited_for() -> None:
    """If the others have no slot free the request goes to the front of the queue, not back to the one that failed."""
    gate = asyncio.Event()

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.body = await read_body(reader, seen)
        if seen.body == b"first":
            await gate.wait()
        writer.write(answer(200, b"other:" + seen.body))

    async with a_world() as world:
        other = await world.instance(slow)
        await world.deploy(other)
        running = await world.client()
        await running.send("POST", PINNED, {}, b"first")
        await world.until(lambda: len(other.seen) == 1)
        one = await world.instance(dies)
        await world.deploy(other, one)
        waiting = await world.client()
        await waiting.send("POST", PINNED, {}, b"second")
        await world.until(lambda: "queued=1" in repr(world.gateway))
        gate.set()
        assert (await waiting.answer()).body == b"other:second"
        assert len(one.seen) == 1
        assert (await running.answer()).status == 200

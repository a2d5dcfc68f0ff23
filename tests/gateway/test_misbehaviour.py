"""Instances and clients that do not behave: the right answer, the slot free within a second, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway_fakes import Handler, Seen, answer, read_body
from gateway_world import KEY, PINNED, World, a_world

OK = b"HTTP/1.1 200 OK\r\n"
ONE = {"NVCF-POLL-SECONDS": "1", "Accept": "text/event-stream"}


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def says(*pieces: bytes, gap: float = 0.0, close: bool = True) -> Handler:
    """An instance that reads the request, sends ``pieces`` with ``gap`` seconds between, and closes or stays."""

    async def handle(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(gap)
        if close:
            writer.close()
        elif not pieces:
            await reader.read()

    return handle


@asynccontextmanager
async def nothing_left(**settings: float) -> AsyncIterator[World]:
    """A world in which, a second after the block, no slot, call, task or descriptor is held that was not before."""
    async with a_world(**settings) as world:
        server = await world.instance()
        await world.deploy(server)
        await world.call("POST", PINNED)
        await world.objects.head("none")  # the store's own threads begin with its first use
        await asyncio.sleep(0.05)
        tasks, files = len(asyncio.all_tasks()), descriptors()
        yield world
        async with asyncio.timeout(1):
            await world.until(lambda: world.is_quiet and not world.gateway._plane.calls)
        for client in world.clients:
            client.close()
        gc.collect()
        # one connection to the instance may be kept, with the instance's end of it and the task that serves it
        await world.until(lambda: descriptors() <= files + 2 and len(asyncio.all_tasks()) <= tasks + 1)


async def attempt(world: World, **headers: str) -> tuple[int, bytes, bool]:
    """One call: its status (0: none), what came of the body, and whether the response was complete."""
    client = await world.client()
    await client.send("POST", PINNED, {"Connection": "close"} | headers, b"{}")
    data = b""
    try:
        async with asyncio.timeout(5):
            while piece := await client.reader.read(65536):
                data += piece
    except ConnectionError:
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    if not head:
        return 0, b"", False
    if b"transfer-encoding: chunked" in head.lower():
        return int(head[9:12]), body, body.endswith(b"0\r\n\r\n")
    length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(head[9:12]), body, length == [len(body)]


@pytest.mark.parametrize(
    ("handler", "status", "complete"),
    [
        pytest.param(says(), 500, True, id="closes without an answer"),
        pytest.param(says(close=False), 504, True, id="never answers"),
        pytest.param(
            says(OK + b"Content-Length: 9\r\n\r\n", b"four", gap=0.05), 200, False, id="shorter than its length"
        ),
        pytest.param(says(OK + b"Content-Length: 2\r\n\r\nokay"), 200, True, id="longer than its length"),
        pytest.param(says(OK + b"Content-Length: -2\r\n\r\nok"), 500, True, id="negative length"),
        pytest.param(says(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!"), 500, True, id="two lengths"),
        pytest.param(says(OK + b"Transfer-Encoding: gzip\r\n\r\nok"), 500, True, id="another coding"),
        pytest.param(
            says(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n", gap=0.05), 200, False, id="chunks of nothing"
        ),
        pytest.param(says(b"\x00\x01\x02\r\n\r\n"), 500, True, id="garbage"),
        pytest.param(says(OK[:20]), 500, True, id="half a head"),
        pytest.param(says(OK + b"A: b\r\n" * 100 + b"Content-Length: 0\r\n\r\n"), 200, True, id="100 headers"),
        pytest.param(says(OK + b"A: b\r\n" * 200 + b"Content-Length: 0\r\n\r\n"), 500, True, id="200 headers"),
        pytest.param(says(OK + b"A: " + b"b" * (1 << 20) + b"\r\n\r\n"), 500, True, id="a header of 1 MB"),
        pytest.param(says(OK + b"A : b\r\n\r\n"), 500, True, id="a blank before the colon"),
        pytest.param(says(OK + b"\r\nok"), 200, True, id="as long as the connection"),
        pytest.param(
            says(OK + b"Content-Length: 20\r\n\r\n", *[b"x"] * 20, gap=0.01), 200, True, id="a byte at a time"
        ),
        pytest.param(
            says(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, answer(200, b"ok")), 200, True, id="50 times continue"
        ),
    ],
)
async def test_an_instance_that_misbehaves(handler: Handler, status: int, complete: bool) -> None:
    """The client gets the right status; what breaks off later is shown as a broken connection; the slot is free."""
    async with nothing_left(poll_grace=0.2) as world:
        world.servers[0].handler = handler
        found, body, whole = await attempt(world, **ONE)
        assert (found, whole) == (status, complete)
        if status == 500:
            assert json.loads(body)["type"].startswith("urn:inference-connection:")


async def test_an_instance_that_answers_twice_does_not_answer_the_next_call() -> None:
    """A second response that nobody asked for ends its connection, and is never taken for another call's."""
    async with nothing_left() as world:
        world.servers[0].handler = says(answer(200, b"first") + answer(200, b"poison"), close=False)
        for _ in range(5):
            assert (await attempt(world))[1] == b"first"


@pytest.mark.parametrize("stage", ["before the head", "in the head", "before the body", "in the body", "in a chunk",
                                   "before the answer", "in the answer"])  # fmt: skip
async def test_a_client_that_disconnects(stage: str) -> None:
    """At whatever stage a client goes, everything that was held for it is free."""
    head = f"POST {PINNED} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n".encode()
    sent = {
        "before the head": b"",
        "in the head": head,
        "before the body": head + b"Content-Length: 10\r\n\r\n",
        "in the body": head + b"Content-Length: 10\r\n\r\nhalf",
        "in a chunk": head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nha",
        "before the answer": head + b"Content-Length: 2\r\n\r\n{}",
        "in the answer": head + b"Content-Length: 2\r\n\r\n{}",
    }[stage]
    async with nothing_left() as world:
        world.servers[0].handler = says(*([OK + b"\r\nhello"] if stage == "in the answer" else []), close=False)
        for abort in (False, True):
            client = await world.client()
            client.writer.write(sent)
            await client.writer.drain()
            await asyncio.sleep(0.05)
            if abort:
                client.writer.transport.abort()
            else:
                client.close()
            await world.until(lambda: world.is_quiet)


async def test_a_client_that_does_not_read() -> None:
    """A reader that stops is not buffered for without end: the instance is held, and all is freed when it goes."""
    sent = 0

    async def pour(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_body(reader, seen)
        writer.write(OK + b"\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with nothing_left() as world:
        world.servers[0].handler = pour
        client = await world.client()
        await client.send("POST", PINNED, {"Accept": "text/event-stream"})
        await asyncio.sleep(0.5)
        before = sent
        await asyncio.sleep(0.3)
        assert sent == before
        assert sent < 32 * 1024 * 1024
        client.writer.transport.abort()


async def test_slow_heads_do_not_hold_up_others() -> None:
    """Hundreds of clients that send a byte of a head now and then are ended in time, while others are served."""
    async with nothing_left(head_timeout=0.6) as world:
        slow = [await world.client() for _ in range(200)]
        for client in slow:
            client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nX: ")
        for _ in range(4):
            for client in slow:
                client.writer.write(b"a")
            assert (await attempt(world))[0] == 200
            await asyncio.sleep(0.2)
        for client in slow:  # the answer, or a reset where the next byte met the closed connection
            try:
                assert (await client.reader.read())[:12] == b"HTTP/1.1 408"
            except ConnectionError:
                continue


async def test_a_hundred_thousand_tiny_chunks() -> None:
    """Many chunks of one byte arrive whole, and other calls go on meanwhile."""
    async with nothing_left() as world:
        client = await world.client()
        await client.send("POST", PINNED, {"Content-Length": "", "Transfer-Encoding": "chunked"})
        for _ in range(100):
            client.writer.write(b"1\r\nx\r\n" * 1000)
            await client.writer.drain()
        client.writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(20):
            assert (await client.answer()).body == b"x" * 100_000

"""Direct mode, streams in both directions, and misbehaviour on either side."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateway_fakes import Handler, Seen, answer, read_body
from gateway_world import KEY, PINNED, F, V, a_world

DIRECT = {"Host": f"{F}.invocation.localhost"}
SSE = {"Accept": "text/event-stream"}


async def mirror(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's body, in chunks, as it comes."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    left = int(seen.one("content-length") or 0)
    while left:
        data = await reader.read(min(left, 65536))
        left -= len(data)
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS", "PUT", "CUSTOM"])
@pytest.mark.parametrize("path", ["/", "/?query=123", "/abc/123", "/abc/123?query=456", "/%2e%2e//x?a=/../"])
async def test_direct_is_verbatim(method: str, path: str) -> None:
    """Method, path and query reach the instance byte for byte, and its answer the client."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        found = await world.call(method, path, {"Host": f"{V}.{F}.example"}, b"body")
        (seen,) = world.servers[0].seen
        assert (seen.method, seen.target, seen.body) == (method, path, b"body")
        assert (found.status, found.body, found["nvcf-status"]) == (200, b"body", "fulfilled")
        assert seen.one("nvcf-feature-disable-worker-compatibility") == "true"


async def test_direct_by_host_and_by_header() -> None:
    """Function hosts and the function-id header choose direct mode; another host goes to control."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        for headers in (
            {"Host": f"{F}.example"},
            {"Host": f"{F.upper()}.invocation.localhost:8080"},
            {"function-id": F, "function-version-id": V},
            {"function-id": F, "function-version-id": "ignored"},
        ):
            assert (await world.call("POST", "/", headers)).status == 200
        assert len(world.servers[0].seen) == 4
        for host in (f"x.{F}.example", f"api.{F}.example"):
            assert (await world.call("POST", "/nope", {"Host": host})).status == 404
        assert (await world.call("POST", "/nope", {"Host": "api.localhost", "function-id": F})).status == 404
        empty = await world.client()
        empty.writer.write(
            f"GET http://{F}.example?q=1 HTTP/1.1\r\nHost: {F}.example\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
        )
        assert (await empty.answer("GET")).status == 200
        assert world.servers[0].seen[-1].target == "/?q=1"


async def test_direct_errors_are_verbatim() -> None:
    """Status, headers and body of an instance's error pass unchanged, with the trio."""

    async def teapot(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(418, b"short and stout", "x-pot: 1", "Content-Type: text/x-tea"))

    async with a_world() as world:
        await world.deploy(await world.instance(teapot))
        found = await world.call("GET", "/", DIRECT)
        assert (found.status, found.body, found["x-pot"]) == (418, b"short and stout", "1")
        assert (found["content-type"], found["nvcf-status"]) == ("text/x-tea", "errored")
        head = await world.call("HEAD", "/", DIRECT)
        assert (head.status, head.body, head["content-length"]) == (418, b"", "15")


async def test_a_204_with_a_body_disturbs_nobody() -> None:
    """A 204 passes without a length, and a body that comes with it all the same is no part of the next answer."""

    async def odd(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if seen.target == "/204":
            writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 12\r\n\r\nnot allowed!")
        else:
            writer.write(answer(200, b"fine"))

    async with a_world() as world:
        await world.deploy(await world.instance(odd))
        for _ in range(5):
            nothing = await world.call("GET", "/204", DIRECT)
            assert (nothing.status, nothing.body, nothing.all("content-length")) == (204, b"", [])
            assert (await world.call("GET", "/200", DIRECT)).body == b"fine"


async def test_twenty_mebibytes_both_ways() -> None:
    """A large body is echoed while it is sent, with bounded memory, and arrives identical."""
    async with a_world() as world:
        await world.deploy(await world.instance(mirror))
        body = bytes(range(256)) * 4096 * 20
        client = await world.client()
        sending = asyncio.get_running_loop().create_task(client.send("POST", "/", DIRECT, body))
        await asyncio.sleep(0.05)  # the client does not read yet: everything between must wait
        found = await client.answer()
        await sending
        assert found.body == body
        assert world.is_quiet


async def test_ping_pong() -> None:
    """The response begins before the request ends, and both sides take turns over one exchange."""

    async def pong(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readline(), 16):
            data = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n%b" % (size, data))
            await writer.drain()
        await reader.readline()
        writer.write(b"0\r\n\r\n")

    async with a_world() as world:
        await world.deploy(await world.instance(pong))
        client = await world.client()
        await client.send("POST", "/", DIRECT | {"Content-Length": "", "Transfer-Encoding": "chunked"})
        assert (await client.head()).status == 200
        for turn in range(12):
            word = f"ping {turn}".encode()
            client.writer.write(b"%x\r\n%b\r\n" % (len(word), word))
            assert await client.data() == word
        client.writer.write(b"0\r\n\r\n")
        assert await client.data() is None
        assert (await client.call("POST", "/nope")).status == 404


async def test_events_are_flushed_one_by_one() -> None:
    """Each server-sent event arrives before the next is made; the stream has no length and its own type."""
    turn = asyncio.Queue[None]()

    async def events(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for number in range(100):
            await turn.get()
            writer.write(f"data: {number}\n\n".encode())
            await writer.drain()
        writer.close()

    async with a_world() as world:
        await world.deploy(await world.instance(events))
        client = await world.client()
        await client.send("POST", PINNED, SSE)
        turn.put_nowait(None)
        head = await client.head()
        assert (head["content-type"], "content-length" in head) == ("text/event-stream", False)
        for number in range(100):
            assert await client.data() == f"data: {number}\n\n".encode()
            turn.put_nowait(None)
        assert await client.data() is None
        await world.until(lambda: world.is_quiet)


@pytest.mark.parametrize("when", ["queued", "running", "answering", "sending"])
async def test_client_that_leaves_frees_everything(when: str) -> None:
    """Whenever a client disconnects, its call ends at the instance and its place is free at once."""
    cut = asyncio.Event()

    async def endless(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if when == "answering":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        try:
            while await reader.read(65536):
                pass
        finally:
            cut.set()

    async with a_world() as world:
        await world.deploy(*([] if when == "queued" else [await world.instance(endless)]))
        client = await world.client()
        await client.send("POST", PINNED, SSE | ({"Content-Length": "100"} if when == "sending" else {}), b"part")
        if when == "queued":
            await world.until(lambda: "queued=1" in repr(world.gateway))
        else:
            await world.until(lambda: len(world.servers[0].seen) == 1)
        if when == "answering":
            assert (await client.head()).status == 200
            assert await client.data() == b"hello"
        client.close()
        await world.until(lambda: world.is_quiet)
        if when != "queued":
            async with asyncio.timeout(2):
                await cut.wait()
        assert not world.gateway._plane.calls


@pytest.mark.parametrize(
    "raw",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", b"HTTP/1.1 101 Switching\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70000],
)  # fmt: skip
async def test_instance_without_a_proper_answer(raw: bytes) -> None:
    """An instance that closes early or answers garbage is a connection error, and its slot is free again."""

    async def broken(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    async with a_world() as world:
        await world.deploy(await world.instance(broken))
        found = await world.call("POST", PINNED)
        assert (found.status, json.loads(found.body)["type"].split(":")[1]) == (500, "inference-connection")
        assert world.is_quiet


@pytest.mark.parametrize(
    "raw",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\nxyz\r\n"],
)  # fmt: skip
async def test_truncated_answers_are_cut(raw: bytes) -> None:
    """A body that breaks off is shown to the client as a broken connection, never as a complete response."""

    async def broken(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()

    async with a_world() as world:
        await world.deploy(await world.instance(broken))
        client = await world.client()
        await client.send("POST", PINNED, {"Connection": "close"})
        data = b""
        try:
            while piece := await client.reader.read(65536):
                data += piece
        except ConnectionError:
            pass
        assert not data.endswith(b"0\r\n\r\n")
        assert world.is_quiet


def pauses(*pieces: bytes, kind: str = "text/event-stream") -> Handler:
    """An instance whose stream pauses before each piece."""

    async def handle(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for piece in pieces:
            await asyncio.sleep(0.35)
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")

    return handle


COMMENT = b": keep-alive\n\n"


async def test_a_pausing_stream_of_events_is_kept_alive() -> None:
    """Between events comments go out, never within one; without them the stream is what the instance sent."""
    async with a_world(sse_keep_alive=0.1) as world:
        await world.deploy(await world.instance(pauses(b"data: 1\n\n", b"data: ", b"2\r\n\r\n", b"data: 3\n\n")))
        for accept in ("text/event-stream", "application/json, text/event-stream"):
            body = (await world.call("POST", PINNED, {"Accept": accept})).body
            assert body.count(COMMENT) >= 3
            assert body.startswith(COMMENT)
            assert body.replace(COMMENT, b"") == b"data: 1\n\ndata: 2\r\n\r\ndata: 3\n\n"
            assert b"data: 2" in body


@pytest.mark.parametrize(
    ("accept", "kind", "setting"),
    [("*/*", "text/event-stream", 0.1), ("text/event-stream", "application/json", 0.1),
     ("text/event-stream", "text/event-stream", 0)],
)  # fmt: skip
async def test_what_is_no_stream_of_events_is_left_alone(accept: str, kind: str, setting: float) -> None:
    """Nothing is added for a client that did not ask for events, to anything else, or when it is turned off."""
    async with a_world(sse_keep_alive=setting) as world:
        await world.deploy(await world.instance(pauses(b"data: 1\n\n", b"data: 2\n\n", kind=kind)))
        assert (await world.call("POST", PINNED, {"Accept": accept})).body == b"data: 1\n\ndata: 2\n\n"


async def test_trailers_end_here() -> None:
    """Trailers are read and dropped, in both directions, as in NVCF; what follows them is the next message."""

    async def trailing(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.body = await read_body(reader, seen)
        writer.write(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")

    async with a_world() as world:
        server = await world.instance(trailing)
        await world.deploy(server)
        client = await world.client()
        for _ in range(2):
            headers = {"Content-Length": "", "Transfer-Encoding": "chunked", "Trailer": "X-Evil", "TE": "trailers"}
            await client.send("POST", PINNED, headers, b"3\r\nabc\r\n0\r\nX-Evil: 1\r\nNVCF-SUB: evil\r\n\r\n")
            found = await client.answer()
            assert (found.status, found.body, "x-sum" in found, "trailer" in found) == (200, b"ok", False, False)
        assert server.connections == 1
        assert [seen.body for seen in server.seen] == [b"abc", b"abc"]
        assert [seen.all(name) for seen in server.seen for name in ("x-evil", "trailer", "te")] == [[]] * 6


@pytest.mark.parametrize("form", ["pexec", "exec"])
async def test_a_client_that_waits_for_100_is_told_to_go_on(form: str) -> None:
    """Before the body is sent the client is told whether it is wanted: 100, or the refusal."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        body = b'{"requestBody": {}}'
        path = PINNED.replace("pexec", form)
        client = await world.client()
        await client.send("POST", path, {"Expect": "100-continue", "Content-Length": str(len(body))})
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(body)
        assert (await client.answer()).status == 200

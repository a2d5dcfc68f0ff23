"""Connections on both sides, hostile requests, control coming and going, starting and stopping."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateway_fakes import Seen, Server, answer, read_body
from gateway_world import KEY, PINNED, Client, F, V, a_world

from gpufn.gateway import relay
from gpufn.model.errors import Fatal


async def test_stale_connections_are_replaced() -> None:
    """A pooled connection that the instance closes in that moment costs the client nothing."""

    async def once(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(world.servers[0].seen) == 2:  # the second request on the connection is never answered
            writer.close()
            return
        writer.write(answer(200, await read_body(reader, seen)))

    async with a_world() as world:
        await world.deploy(await world.instance(once))
        client = await world.client()
        assert (await client.call("POST", PINNED, {}, b"one")).body == b"one"
        assert (await client.call("POST", PINNED, {}, b"two")).body == b"two"
        assert world.servers[0].connections == 2
        assert world.is_quiet


async def test_pipelined_requests_are_served_in_order() -> None:
    """Requests sent without waiting are answered one after the other, in order."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        client = await world.client()
        for number in range(20):
            await client.send("POST", PINNED, {}, f"number {number}".encode())
        for number in range(20):
            assert (await client.answer()).body == f"number {number}".encode()
        assert world.servers[0].peak == 1


async def test_expect_100_continue() -> None:
    """A client that waits for 100 gets it when its call is accepted, and a final answer without it otherwise."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        client = await world.client()
        await client.send("POST", PINNED, {"Expect": "100-continue", "Content-Length": "5"})
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(b"hello")
        assert (await client.answer()).body == b"hello"
        refused = await world.client()
        headers = {"Expect": "100-continue", "Content-Length": "5", "Authorization": "Bearer bad"}
        found = await refused.call("POST", PINNED, headers)
        assert (found.status, found["connection"]) == (401, "close")
        assert await refused.closed()


async def test_refused_body_is_read_away() -> None:
    """A client that sends a body nobody wants still gets the answer, and may go on with its connection."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        client = await world.client()
        await client.send("POST", PINNED, {"Authorization": "Bearer bad"}, bytes(1 << 20))
        assert (await client.answer()).status == 401
        assert (await client.call("POST", PINNED, {}, b"next")).body == b"next"


SMUGGLING = [
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    b"GET http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x/../y\r\n\r\n",
    b"GET /\r\n\r\n",
    b"POST /v2/nvcf/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v2/nvcf/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n",
]


@pytest.mark.parametrize("raw", SMUGGLING)
async def test_ambiguous_requests_are_refused(raw: bytes) -> None:
    """What two servers could read in two ways is refused, and the connection ends."""
    async with a_world() as world:
        client = await world.client()
        client.writer.write(raw)
        data = b""
        async with asyncio.timeout(5):
            try:
                while piece := await client.reader.read(65536):
                    data += piece
            except ConnectionError:
                pass
        assert data[:12] in {b"HTTP/1.1 %d" % status for status in (400, 431, 501, 505)}
        assert data.count(b"HTTP/1.1 ") == 1


async def unframed(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's body, in chunks."""
    body = await read_body(reader, seen)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))


async def test_old_clients_are_served() -> None:
    """HTTP/1.0 without keep-alive is answered without chunks, and the connection ends."""
    async with a_world() as world:
        await world.deploy(await world.instance(unframed))
        client = await world.client()
        client.writer.write(
            f"POST / HTTP/1.0\r\nHost: {F}.x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 3\r\n\r\nabc".encode()
        )
        data = await client.reader.read()
        assert data.endswith(b"\r\n\r\nabc")
        assert b"chunked" not in data.lower()


async def test_slow_heads_and_idle_connections_end() -> None:
    """A head that does not come in time is 408; an idle connection is closed; too many are 503."""
    async with a_world(head_timeout=0.2, idle_timeout=0.3, connections_max=2) as world:
        slow, idle = await world.client(), await world.client()
        slow.writer.write(b"GET / HTTP/1.1\r\n")
        found = await idle.call("GET", "/x")
        assert found.status == 200
        assert (await slow.reader.read()).startswith(b"HTTP/1.1 408 ")
        async with asyncio.timeout(2):
            assert await idle.closed()
        clients = [await world.client() for _ in range(3)]
        assert (await clients[2].reader.read()).startswith(b"HTTP/1.1 503 ")


async def test_relay_passes_everything_through() -> None:
    """What is not ours goes to control as it came, with the caller's address and without what the client made up."""
    async with a_world() as world:
        headers = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=evil", "Host": "api.localhost:8080", "x-y": "z"}
        found = await world.call("PUT", "/v2/nvcf/functions?limit=1", headers, b"body")
        assert (found.status, found.body, "nvcf-reqid" in found) == (200, b'{"from":"control"}', False)
        (seen,) = world.control.relayed.seen
        assert (seen.method, seen.target, seen.body) == ("PUT", "/v2/nvcf/functions?limit=1", b"body")
        assert (seen.one("authorization"), seen.one("host")) == (f"Bearer {KEY}", "api.localhost:8080")
        assert (seen.one("x-forwarded-for"), seen.one("x-forwarded-host")) == ("127.0.0.1", "api.localhost:8080")
        assert (seen.one("x-forwarded-proto"), seen.one("forwarded"), seen.one("x-y")) == ("http", None, "z")
        assert (await world.call("GET", "/nope")).status == 404
        assert (await world.call("GET", "/v2/nvcf/queues/functions/position")).status == 200


async def test_serving_goes_on_without_control() -> None:
    """When control is away invocations are served, the rest is 503; what it does not repeat afterwards is dropped."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        await world.control.stop()
        await world.until(lambda: not world.gateway.synced)
        assert (await world.call("POST", PINNED)).status == 200
        found = await world.call("GET", "/v2/nvcf/functions")
        assert (found.status, "control" in json.loads(found.body)["detail"]) == (503, True)
        del world.control.retained[f"version:{V}"]
        await world.control.start()
        await world.until(lambda: world.gateway.synced)
        assert (await world.call("POST", PINNED)).status == 404


async def test_taken_port_is_fatal() -> None:
    """A port in use ends the start with exit code 3 and the remedy."""
    async with a_world() as world:
        other = world.another("second")
        with pytest.raises(Fatal, match=f"port {world.port} in use.*--port") as caught:
            await other.start("127.0.0.1", world.port)
        assert caught.value.exit_code == 3


async def test_drain_lets_calls_finish() -> None:
    """A draining gateway finishes what runs, answers what waits too long with 503, and takes nothing new."""
    release = asyncio.Event()

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        await release.wait()
        writer.write(answer())

    async with a_world() as world:
        server: Server = await world.instance(slow)
        await world.deploy(server)
        clients: list[Client] = [await world.client() for _ in range(3)]
        await clients[0].call("GET", "/x")  # idle when the drain begins
        await clients[1].send("POST", PINNED)
        await world.until(lambda: len(server.seen) == 1)
        await clients[2].send("POST", PINNED)
        await world.until(lambda: "queued=1" in repr(world.gateway))
        draining = asyncio.get_running_loop().create_task(world.gateway.drain(0.5))
        assert await clients[0].closed()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await world.client()
        server.handler = hang
        release.set()
        assert (await clients[1].answer()).status == 200
        found = await clients[2].answer()
        assert (found.status, found["connection"]) == (503, "close")
        await draining
        assert world.is_quiet


async def hang(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await reader.read()


async def test_a_relayed_upload_may_take_long_but_not_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the body goes on a relayed request is not given up; when nothing more comes it is."""
    monkeypatch.setattr(relay, "HEAD_TIMEOUT", 0.3)
    async with a_world() as world:
        client = await world.client()
        await client.send("PUT", "/v2/gpufn/objects/assets/x", {"Content-Length": "10"})
        for _ in range(10):
            await asyncio.sleep(0.1)
            client.writer.write(b"x")
        assert (await client.answer("PUT")).status == 200
        assert world.control.relayed.seen[-1].body == b"x" * 10
        stalled = await world.client()
        await stalled.send("PUT", "/v2/gpufn/objects/assets/x", {"Content-Length": "10"}, b"x")
        assert (await stalled.answer("PUT")).status == 504


async def test_the_invocation_host_serves_invocations_only() -> None:
    """Its /health needs no key; an unknown path is 401 without a key and 404 with any (conformance 13 and 79)."""
    async with a_world() as world:
        host = {"Host": "invocation.localhost:8080"}
        await world.deploy(await world.instance())
        assert (await world.call("POST", PINNED, host)).status == 200
        healthy = await world.call("GET", "/health", host | {"Authorization": ""})
        assert (healthy.status, json.loads(healthy.body)) == (200, {"status": "OK"})
        assert (await world.call("POST", "/health", host)).status == 405
        unknown = await world.call("GET", "/nope", host | {"Origin": "http://o"})
        assert (unknown.status, json.loads(unknown.body)) == (404, {"status": 404, "title": "Not Found"})
        assert unknown["access-control-allow-origin"] == "http://o"
        keyless = await world.call("GET", "/v2/nvcf/functions", host | {"Authorization": ""})
        assert (keyless.status, keyless.body) == (401, b"Header of type `authorization` was missing")
        assert world.control.relayed.seen == []

"""WebSocket and other upgrades through the gateway, with the `websockets` package on both sides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from gateway_fakes import Seen, Server, answer
from gateway_world import KEY, F, V, World, a_key, a_world
from hypothesis import given, strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gpufn.gateway.http1 import parse_request
from gpufn.gateway.tunnel import close_frame
from gpufn.gateway.upgrade import requested

Talk = Callable[[ServerConnection], Awaitable[None]]


async def echo(socket: ServerConnection) -> None:
    """Send back what comes."""
    async for message in socket:
        await socket.send(message)


class Socket(Server):
    """An instance that speaks WebSocket; ``requests`` are the heads it saw."""

    def __init__(self, talk: Talk, **options: Any) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self._talk = talk
        self._options = options

    async def start(self, path: Any = None) -> None:
        self._serving = await serve(self._open, "127.0.0.1", 0, **self._options)
        self.port = next(iter(self._serving.sockets)).getsockname()[1]

    async def stop(self) -> None:
        self._serving.close()
        await self._serving.wait_closed()

    async def _open(self, socket: ServerConnection) -> None:
        self.requests.append(socket.request)
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            with contextlib.suppress(ConnectionClosed):
                await self._talk(socket)
        finally:
            self.active -= 1


@contextlib.asynccontextmanager
async def a_socket_world(
    talk: Talk = echo, *, slots: int = 1, options: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[World, Socket]]:
    """A gateway in front of one instance that speaks WebSocket."""
    async with a_world(**settings) as world:
        instance = Socket(talk, **(options or {}))
        await instance.start()
        world.servers.append(instance)
        await world.deploy(instance, slots=slots)
        yield world, instance


def dial(world: World, path: str = "/ws", *, version: bool = False, **options: Any) -> connect:
    """Connect to the function by headers, unless ``additional_headers`` say otherwise."""
    headers = {"Authorization": f"Bearer {KEY}", "Function-Id": F} | ({"Function-Version-Id": V} if version else {})
    options = {"additional_headers": headers, "proxy": None} | options
    return connect(f"ws://127.0.0.1:{world.port}{path}", **options)


async def closed(socket: ClientConnection) -> tuple[int | None, str]:
    """The code and reason with which the other side ends ``socket``."""
    async with asyncio.timeout(5):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason or ""


async def test_frames_go_both_ways() -> None:
    """Text, binary and a megabyte come back as they went; the instance sees path, query and who calls, and no key."""
    async with a_socket_world() as (world, instance):
        async with dial(world, "/chat?room=1", version=True) as socket:
            for message in ("hello", b"\x00\xff", "x" * 1_000_000, ""):
                await socket.send(message)
                assert await socket.recv() == message
        head = instance.requests[0]
        assert head.path == "/chat?room=1"
        assert "authorization" not in head.headers
        assert (head.headers["nvcf-function-version-id"], head.headers["nvcf-ncaid"]) == (V, "nvcf-default")
        assert socket.response is not None
        assert head.headers["nvcf-reqid"] == socket.response.headers["nvcf-reqid"]
        await world.until(lambda: world.is_quiet)


async def test_by_host_name() -> None:
    """The function can be named by the host alone."""
    async with a_socket_world() as (world, _):
        headers = {"Authorization": f"Bearer {KEY}"}
        options: dict[str, Any] = {
            "additional_headers": headers,
            "proxy": None,
            "host": "127.0.0.1",
            "port": world.port,
        }
        async with connect(f"ws://{V}.{F}.invocation.localhost/", **options) as socket:
            await socket.send("by host")
            assert await socket.recv() == "by host"


async def test_a_slot_is_held_while_the_socket_lives() -> None:
    """The second socket waits until the first has ended."""
    async with a_socket_world() as (world, instance):
        first = await dial(world)
        waiting = asyncio.get_running_loop().create_task(_open(world))
        await world.until(lambda: " queued=1 in_flight=1 " in repr(world.gateway))
        await first.close()
        second = await waiting
        await second.send("mine")
        assert await second.recv() == "mine"
        await second.close()
        assert instance.peak == 1
        await world.until(lambda: world.is_quiet)


async def _open(world: World) -> ClientConnection:
    return await dial(world)


async def test_a_socket_that_gets_no_slot_is_told_why() -> None:
    """504 with the reference's words, and with what it was waiting for."""
    async with a_socket_world(stream_wait=0.2) as (world, _), dial(world):
        with pytest.raises(InvalidStatus) as refused:
            await dial(world)
        response = refused.value.response
        assert response.status_code == 504
        assert b"failed to establish link to worker" in (response.body or b"")
        assert b"at position 1 of 1; 1 instances ready" in (response.body or b"")


async def test_close_codes_pass_both_ways() -> None:
    """What either side closes with is what the other sees."""
    seen: list[tuple[int | None, str | None]] = []

    async def talk(socket: ServerConnection) -> None:
        if await socket.recv() == "you first":
            await socket.close(4001, "enough")
            return
        await socket.wait_closed()
        seen.append((socket.close_code, socket.close_reason))

    async with a_socket_world(talk) as (world, _):
        async with dial(world) as socket:
            await socket.send("you first")
            assert await closed(socket) == (4001, "enough")
        socket = await dial(world)
        await socket.send("me first")
        await socket.close(4002, "done")
        await world.until(lambda: bool(seen))
        assert seen == [(4002, "done")]


async def test_pings_pass_both_ways() -> None:
    """A ping is answered by the other end, not by the gateway."""
    pinged = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await (await socket.ping(b"from the instance"))
        pinged.set()
        await socket.wait_closed()

    async with a_socket_world(talk) as (world, _), dial(world) as socket:
        async with asyncio.timeout(5):
            await (await socket.ping(b"from the client"))
            await pinged.wait()


async def test_idle_sockets_are_closed_with_the_reason() -> None:
    """Both sides get 1001 and which setting it was; traffic in either direction keeps a socket alive."""
    seen: list[int | None] = []

    async def talk(socket: ServerConnection) -> None:
        for _ in range(6):
            await asyncio.sleep(0.1)
            await socket.send("still here")
        await socket.wait_closed()
        seen.append(socket.close_code)

    async with a_socket_world(talk, stream_idle=0.3) as (world, _):
        async with dial(world) as socket:
            for _ in range(6):
                assert await socket.recv() == "still here"
            code, reason = await closed(socket)
        assert (code, reason) == (1001, "no traffic for 0.3 s (gateway.stream_idle)")
        await world.until(lambda: world.is_quiet and bool(seen))
        assert seen == [1001]


async def test_sockets_have_a_lifetime() -> None:
    """A socket in use is closed when it is too old, if that was set."""
    async with a_socket_world(stream_lifetime=0.2) as (world, _), dial(world) as socket:
        assert await closed(socket) == (1001, "open for 0.2 s (gateway.stream_lifetime)")


async def test_sockets_are_told_when_the_gateway_stops() -> None:
    """1012: connect again."""
    async with a_socket_world() as (world, _), dial(world) as socket:
        await world.gateway.drain(0)
        assert await closed(socket) == (1012, "the gateway is shutting down; connect again")


async def test_a_client_that_vanishes_frees_its_slot() -> None:
    """Its connection is reset: the instance hears of it, and the next one is served."""
    async with a_socket_world() as (world, instance):
        socket = await dial(world)
        socket.transport.abort()
        await world.until(lambda: world.is_quiet and instance.active == 0)


async def test_an_instance_that_vanishes_ends_the_socket() -> None:
    """The client sees the connection end without a close frame, as it would without a gateway."""

    async def talk(socket: ServerConnection) -> None:
        socket.transport.abort()

    async with a_socket_world(talk) as (world, _), dial(world) as socket:
        assert (await closed(socket))[0] == 1006
        await world.until(lambda: world.is_quiet)


async def test_who_may_not_is_refused_before_anything_happens() -> None:
    """No credential, a wrong one, a credential without Bearer, an unknown function, a key without the scope."""
    async with a_socket_world() as (world, instance):
        world.control.publish("other", a_key("nvapi-none", scopes=("queue_details",)))
        await world.settled()
        for headers, status in (
            ({"Function-Id": F}, 401),
            ({"Function-Id": F, "Authorization": "Bearer nope"}, 401),
            ({"Function-Id": F, "Authorization": KEY}, 401),
            ({"Function-Id": F.replace("1", "9"), "Authorization": f"Bearer {KEY}"}, 404),
            ({"Function-Id": F, "Authorization": "Bearer nvapi-none"}, 403),
        ):
            with pytest.raises(InvalidStatus) as refused:
                await dial(world, additional_headers=headers)
            assert refused.value.response.status_code == status
        assert instance.requests == []


async def test_browser_form() -> None:
    """Credential and ids in Sec-WebSocket-Protocol; the instance sees all items; one of them is answered."""
    async with a_socket_world() as (world, instance):
        items = [f"authorization.{KEY}", f"Function-Id.{F}", f"function-version-id.{V}", "chat"]
        wanted = [Subprotocol(item) for item in items]
        async with dial(world, additional_headers={}, subprotocols=wanted) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            assert socket.subprotocol == f"Function-Id.{F}"
        assert instance.requests[0].headers["sec-websocket-protocol"] == ", ".join(items)


async def test_browser_form_with_a_protocol_of_the_instance() -> None:
    """What the instance chooses is what the client gets."""
    async with a_socket_world(options={"subprotocols": [Subprotocol("chat")]}) as (world, _):
        wanted = [Subprotocol(item) for item in (f"authorization.{KEY}", f"function-id.{F}", "chat")]
        async with dial(world, additional_headers={}, subprotocols=wanted) as socket:
            assert socket.subprotocol == "chat"


async def test_real_headers_win_over_the_browser_form() -> None:
    """A header says more than an item, and needs no Bearer where items are present."""
    async with a_socket_world() as (world, _):
        headers = {"Authorization": KEY, "Function-Id": F}
        wanted = [Subprotocol("authorization.wrong"), Subprotocol("function-id.wrong")]
        async with dial(world, additional_headers=headers, subprotocols=wanted) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"


async def test_an_instance_may_say_no() -> None:
    """Its answer comes as it is, and the connection to the gateway can be used again."""

    async def no(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(426, b"old", "Upgrade: chat/2"))

    async with a_world() as world:
        await world.deploy(await world.instance(no))
        client = await world.client()
        for _ in range(2):
            found = await client.call("GET", "/", UPGRADE)
            assert (found.status, found.body, found["nvcf-status"]) == (426, b"old", "errored")
        assert world.is_quiet


UPGRADE = {"Connection": "Upgrade", "Upgrade": "chat", "Function-Id": F, "Content-Length": ""}


async def test_any_protocol_with_half_close_and_early_bytes() -> None:
    """What is sent before the 101, and after one side has finished, arrives."""

    async def shout(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nwelcome ")
        everything = await reader.read()  # until the client has finished
        writer.write(everything.upper())
        writer.close()

    async with a_world() as world:
        await world.deploy(await world.instance(shout))
        client = await world.client()
        await client.send("GET", "/", UPGRADE, b"early ")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nUpgrade: chat\r\n" in head
        client.writer.write(b"late")
        client.writer.write_eof()
        assert await client.reader.read() == b"welcome EARLY LATE"
        await world.until(lambda: world.is_quiet)


async def test_pexec_and_control_do_not_upgrade() -> None:
    """Outside direct mode the wish is ignored, as a server may."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        wish = {"Connection": "Upgrade", "Upgrade": "websocket"}
        found = await world.call("POST", f"/v2/nvcf/pexec/functions/{F}", wish, b"x")
        assert (found.status, found.body) == (200, b"x")
        assert world.servers[0].seen[0].one("upgrade") is None


@pytest.mark.parametrize("wish", ["h2c", "H2C", "HTTP/2.0", "TLS/1.0", "websocket, h2c", "bad value", ""])
async def test_what_would_tunnel_requests_is_not_passed_on(wish: str) -> None:
    """HTTP in HTTP would go past the checks made for each request."""
    block = f"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {wish}\r\n\r\n"
    assert requested(parse_request(block.encode(), 99)) is None


@given(reason=st.text(max_size=200), masked=st.booleans())
def test_close_frames_are_control_frames(reason: str, masked: bool) -> None:
    """At most 125 bytes of payload, whatever the reason."""
    frame = close_frame(1001, reason, masked=masked)
    length = frame[1] & 0x7F
    assert length <= 125
    assert reason.startswith(frame[4 + 4 * masked :].decode())
    assert len(frame) == 2 + 4 * masked + length

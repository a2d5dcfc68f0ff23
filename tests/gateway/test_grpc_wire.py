"""The gRPC port on the wire, judged by the `h2` package, and what it makes of hostile clients."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest
from gateway_world import F
from grpc_fakes import CALLER, a_grpc_world, unary
from h2_client import an_h2_client

from gpufn.runtime.http2.frames import PREFACE, Code, frame, header_frames, settings

HELLO = PREFACE + settings({})


async def test_a_slot_per_connection_by_setting() -> None:
    """As the reference does: a connection takes one slot however many calls it carries, until it ends."""
    async with a_grpc_world(slots=1, grpc_slot_per_connection=True) as (world, instance, channel):
        async with an_h2_client(world) as client:
            calls = [client.request(path="/test.Echo/Wait") for _ in range(5)]
            await world.until(lambda: instance.active == 5)
            assert " queued=0 in_flight=1 free=0" in repr(world.gateway)
            waiting = unary(channel)(b"second", metadata=CALLER)
            await world.until(lambda: " queued=1 " in repr(world.gateway))
            instance.gate.set()
            for number in calls:
                assert (await client.until_ended(number)).trailers["grpc-status"] == "0"
            assert " queued=1 in_flight=1 " in repr(world.gateway)
        assert await waiting == b"second"


async def test_refusals_are_plain_http_for_those_who_speak_it() -> None:
    """401, 400, 404 with text, and CORS for an origin; gRPC gets 200 with headers only."""
    async with a_grpc_world() as (world, _, _channel), an_h2_client(world) as client:
        plain = {"content_type": "text/plain", "origin": "http://page"}
        for headers, status, words in (
            ({"authorization": ""}, "401", b"no authorization was passed in the metadata"),
            ({"function_id": ""}, "400", b"no function-id was passed in the metadata"),
            ({"function_id": "x"}, "404", b"failed to open stateful work request"),
        ):
            found = await client.until_ended(client.request(b"", **(plain | headers)))
            assert found.headers[":status"] == status
            assert words in found.body
            assert found.headers["access-control-allow-origin"] == "http://page"
        grpc = await client.until_ended(client.request(authorization=""))
        assert (grpc.headers[":status"], grpc.headers["grpc-status"], grpc.body) == ("200", "16", b"")
        lost = await client.until_ended(client.request(nvcf_reqid=F))
        assert lost.headers["set-cookie"] == "nvcf-request-id=; Max-Age=-1"


async def test_preflight() -> None:
    """Answered without a key."""
    async with a_grpc_world() as (world, _, _channel), an_h2_client(world) as client:
        wish = {"method": "OPTIONS", "authorization": "", "origin": "http://page"}
        found = await client.until_ended(client.request(None, **wish, access_control_request_method="POST"))
        assert (found.headers[":status"], found.headers["access-control-max-age"]) == ("200", "3600")
        assert found.headers["access-control-allow-origin"] == "http://page"


@pytest.mark.parametrize(
    "headers",
    [{"te": "gzip"}, {"path": "no-slash"}, {"authority": "a b"}, {"method": "CONNECT"}, {"scheme": "file"},
     {"host": "other"}, {"x-bad": "a\x00b"}, {"x-bad": "a\nb"}, {"connection": "close"}],
)  # fmt: skip
async def test_malformed_requests_end_their_stream(headers: dict[str, str]) -> None:
    """Nothing of them reaches an instance; the connection and other calls go on."""
    async with a_grpc_world() as (world, instance, _), an_h2_client(world) as client:
        client.h2.config.validate_outbound_headers = False
        client.h2.config.normalize_outbound_headers = False
        found = await client.until_ended(client.request(b"", **headers))
        assert found.reset == Code.PROTOCOL_ERROR
        assert instance.metadata == []
        assert (await client.until_ended(client.request())).trailers["grpc-status"] == "0"


async def test_more_streams_than_allowed_are_refused() -> None:
    """REFUSED_STREAM: the client may try again; those before go on."""
    async with a_grpc_world(grpc_streams_max=2, slots=1) as (world, instance, _), an_h2_client(world) as client:
        # without having read the settings, as one that does not care
        first, second, third = (client.request(path="/test.Echo/Wait") for _ in range(3))
        assert (await client.until_ended(third)).reset == Code.REFUSED_STREAM
        instance.gate.set()
        for number in (first, second):
            assert (await client.until_ended(number)).trailers["grpc-status"] == "0"


async def test_a_slow_reader_is_waited_for() -> None:
    """A client that opens no window gets no more than it allows; the rest follows when it does."""
    async with a_grpc_world() as (world, _, _channel), an_h2_client(world) as client:
        client.acknowledge = False
        message = struct.pack(">BI", 0, 16_000) + bytes(16_000)
        calls = [client.request(message), client.request(struct.pack(">BI", 0, 5) + b" 8000", path="/test.Echo/Expand")]
        async with asyncio.timeout(5):
            while sum(len(e.body) for e in client.exchanges.values()) < 65_535:
                await client.read()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.read()
        client.acknowledge = True
        client.h2.increment_flow_control_window(10**6)
        client.h2.increment_flow_control_window(10**6, calls[1])
        client.flush()
        for number in calls:
            assert (await client.until_ended(number)).trailers["grpc-status"] == "0"
        assert len(client.exchanges[calls[1]].body) == sum(5 + len(str(n)) for n in range(8_000))
        await world.until(lambda: world.is_quiet)


HOSTILE = {
    "another preface": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "no settings first": PREFACE + frame(6, 0, 0, bytes(8)),
    "a huge frame": HELLO + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "even stream": HELLO + header_frames(2, b"\x83", end=True),
    "data on no stream": HELLO + frame(0, 0, 1, b"x"),
    "window of nothing": HELLO + frame(8, 0, 0, bytes(4)),
    "window beyond measure": HELLO + frame(8, 0, 0, b"\x7f\xff\xff\xff"),
    "a push": HELLO + frame(5, 4, 1, bytes(4)),
    "broken compression": HELLO + header_frames(1, b"\xff\xff\xff\xff\xff\xff", end=True),
    "continuation alone": HELLO + frame(9, 4, 1, b""),
    "an interrupted block": HELLO + frame(1, 0, 1, b"\x83") + frame(6, 0, 0, bytes(8)),
    "an endless block": HELLO + frame(1, 0, 1, b"") + frame(9, 0, 1, b"\x00" * 16000) * 6,
    "many empty continuations": HELLO + frame(1, 0, 1, b"\x83") + frame(9, 0, 1, b"") * 100,
    "too much padding": HELLO + frame(0, 8, 1, b"\xff"),
    "short ping": HELLO + frame(6, 0, 0, b"1234"),
    "odd settings": HELLO + frame(4, 0, 0, b"12345"),
    "a bomb": HELLO + header_frames(1, b"\x40\x01a\x7f\x81\x1e" + b"x" * 4000 + b"\xbe" * 16000, end=True),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
async def test_broken_protocol_ends_the_connection(raw: bytes) -> None:
    """With a reason where one can be said, and without harm to others."""
    async with a_grpc_world() as (world, _, channel):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.grpc_port)
        writer.write(raw)
        async with asyncio.timeout(5):
            data = await reader.read()
        writer.close()
        assert b"\x07\x00\x00\x00\x00\x00" in data  # GOAWAY
        assert await unary(channel)(b"others", metadata=CALLER) == b"others"


async def test_rapid_reset_ends_the_connection() -> None:
    """Opening and giving up calls in a loop is stopped, and nothing stays behind."""
    async with a_grpc_world() as (world, _, _channel), an_h2_client(world) as client:
        for _ in range(1100):
            number = client.request(None, path="/test.Echo/Wait")
            client.h2.reset_stream(number, 8)
        client.flush()
        async with asyncio.timeout(10):
            while client.goaway is None and await client.read():
                pass
        assert client.goaway == Code.ENHANCE_YOUR_CALM
        await world.until(lambda: world.is_quiet)


async def test_silent_connections_are_ended() -> None:
    """Without a byte, within the preface, and without a call."""
    async with a_grpc_world(head_timeout=0.2, idle_timeout=0.3) as (world, _, _channel):
        for start in (b"", PREFACE[:2], PREFACE[:10], HELLO):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.grpc_port)
            writer.write(start)
            async with asyncio.timeout(5):
                while await reader.read(65536):
                    pass
            writer.close()


async def test_connections_that_said_nothing_end_with_the_gateway() -> None:
    """Nothing stays open behind it."""
    async with a_grpc_world() as (world, _, _channel):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.grpc_port)
        writer.write(b"P")
        await asyncio.sleep(0.05)
        await world.gateway.drain(0)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_a_session_shared_by_two_connections() -> None:
    """The slot of a session that was taken up is held until the last connection ends."""
    async with a_grpc_world(slots=1, grpc_slot_per_connection=True) as (world, _, _channel):
        async with an_h2_client(world) as second:
            async with an_h2_client(world) as first:
                found = await first.until_ended(first.request())
                again = await second.until_ended(second.request(nvcf_reqid=found.headers["nvcf-reqid"]))
                assert again.headers["nvcf-reqid"] == found.headers["nvcf-reqid"]
            await asyncio.sleep(0.05)
            assert " in_flight=1 " in repr(world.gateway)
            assert (await second.until_ended(second.request())).trailers["grpc-status"] == "0"
        await world.until(lambda: world.is_quiet)

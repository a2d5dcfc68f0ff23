"""Health checks, against real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from gpufn.compute.probes import probe
from gpufn.compute.process_spawn import free_ports
from gpufn.model.function import Health, HealthProtocol
from gpufn.model.instance import Address


@asynccontextmanager
async def _server(answer: bytes | None, requests: list[bytes] | None = None) -> AsyncIterator[Address]:
    """Sends ``answer`` to whoever has sent a request; with None keeps silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(request)
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the prober went away
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", 1, server.sockets[0].getsockname()[1])


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected", "reason"),
    [
        (OK, 200, None),
        (b"HTTP/1.0 200 OK\r\n\r\n", 200, None),
        (b"HTTP/1.1 204\r\n\r\n", 204, None),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 200, "answered 503, expected 200"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 200, "answered 404, expected 200"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 200, "answered 204, expected 200"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", 200, "answered 302, expected 200"),
        (b"", 200, "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", 200, "answered something that is not HTTP/1.1"),
        (b"x" * 200_000, 200, "answered something that is not HTTP/1.1"),
    ],
)
async def test_only_the_expected_status_is_healthy(answer: bytes, expected: int, reason: str | None) -> None:
    """Everything but the exact status is one plain reason."""
    async with _server(answer) as address:
        assert await probe(Health(expected_status=expected), address) == reason


async def test_request_is_a_plain_get_of_the_uri() -> None:
    """The health port is asked, with the URI as it was given, with a leading slash."""
    requests: list[bytes] = []
    async with _server(OK, requests) as address:
        await probe(Health(uri="ready?deep=1"), address)

    assert requests[0].startswith(b"GET /ready?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_uri_cannot_smuggle_a_header() -> None:
    """A URI with a line break is not sent."""
    requests: list[bytes] = []
    async with _server(OK, requests) as address:
        assert await probe(Health(uri="/a\r\nX: y"), address) is not None

    assert requests == []


async def test_nobody_listening_is_connection_refused() -> None:
    """The commonest reason while an instance starts."""
    [port] = free_ports(1, taken=())

    assert await probe(Health(), Address("127.0.0.1", port, port)) == "connection refused"


async def test_silence_ends_with_the_timeout() -> None:
    """The check takes as long as the version allows, and says how long that was."""
    async with _server(None) as address:
        assert await probe(Health(timeout=timedelta(seconds=0.1)), address) == "no answer within 0.1 s"


async def test_grpc_is_healthy_when_a_connection_is_accepted() -> None:
    """Of a gRPC function only the port is checked."""
    health = Health(protocol=HealthProtocol.GRPC)
    [port] = free_ports(1, taken=())
    async with _server(None) as address:
        assert await probe(health, address) is None

    assert await probe(health, Address("127.0.0.1", port, port)) == "connection refused"

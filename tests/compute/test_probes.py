"""Health checks, against real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

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


@asynccontextmanager
async def _grpc_server(*services: grpc.GenericRpcHandler) -> AsyncIterator[tuple[Address, health.aio.HealthServicer]]:
    """With the health service of grpcio, unless ``services`` are given."""
    server, servicer = grpc.aio.server(), health.aio.HealthServicer()
    if services:
        server.add_generic_rpc_handlers(services)
    else:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Address("127.0.0.1", port, port), servicer
    await server.stop(None)


class AlwaysAborts(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Answers every call with UNAVAILABLE."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def abort(request: bytes, context: grpc.aio.ServicerContext) -> None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "still loading")

        return grpc.unary_unary_rpc_method_handler(abort)


GRPC = Health(protocol=HealthProtocol.GRPC, timeout=timedelta(seconds=2))


async def test_grpc_health_is_that_of_the_whole_server() -> None:
    """SERVING is healthy, anything else is not; a server may change its mind."""
    async with _grpc_server() as (address, servicer):
        assert await probe(GRPC, address) is None
        await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await probe(GRPC, address) == "answered NOT_SERVING, expected SERVING"
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        assert await probe(GRPC, address) is None


async def test_grpc_health_says_what_is_wrong() -> None:
    """No health service, a failing one, no server, no HTTP/2, no answer."""
    nothing = grpc.method_handlers_generic_handler("other.Service", {})
    async with _grpc_server(nothing) as (address, _):
        assert await probe(GRPC, address) == "serves no grpc.health.v1.Health; add the health service to it"
    async with _grpc_server(AlwaysAborts()) as (address, _):
        assert await probe(GRPC, address) == "the gRPC health check failed with status 14 still loading"
    [port] = free_ports(1, taken=())
    assert await probe(GRPC, Address("127.0.0.1", port, port)) == "connection refused"
    async with _server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert await probe(GRPC, address) == "closed the connection without an answer"
    short = Health(protocol=HealthProtocol.GRPC, timeout=timedelta(seconds=0.1))
    async with _server(None) as address:
        assert await probe(short, address) == "no answer within 0.1 s"

"""Asking an instance whether it is ready (invocation-plane page, section 10.4)."""

from __future__ import annotations

import asyncio
import contextlib
import errno

from gpufn.compute import grpc_health
from gpufn.model.function import Health, HealthProtocol
from gpufn.model.instance import Address

HEAD_MAX = 64 * 1024
"""Bytes of answer head that are read; of the body, nothing is."""


async def probe(health: Health, address: Address) -> str | None:
    """None when the instance is healthy, else one plain reason: ``answered 503, expected 200``.

    HTTP: one GET; only the exact expected status is success. The reference asks again for up to 30 s within one check
    when it meets a 404; here a 404 simply is not ready yet, and the caller asks again. gRPC: the health protocol's
    check of the whole server, without TLS; path and status are not looked at.
    """
    limit = health.timeout.total_seconds()
    try:
        async with asyncio.timeout(limit):
            return await _ask(health, address)
    except TimeoutError:
        return f"no answer within {limit:g} s"
    except (OSError, asyncio.IncompleteReadError) as error:
        return _reason(error)
    except (ValueError, asyncio.LimitOverrunError):
        return "answered something that is not HTTP/1.1"


async def _ask(health: Health, address: Address) -> str | None:
    if health.protocol is HealthProtocol.GRPC:
        return await grpc_health.check(address.host, address.health_port)
    reader, writer = await asyncio.open_connection(address.host, address.health_port, limit=HEAD_MAX)
    try:
        writer.write(_request(health.uri, address))
        status = await _status(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return None if status == health.expected_status else f"answered {status}, expected {health.expected_status}"


def _request(uri: str, address: Address) -> bytes:
    path = uri if uri.startswith("/") else "/" + uri
    if any(c <= " " or c == "\x7f" for c in path):
        raise ValueError(path)
    host = f"{address.host}:{address.health_port}"
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()


async def _status(reader: asyncio.StreamReader) -> int:
    """The final status; interim (1xx) answers are passed over."""
    while True:
        head = await reader.readuntil(b"\r\n")
        version, _, rest = head.partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit():
            raise ValueError(head)
        status = int(rest[:3])
        if status >= 200:
            return status
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass


def _reason(error: OSError | asyncio.IncompleteReadError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError)):
        return "closed the connection without an answer"
    name = errno.errorcode.get(error.errno or 0, "error")
    return f"cannot be reached: {error.strerror or name}"

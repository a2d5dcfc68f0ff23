"""A client for control's internal socket: one stream that is followed, and small posts. Not on any request's path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from gpufn.gateway.framing import BodyReader, reader
from gpufn.gateway.http1 import BadMessage, ResponseHead, parse_response

HEAD_MAX = 64 * 1024
LINE_MAX = 16 * 1024 * 1024
"""Longest line of the feed: one version with thousands of instances."""
READ = 256 * 1024


class Unreachable(Exception):
    """Control cannot be asked now, or did not answer as it should. The message says why."""


class Control:
    """Requests over the Unix socket at ``path``; each is given ``timeout`` seconds to connect and to be answered."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    async def post(self, target: str, body: bytes) -> None:
        """Send JSON. Raises Unreachable unless the answer is a 2xx."""
        head = (
            f"POST {target} HTTP/1.1\r\nHost: control\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        source, sink = await self._open()
        try:
            async with asyncio.timeout(self._timeout):
                sink.write(head.encode() + body)
                await sink.drain()
                await _answer(source)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"POST {target}: {error!r}") from error
        finally:
            sink.close()

    async def lines(self, target: str) -> AsyncIterator[bytes]:
        """The lines of a response that does not end. Raises Unreachable when it cannot begin or ends after all."""
        source, sink = await self._open()
        try:
            async with asyncio.timeout(self._timeout):
                sink.write(f"GET {target} HTTP/1.1\r\nHost: control\r\nAccept: application/x-ndjson\r\n\r\n".encode())
                head = await _answer(source)
            body = reader(head.length, head.chunked)
            async for line in _lines(source, body):
                yield line
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"GET {target}: {error!r}") from error
        finally:
            sink.close()
        raise Unreachable(f"GET {target}: the stream ended")

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.open_unix_connection(str(self._path), limit=HEAD_MAX)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{self._path}: {error!r}") from error


async def _answer(source: asyncio.StreamReader) -> ResponseHead:
    try:
        head = parse_response(await source.readuntil(b"\r\n\r\n"), 128)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, BadMessage) as error:
        raise Unreachable(f"no proper answer: {error!r}") from error
    if not 200 <= head.status < 300:
        raise Unreachable(f"answered {head.status}")
    return head


async def _lines(source: asyncio.StreamReader, body: BodyReader) -> AsyncIterator[bytes]:
    rest = b""
    while not body.done and (data := await source.read(READ)):
        try:
            *whole, rest = (rest + body.feed(data)).split(b"\n")
        except BadMessage as error:
            raise Unreachable(error.detail) from error
        if len(rest) > LINE_MAX:
            raise Unreachable(f"a line is longer than {LINE_MAX} bytes")
        for line in whole:
            if line.strip():
                yield line

"""Fakes at the gateway's edges: small servers on loopback, and a control that speaks the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from gpufn.wire.feed import Envelope, LoadReport, Message, Synced


@dataclass
class Seen:
    """A request as a server saw it."""

    method: str
    target: str
    lines: list[tuple[str, str]]
    body: bytes = b""
    cut: bool = False

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


async def read_head(reader: asyncio.StreamReader) -> Seen | None:
    """The next request head, or None at the end of the connection."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *rest = raw.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    pairs = [line.partition(":") for line in rest]
    return Seen(method, target, [(name, value.strip()) for name, _, value in pairs])


async def read_body(reader: asyncio.StreamReader, seen: Seen) -> bytes:
    """The whole body of the request whose head is ``seen``."""
    length = seen.one("content-length")
    if length is not None:
        return await reader.readexactly(int(length))
    body = b""
    if seen.one("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
    return body


def answer(status: int = 200, body: bytes = b"", *lines: str) -> bytes:
    """A response with a length."""
    extra = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status} Whatever\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


Handler = Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's body and content type."""
    seen.body = await read_body(reader, seen)
    writer.write(answer(200, seen.body, f"Content-Type: {seen.one('content-type') or 'none'}", "X-Instance: yes"))


class Server:
    """Serves with ``handler`` on loopback, or on a Unix socket. ``active`` and ``peak`` count requests being served."""

    def __init__(self, handler: Handler = echo) -> None:
        self.handler = handler
        self.seen: list[Seen] = []
        self.active = self.peak = self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, path: Path | None = None) -> None:
        if path is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]
        else:
            self._server = await asyncio.start_unix_server(self._serve, str(path))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        if self._server is not None:
            await self._server.wait_closed()
        self._server = None
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while (seen := await read_head(reader)) is not None:
                self.seen.append(seen)
                self.active += 1
                self.peak = max(self.peak, self.active)
                try:
                    await self.handler(seen, reader, writer)
                    await writer.drain()
                finally:
                    self.active -= 1
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class FakeControl:
    """Sends the feed, takes load reports, answers what is relayed."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "control.sock"
        self.feed = directory / "feed.sock"
        self.relayed = Server(self._answer)
        self.retained: dict[str, Message] = {}
        self.reports: list[LoadReport] = []
        self.seq = 0
        self._internal = Server(self._inside)
        self._followers: set[asyncio.StreamWriter] = set()
        self.body = b'{"from":"control"}'

    async def start(self) -> None:
        for path in (self.socket, self.feed):
            path.unlink(missing_ok=True)
        await self.relayed.start(self.socket)
        await self._internal.start(self.feed)

    async def stop(self) -> None:
        await self.relayed.stop()
        await self._internal.stop()

    def publish(self, key: str, message: Message, *, keep: bool = True) -> None:
        """Retain ``message`` under ``key`` and send it to those who follow."""
        if keep:
            self.retained[key] = message
        else:
            self.retained.pop(key, None)
        for writer in self._followers:
            self._send(writer, message)

    def _send(self, writer: asyncio.StreamWriter, message: Message) -> None:
        self.seq += 1
        line = Envelope(seq=self.seq, message=message).model_dump_json(by_alias=True).encode() + b"\n"
        writer.write(b"%x\r\n%b\r\n" % (len(line), line))

    async def _answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.body = await read_body(reader, seen)
        status = 404 if seen.target.startswith("/nope") else 200
        writer.write(answer(status, self.body, "Content-Type: application/json"))

    async def _inside(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if seen.target == "/load":
            self.reports.append(LoadReport.model_validate_json(await read_body(reader, seen)))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for message in list(self.retained.values()):
            self._send(writer, message)
        self._send(writer, Synced())
        self._followers.add(writer)
        try:
            await reader.read()
        finally:
            self._followers.discard(writer)

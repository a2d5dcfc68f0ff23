"""Connections to one place that answers requests: an instance, or control. Kept open and used again.

One ``Connection`` serves one request at a time, for an ``Owner``. Bodies are decoded here, so that nothing but their
own bytes goes on; what an instance sends outside a response is a reason to drop the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from gpufn.gateway.channel import Channel
from gpufn.gateway.framing import BodyReader, UntilClose, reader
from gpufn.gateway.http1 import BadMessage, ResponseHead, parse_response
from gpufn.runtime.clock import loop_now
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import GatewaySettings

WITHOUT_BODY = frozenset({204, 304})
AGAIN = 0.1
"""Seconds between two attempts to reach a place that nobody listens at."""


class Owner(Protocol):
    """Whoever has a request on a connection."""

    complete: bool
    """Whether the whole request has been sent."""

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None: ...
    def more(self, data: bytes, last: bool) -> None: ...
    def broken(self, reason: str, untouched: bool) -> None:
        """The connection ended first; ``untouched``: before a single byte came back."""
        ...

    def hold(self, on: bool) -> None:
        """Send nothing more for now: the other side reads slowly."""
        ...


class Taker(Protocol):
    """Whoever waits for a connection. The call comes at once when an idle one is there."""

    def connected(self, connection: Connection, reused: bool) -> None: ...
    def unreachable(self, reason: str) -> None: ...


Switch: TypeAlias = Callable[[ResponseHead, asyncio.Transport, bytes], None]
"""Takes over a connection whose protocol was switched, with what came after the head."""


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._owner: Owner | None = None
        self._switch: Switch | None = None
        self._without_body = False
        self._buffer = b""
        self._keep_alive = False
        self._reader: BodyReader | None = None
        self._untouched = True

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, owner: Owner, data: bytes, *, without_body: bool, switch: Switch | None = None) -> None:
        """Begin a request of ``owner``. ``without_body``: the response has none, whatever its head says (HEAD).

        ``switch``: what takes the connection over when the answer is 101.
        """
        self._owner = owner
        self._switch = switch
        self._without_body = without_body
        self._untouched = True
        if self._transport is not None:
            self._transport.write(data)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def drop(self) -> None:
        """The owner has lost interest: end the connection now."""
        self._owner = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def pause(self, on: bool) -> None:
        """Read nothing more for now, or go on."""
        if self._transport is None or self._transport.is_closing():
            return
        if on:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        if owner is None:  # nobody asked
            self.drop()
            return
        self._untouched = False
        try:
            if self._reader is None:
                self._head(owner, self._buffer + data if self._buffer else data)
            else:
                self._body(owner, self._reader, data)
        except BadMessage as error:
            self.drop()
            owner.broken(error.detail, False)

    def connection_lost(self, error: Exception | None) -> None:
        owner, self._owner = self._owner, None
        self._pool.forget(self)
        if owner is None:
            return
        if error is None and isinstance(self._reader, UntilClose):
            owner.more(b"", True)
        else:
            owner.broken("the connection was closed before the response was complete", self._untouched)

    def pause_writing(self) -> None:
        if self._owner is not None:
            self._owner.hold(True)

    def resume_writing(self) -> None:
        if self._owner is not None:
            self._owner.hold(False)

    # the response

    def _head(self, owner: Owner, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if (end if end > 3 else len(data)) > self._pool.head_max:
            raise BadMessage("the response head is too large", 502)
        if end == 3:
            self._buffer = data
            return
        self._buffer = b""
        head = parse_response(data[:end], self._pool.headers_max)
        rest = data[end:]
        if head.status < 200:
            self._interim(owner, head, rest)
            return
        self._keep_alive = head.keep_alive
        if self._without_body or head.status in WITHOUT_BODY:
            if head.status in WITHOUT_BODY and (head.chunked or head.length):
                self._keep_alive = False  # it announces a body that must not come, and perhaps sends one all the same
            self._last(owner, rest)
            owner.answered(head, b"", True)
        elif head.length == len(rest) and not head.chunked:
            self._last(owner, b"")
            owner.answered(head, rest, True)
        else:
            self._reader = body = reader(head.length, head.chunked)
            piece = body.feed(rest) if rest else b""
            if body.done:
                self._last(owner, body.rest)
            owner.answered(head, piece, body.done)

    def _interim(self, owner: Owner, head: ResponseHead, rest: bytes) -> None:
        """100 and its like are not passed on; 101 is an error unless it was asked for."""
        if head.status == 101:
            if self._switch is None or self._transport is None:
                raise BadMessage("the protocol was switched without being asked", 502)
            self._owner = None
            self._switch(head, self._transport, rest)
        elif rest:
            self._head(owner, rest)

    def _body(self, owner: Owner, body: BodyReader, data: bytes) -> None:
        piece = body.feed(data)
        if body.done:
            self._last(owner, body.rest)
            owner.more(piece, True)
        elif piece:
            owner.more(piece, False)

    def _last(self, owner: Owner, rest: bytes) -> None:
        """The response is complete: the connection can be used again, before the owner hears of it."""
        self._owner = None
        self._reader = None
        if rest or not self._keep_alive or not owner.complete:
            self.close()
        else:
            self._pool.put(self)


class Pool:
    """The connections to one place: ``host`` and ``port``, or a Unix socket at ``path``."""

    def __init__(
        self,
        settings: GatewaySettings,
        tasks: Supervisor,
        *,
        host: str = "",
        port: int = 0,
        path: Path | None = None,
        patience: float = 0.0,
    ) -> None:
        """``patience``: for how many seconds a place that nobody listens at is tried again."""
        self.head_max = settings.head_max_bytes
        self.headers_max = settings.headers_max
        self._idle_max = settings.upstream_idle
        self._settings = settings
        self._tasks = tasks
        self._host, self._port, self._path = host, port, path
        self._patience = patience
        self._idle: list[Connection] = []
        self._closed = False
        self._http2: Channel | None = None

    @property
    def http2(self) -> Channel:
        """The connections for calls that need HTTP/2."""
        if self._http2 is None:
            self._http2 = Channel(self._settings, self._tasks, host=self._host, port=self._port)
        return self._http2

    def acquire(self, taker: Taker, *, fresh: bool) -> None:
        """Give ``taker`` a connection: an idle one unless it must be ``fresh``."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            if not connection.is_closing:
                taker.connected(connection, True)
                return
        self._tasks.start(self._connect(taker), name=f"connect {self._path or self._host}:{self._port}")

    def put(self, connection: Connection) -> None:
        """``connection`` is free again."""
        if self._closed or len(self._idle) >= self._idle_max:
            connection.close()
        else:
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """``connection`` has ended."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Keep nothing open any more; requests under way end undisturbed."""
        self._closed = True
        if self._http2 is not None:
            self._http2.close()
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connect(self, taker: Taker) -> None:
        until = loop_now() + self._patience
        while True:
            try:
                connection = await self._connection()
                break
            except (ConnectionRefusedError, FileNotFoundError) as error:
                if loop_now() >= until:
                    taker.unreachable(str(error))
                    return
                await asyncio.sleep(AGAIN)
            except (OSError, TimeoutError) as error:
                taker.unreachable(str(error) or "no connection within the time allowed")
                return
        taker.connected(connection, False)

    async def _connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._settings.connect_timeout):
            if self._path is not None:
                _, connection = await loop.create_unix_connection(lambda: Connection(self), str(self._path))
            else:
                _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port)
        return connection

"""HTTP/2 connections to one instance, shared by its calls.

One connection carries all of them, unless the instance takes fewer streams at once; then there are more. A connection
is used once the instance has shown that it speaks HTTP/2.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gpufn.runtime.http2.connection import Connection, Limits
from gpufn.runtime.http2.fields import Fields
from gpufn.runtime.http2.frames import Code
from gpufn.runtime.http2.stream import Stream
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import GatewaySettings

STREAMS_MAX = 1000
"""Streams we open on one connection at most."""


class Taker(Protocol):
    """Whoever wants to open a stream. It is called at once when there is a connection with room."""

    def connected(self, connection: Connection) -> None: ...
    def unreachable(self, reason: str) -> None: ...


class Channel:
    """The connections to ``host`` and ``port``."""

    def __init__(self, settings: GatewaySettings, tasks: Supervisor, *, host: str, port: int) -> None:
        self._limits = Limits(block_max=settings.head_max_bytes)
        self._timeout = settings.connect_timeout
        self._tasks = tasks
        self._host, self._port = host, port
        self._connections: list[Connection] = []
        self._waiting: list[Taker] = []
        self._connecting = False
        self._introduced: asyncio.Event | None = None
        self._closed = False

    def acquire(self, taker: Taker) -> None:
        """Give ``taker`` a connection with room for one more stream."""
        for connection in self._connections:
            if not connection.closing and len(connection.streams) < min(connection.peer_streams_max, STREAMS_MAX):
                taker.connected(connection)
                return
        self._waiting.append(taker)
        if not self._connecting:
            self._connecting = True
            self._tasks.start(self._connect(), name=f"connect h2 {self._host}:{self._port}")

    def forget(self, taker: Taker) -> None:
        """``taker`` does not want one any more."""
        if taker in self._waiting:
            self._waiting.remove(taker)

    def close(self) -> None:
        """Open nothing new; calls under way end undisturbed."""
        self._closed = True
        for connection in list(self._connections):
            connection.shut()

    async def _connect(self) -> None:
        reason = ""
        try:
            async with asyncio.timeout(self._timeout):
                await self._introduce()
        except OSError as error:  # TimeoutError is one
            reason = str(error) or "no HTTP/2 connection within the time allowed"
        self._connecting = False
        waiting, self._waiting = self._waiting, []
        for taker in waiting:
            if reason:
                taker.unreachable(reason)
            else:
                self.acquire(taker)

    async def _introduce(self) -> None:
        """Connect and wait until the instance has said its settings. Raises OSError."""
        introduced = self._introduced = asyncio.Event()
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self, self._limits, server=False), self._host, self._port
        )
        try:
            await introduced.wait()
        except asyncio.CancelledError:
            connection.abort()
            raise
        if not connection.introduced or connection.closing:
            connection.abort()
            raise ConnectionError("the instance does not speak HTTP/2 on its port, which gRPC needs")
        self._connections.append(connection)

    # what connections call

    def accept(self, stream: Stream, fields: Fields, end: bool) -> None:
        """Instances open no streams."""
        stream.reset(Code.REFUSED_STREAM)

    def changed(self, connection: Connection) -> None:
        if connection not in self._connections:
            if self._introduced is not None:
                self._introduced.set()
        elif (self._closed or connection.closing) and not connection.streams:
            connection.close(Code.NO_ERROR, "")

    def lost(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
        elif self._introduced is not None:
            self._introduced.set()

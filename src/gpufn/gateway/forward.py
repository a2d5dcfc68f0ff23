"""One request on its way to one upstream, and its response on the way back.

The body is kept here until there is a connection, then passed on as it comes. A connection that was idle may have
been closed by the other side in that very moment: a request that is complete, small and was not answered by a single
byte is then sent once more, on a new connection.
"""

from __future__ import annotations

from typing import Protocol

from gpufn.gateway.framing import chunk
from gpufn.gateway.http1 import ResponseHead
from gpufn.gateway.upstream import Connection, Taker

REPLAY_MAX = 256 * 1024
"""Largest request, in bytes, that is kept to be sent again."""
BUFFER_MAX = 256 * 1024
"""Bytes of a body that are taken while there is no connection yet."""


class Source(Protocol):
    """Where connections come from: a pool, or something before it."""

    def acquire(self, taker: Taker, *, fresh: bool) -> None: ...
    def put(self, connection: Connection) -> None: ...


class Sink(Protocol):
    """Whoever the response is for."""

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None: ...
    def more(self, data: bytes, last: bool) -> None: ...
    def failed(self, reason: str) -> None:
        """There will be no response, or no more of it."""
        ...

    def hold(self, on: bool) -> None:
        """Give no more of the request's body for now, or go on."""
        ...


class _Nobody:
    """A sink that wants nothing any more."""

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None: ...
    def more(self, data: bytes, last: bool) -> None: ...
    def failed(self, reason: str) -> None: ...
    def hold(self, on: bool) -> None: ...


NOBODY = _Nobody()


class Forward:
    """A request being passed on. Give it the body first or later, ``start`` it once."""

    complete = False
    sent = False
    """Whether any of it may have reached the other side."""
    _pool: Source | None = None
    _connection: Connection | None = None
    _buffered = 0
    _held = False
    _untouched = False
    """Whether it failed without a single byte of a response."""
    _replay = b""
    _retried = False
    _done = False

    def __init__(self, sink: Sink, chunked: bool, without_body: bool = False) -> None:
        self.sink: Sink = sink
        self._chunked = chunked
        self._without_body = without_body
        self._pending: list[bytes] = []
        self._kept: list[bytes] | None = []
        """The body, as it is sent, while it is small enough to be kept."""

    def body(self, data: bytes, last: bool) -> None:
        """More of the request's body; ``last`` ends the request."""
        self.complete = last
        if self._done:
            return
        if self._chunked:
            data = chunk(data, last)
        if not data:
            return
        self._buffered += len(data)
        if self._kept is not None:
            self._kept.append(data)
            if self._buffered > REPLAY_MAX:
                self._kept = None
        if self._connection is not None:
            self._connection.write(data)
            return
        self._pending.append(data)
        if self._buffered > BUFFER_MAX and not last and not self._held:
            self._held = True
            self.hold(True)

    def start(self, pool: Source, head: bytes) -> None:
        """Send ``head`` and what there is of the body as soon as there is a connection."""
        self._pool = pool
        self._pending.insert(0, head)
        # a request that cannot be sent twice does not go on a connection that may have died
        pool.acquire(self, fresh=not self.complete or self._buffered > REPLAY_MAX)

    def again(self) -> Forward | None:
        """A request that failed, to be started once more; None when it may have been answered or was not kept."""
        if not self._untouched or not self.complete or self._kept is None:
            return None
        fresh = Forward(self.sink, self._chunked, self._without_body)
        fresh.complete = True
        fresh._kept, fresh._pending, fresh._buffered = self._kept, self._kept.copy(), self._buffered
        self.sink = NOBODY
        return fresh

    def cancel(self) -> None:
        """Nobody wants the response any more. Nothing is called back after this."""
        self._done = True
        self._pending.clear()
        self._replay = b""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    def part(self) -> None:
        """The sink needs nothing more. Without this the two would hold each other until the garbage collector comes."""
        self.sink = NOBODY

    def pause(self, on: bool) -> None:
        """The reader of the response is slow, or ready again."""
        if self._connection is not None:
            self._connection.pause(on)

    # what the pool calls

    def connected(self, connection: Connection, reused: bool) -> None:
        if self._done:
            if self._pool is not None:
                self._pool.put(connection)
            return
        data = b"".join(self._pending) if len(self._pending) > 1 else self._pending[0]
        self._pending.clear()
        self._replay = data if reused and self.complete else b""
        self._connection = connection
        self.sent = True
        if self._held:  # before anything is sent: that may be more than the other side takes, and hold again
            self._held = False
            self.hold(False)
        connection.send(self, data, without_body=self._without_body)

    def unreachable(self, reason: str) -> None:
        if not self._done:
            self._done = self._untouched = True
            self._pending.clear()
            self.sink.failed(reason)

    # what the connection calls

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None:
        self._replay = b""
        if last:
            self._done = True
            self._connection = None
        self.sink.answered(head, body, last)

    def more(self, data: bytes, last: bool) -> None:
        if last:
            self._done = True
            self._connection = None
        self.sink.more(data, last)

    def broken(self, reason: str, untouched: bool) -> None:
        self._connection = None
        if untouched and self._replay and not self._retried and self._pool is not None:
            self._retried = True
            self._pending.append(self._replay)
            self._pool.acquire(self, fresh=True)
            return
        self._done = True
        self._untouched = untouched
        self.sink.failed(reason)

    def hold(self, on: bool) -> None:
        if not self.complete:
            self.sink.hold(on)

"""One exchange on an HTTP/2 connection, and who is told what comes of it."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from gpufn.runtime.http2 import frames
from gpufn.runtime.http2.fields import Fields
from gpufn.runtime.http2.frames import DATA, END_STREAM

STREAM_WINDOW = 256 * 1024
"""Bytes that may lie here of one stream."""


class Sink(Protocol):
    """Whoever a stream's messages are for."""

    def headers(self, fields: Fields, end: bool) -> None:
        """Headers of the response, or trailers."""
        ...

    def data(self, data: bytes, end: bool) -> None:
        """Give credit with ``Stream.consumed`` once it has gone on."""
        ...

    def sent(self, size: int) -> None:
        """So many bytes of data have gone out."""
        ...

    def reset(self, code: int, lost: bool) -> None:
        """The stream is over; ``lost``: because the connection is."""
        ...


class Carrier(Protocol):
    """The connection, as its streams see it."""

    def write(self, data: bytes) -> None: ...
    def push(self, stream: Stream) -> None: ...
    def sent_end(self, stream: Stream) -> None: ...
    def credit(self, stream: Stream, size: int) -> None: ...
    def reset(self, stream: Stream, code: int) -> None: ...


class Nobody:
    """The sink of a stream that nobody listens to yet, or any more."""

    def headers(self, fields: Fields, end: bool) -> None: ...
    def data(self, data: bytes, end: bool) -> None: ...
    def sent(self, size: int) -> None: ...
    def reset(self, code: int, lost: bool) -> None: ...


NOBODY = Nobody()


class Stream:
    """One exchange. ``sink`` is set by whoever opens or accepts it."""

    __slots__ = (
        "_connection", "ending", "got_end", "held", "id", "pending", "receive", "sent_end", "sink", "unacked", "window",
    )  # fmt: skip

    def __init__(self, connection: Carrier, number: int, window: int) -> None:
        self.id = number
        self.sink: Sink = NOBODY
        self.window = window
        """Bytes we may send."""
        self.receive = STREAM_WINDOW
        """Bytes the other side may send."""
        self.held = 0
        """Bytes received for which no credit was given."""
        self.unacked = 0
        self.pending: deque[bytes] = deque()
        self.ending: bytes | None = None
        """The frame that ends the stream, once everything pending is out."""
        self.got_end = False
        self.sent_end = False
        self._connection = connection

    def send_headers(self, block: bytes, end: bool) -> None:
        """Headers, or trailers: those wait for the data before them."""
        if self.sent_end:
            return
        data = frames.header_frames(self.id, block, end=end)
        if end and (self.pending or self.ending is not None):
            self.ending = data
            return
        self._connection.write(data)
        if end:
            self._connection.sent_end(self)

    def send(self, data: bytes, end: bool) -> None:
        """Data; whatever does not fit now goes out later, in order."""
        if self.sent_end:
            return
        if data:
            self.pending.append(data)
        if end:
            self.ending = b"" if data or self.pending else frames.frame(DATA, END_STREAM, self.id)
        self._connection.push(self)

    def consumed(self, size: int) -> None:
        """``size`` bytes that came have gone on: the other side may send as much again."""
        size = min(size, self.held)
        if size:
            self.held -= size
            self._connection.credit(self, size)

    def reset(self, code: int) -> None:
        """End it now, in both directions. The sink hears no more."""
        self._connection.reset(self, code)

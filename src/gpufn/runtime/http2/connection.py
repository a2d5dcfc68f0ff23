"""One HTTP/2 connection, on either side: its streams, and who may send how much.

Every stream has a ``Sink``, which is told what comes. What is sent beyond the other side's window, or faster than the
socket takes it, waits in the stream; the sink learns through ``sent`` when it has gone out and then gives credit for as
much to wherever it came from, so what lies here is limited by the windows we advertise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from gpufn.runtime.http2 import frames
from gpufn.runtime.http2.fields import Fields
from gpufn.runtime.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    END_STREAM,
    FRAME_MAX,
    PREFACE,
    WINDOW_MAX,
    Code,
    ProtocolError,
)
from gpufn.runtime.http2.reading import Reader
from gpufn.runtime.http2.stream import STREAM_WINDOW, Sink, Stream

CONNECTION_WINDOW = 16 * 1024 * 1024
"""Bytes that may lie here of one connection."""
QUEUED_HIGH = 1024 * 1024
"""Bytes written in one turn of the loop after which data waits."""
UNREAD_MAX = 16 * 1024 * 1024
"""Bytes of answers that the other side may leave unread before the connection is ended."""
RESETS_MAX, RESETS_PERIOD = 1000, 10.0
"""Streams a client may give up in so many seconds: more is the attack called rapid reset."""


@dataclass(frozen=True)
class Limits:
    """What we take from the other side."""

    block_max: int = 64 * 1024
    """Largest header block, compressed or not, in bytes."""
    streams_max: int = 1000
    """Streams open at once."""


class Owner(Protocol):
    """Whoever has the connection."""

    def accept(self, stream: Stream, fields: Fields, end: bool) -> None:
        """The other side opens a stream (only where we are the server): set its sink."""
        ...

    def changed(self, connection: Connection) -> None:
        """A stream has ended, or the other side will take no more of them."""
        ...

    def lost(self, connection: Connection) -> None:
        """The connection has ended, after every sink was told."""
        ...


class Connection(asyncio.Protocol):
    """One connection. ``server``: the other side opens the streams."""

    def __init__(self, owner: Owner, limits: Limits, *, server: bool) -> None:
        self.streams: dict[int, Stream] = {}
        self.peer_streams_max = 2**31
        """How many streams the other side takes at once."""
        self.closing = False
        """Whether no new stream can be opened."""
        self._owner = owner
        self._limits = limits
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(self, preface=server, block_max=limits.block_max)
        self._last = 0 if server else -1
        self._window = DEFAULT_WINDOW
        self._receive = CONNECTION_WINDOW
        self._unacked = 0
        self._peer_window = DEFAULT_WINDOW
        self._waiting: dict[Stream, None] = {}
        self._out: list[bytes] = []
        self._queued = 0
        self._paused = False
        self._resets = 0
        self._resets_since = 0.0

    @property
    def introduced(self) -> bool:
        """Whether the other side has shown that it speaks HTTP/2."""
        return self._reader.settled

    # ------------------------------------------------------------------ what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        ours = {
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_HEADER_LIST_SIZE: self._limits.block_max,
        }
        if self._server:
            ours[frames.MAX_CONCURRENT_STREAMS] = self._limits.streams_max
        else:
            ours[frames.ENABLE_PUSH] = 0
            self.write(PREFACE)
        self.write(frames.settings(ours))
        self.write(frames.window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._reader.feed(data)
        except ProtocolError as error:
            self.close(error.code, error.detail)

    def connection_lost(self, error: Exception | None) -> None:
        self.closing = True
        self._transport = None
        streams, self.streams = self.streams, {}
        self._waiting.clear()
        for stream in streams.values():
            stream.got_end = stream.sent_end = True
            stream.sink.reset(Code.CONNECT_ERROR, True)
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._push_all()

    # ------------------------------------------------------------------ what the owner calls

    def open(self, sink: Sink, block: bytes, end: bool) -> Stream:
        """A new stream of ours, with its request headers."""
        self._last += 2
        stream = Stream(self, self._last, self._peer_window)
        stream.sink = sink
        self.streams[stream.id] = stream
        stream.send_headers(block, end)
        return stream

    def shut(self) -> None:
        """Take no new streams, let those there are end."""
        if not self.closing:
            self.closing = True
            if self._server:
                self.write(frames.goaway(self._last, Code.NO_ERROR, "going away"))
        if not self.streams:
            self.close(Code.NO_ERROR, "")

    def close(self, code: Code, detail: str) -> None:
        """End everything; the other side is told the reason unless it knows."""
        if self._transport is None or self._transport.is_closing():
            return
        if code is not Code.NO_ERROR or not self.closing:
            self.write(frames.goaway(max(self._last, 0), code, detail))
        self.closing = True
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ what streams call

    def write(self, data: bytes) -> None:
        """Have ``data`` go out with everything else of this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._queued += len(data)

    def push(self, stream: Stream) -> None:
        """Send what is pending of ``stream``, as far as windows and socket allow."""
        while stream.pending and not self._paused and self._queued < QUEUED_HIGH:
            room = min(self._window, stream.window)
            if room <= 0:
                break
            self._data(stream, room)
        if stream.pending:
            self._waiting[stream] = None
            return
        self._waiting.pop(stream, None)
        if stream.ending is not None:
            if stream.ending:
                self.write(stream.ending)
            stream.ending = None
            self.sent_end(stream)

    def sent_end(self, stream: Stream) -> None:
        """Our side of ``stream`` is complete."""
        stream.sent_end = True
        if stream.got_end:
            self._forget(stream)
        elif self._server:  # answered before the request was complete: the client need not send the rest
            self.write(frames.reset(stream.id, Code.NO_ERROR))
            self._drop(stream)

    def credit(self, stream: Stream, size: int) -> None:
        """Give the other side back ``size`` bytes of both windows, in larger steps."""
        self._credit_connection(size)
        if stream.got_end:
            return
        stream.unacked += size
        if stream.unacked >= STREAM_WINDOW // 4:
            self.write(frames.window_update(stream.id, stream.unacked))
            stream.receive += stream.unacked
            stream.unacked = 0

    def reset(self, stream: Stream, code: int) -> None:
        """For ``Stream.reset``."""
        if self.streams.get(stream.id) is stream:
            self.write(frames.reset(stream.id, code))
            self._drop(stream)

    # ------------------------------------------------------------------ what the reader calls

    def on_data(self, number: int, data: bytes, size: int, end: bool) -> None:
        self._receive -= size
        stream = self.streams.get(number)
        if stream is None:
            self._check_known(number)
            self._credit_connection(size)  # of a stream that is over: nobody else will
            return
        if stream.got_end:
            raise ProtocolError(Code.STREAM_CLOSED, "data after the end of a stream")
        stream.receive -= size
        if stream.receive < 0 or self._receive < 0:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "more data than the window allows")
        stream.held += size
        if len(data) < size:
            stream.consumed(size - len(data))
        stream.got_end = end
        if data or end:
            stream.sink.data(data, end)
        if end and stream.sent_end:
            self._forget(stream)

    def on_headers(self, number: int, fields: Fields, end: bool) -> None:
        stream = self.streams.get(number)
        if stream is None:
            if self._server and number & 1 and number > self._last:
                self._accept(number, fields, end)
            else:
                self._check_known(number)
            return
        if stream.got_end:
            raise ProtocolError(Code.STREAM_CLOSED, "headers after the end of a stream")
        if self._server and not end:
            raise ProtocolError(Code.PROTOCOL_ERROR, "trailers that do not end the stream")
        stream.got_end = end
        stream.sink.headers(fields, end)
        if end and stream.sent_end:
            self._forget(stream)

    def _accept(self, number: int, fields: Fields, end: bool) -> None:
        self._last = number
        if self.closing or len(self.streams) >= self._limits.streams_max:
            self.write(frames.reset(number, Code.REFUSED_STREAM))
            return
        stream = Stream(self, number, self._peer_window)
        stream.got_end = end
        self.streams[number] = stream
        self._owner.accept(stream, fields, end)

    def on_reset(self, number: int, code: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self._check_known(number)
            return
        if self._server:
            self._count_reset()
        self._drop(stream)
        stream.sink.reset(code, False)

    def _count_reset(self) -> None:
        now = self._loop.time()
        if now - self._resets_since > RESETS_PERIOD:
            self._resets, self._resets_since = 0, now
        self._resets += 1
        if self._resets > RESETS_MAX:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "too many streams are given up")

    def on_settings(self, values: list[tuple[int, int]]) -> None:
        for key, value in values:
            if key == frames.MAX_CONCURRENT_STREAMS:
                self.peer_streams_max = value
            elif key == frames.INITIAL_WINDOW_SIZE:
                change, self._peer_window = value - self._peer_window, value
                for stream in self.streams.values():
                    stream.window += change
        self.write(frames.frame(frames.SETTINGS, ACK, 0))
        self._push_all()
        self._owner.changed(self)

    def on_ping(self, payload: bytes) -> None:
        self.write(frames.frame(frames.PING, ACK, 0, payload))

    def on_goaway(self, last: int) -> None:
        self.closing = True
        if not self._server:
            for stream in [s for s in self.streams.values() if s.id > last]:
                self._drop(stream)
                stream.sink.reset(Code.REFUSED_STREAM, False)
        self._owner.changed(self)

    def on_window(self, number: int, size: int) -> None:
        stream = self.streams.get(number)
        if number and stream is None:
            self._check_known(number)
            return
        window = (stream.window if stream is not None else self._window) + size
        if not size or window > WINDOW_MAX:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "a window grows by nothing, or beyond measure")
        if stream is None:
            self._window = window
            self._push_all()
            return
        stream.window = window
        if stream.pending:
            self.push(stream)

    def _check_known(self, number: int) -> None:
        """Frames may still come for a stream that is over, but not for one that never was."""
        if not number or number % 2 == 0 or number > self._last:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"there is no stream {number}")

    # ------------------------------------------------------------------ writing

    def _data(self, stream: Stream, room: int) -> None:
        """One DATA frame of at most ``room`` bytes."""
        data = stream.pending[0]
        size = min(room, FRAME_MAX, len(data))
        if size == len(data):
            stream.pending.popleft()
        else:
            stream.pending[0] = data[size:]
            data = data[:size]
        flags = END_STREAM if stream.ending == b"" and not stream.pending else 0
        self._window -= size
        stream.window -= size
        self.write(frames.frame(frames.DATA, flags, stream.id, data))
        stream.sink.sent(size)

    def _push_all(self) -> None:
        """Everyone who waits gets a turn; whoever has more to send waits behind the others."""
        for stream in list(self._waiting):
            if self._paused or self._window <= 0 or self._queued >= QUEUED_HIGH:
                return
            self._waiting.pop(stream, None)
            self.push(stream)

    def _flush(self) -> None:
        if not self._out or self._transport is None:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._queued = 0
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNREAD_MAX:
            self._transport.abort()
        elif self._waiting:
            self._push_all()

    def _credit_connection(self, size: int) -> None:
        self._unacked += size
        if self._unacked >= CONNECTION_WINDOW // 4:
            self.write(frames.window_update(0, self._unacked))
            self._receive += self._unacked
            self._unacked = 0

    # ------------------------------------------------------------------ ends

    def _drop(self, stream: Stream) -> None:
        """End ``stream`` at once: what it holds is given back."""
        stream.got_end = stream.sent_end = True
        stream.pending.clear()
        held, stream.held = stream.held, 0
        self._credit_connection(held)
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self._waiting.pop(stream, None)
        if self.streams.pop(stream.id, None) is None:
            return
        self._owner.changed(self)
        if self.closing and not self.streams and self._server:
            self.close(Code.NO_ERROR, "")

"""A client's connection: requests in, one at a time; responses out.

A request that arrives before the one ahead of it was answered waits, unread. While a call runs, the connection is
still watched, so that a client that leaves is noticed at once. Nothing is buffered without a limit, in either
direction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gpufn.gateway import sse
from gpufn.gateway.call import Call
from gpufn.gateway.deadlines import Deadlines, Timed
from gpufn.gateway.framing import BodyReader, chunk, reader
from gpufn.gateway.http1 import BadMessage, RequestHead, ResponseHead, head_end, parse_request
from gpufn.gateway.problems import REASONS, Reply, not_a_message, problem
from gpufn.settings import GatewaySettings

PIPELINE_MAX = 64 * 1024
"""Bytes that may arrive ahead of their turn."""
DISCARD_MAX = 8 * 1024 * 1024
"""Bytes of an unwanted request body that are read, so that the client gets to see why it is unwanted."""
WITHOUT_BODY = frozenset({204, 304})


class Service(Protocol):
    """What answers requests."""

    settings: GatewaySettings
    deadlines: Deadlines
    edges: set[Connection]
    stopping: bool

    def handle(self, edge: Connection, head: RequestHead, body: bytes, complete: bool) -> Call | Reply: ...


class Connection(asyncio.Protocol):
    """One client connection."""

    slice: dict[Timed, None] | None = None

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._call: Call | None = None
        self._request: RequestHead | None = None
        self._body: BodyReader | None = None
        self._buffer = b""
        self._discarded = 0
        self._reading = True
        self._chunked = False
        self._events: sse.Events | None = None
        self._responding = False
        """Whether the head of a response is out, and not all of its body."""
        self._watch: Callable[[bool], None] | None = None
        self._since = self._loop.time()
        """When the present state began: waiting for a head, or for the rest of one."""
        self.peer = ""
        self.secure = False
        """Whether it came over TLS."""

    @property
    def is_idle(self) -> bool:
        return self._call is None

    # ------------------------------------------------------------------ what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.secure = transport.get_extra_info("sslcontext") is not None
        service = self._service
        service.edges.add(self)
        if len(service.edges) > self._settings.connections_max:
            self._refuse(problem(503, "too many connections; close some, or raise gateway.connections_max"))
        else:
            service.deadlines.schedule(self, self._since + self._settings.head_timeout)

    def data_received(self, data: bytes) -> None:
        if self._watch is not None:
            self._watched(True)  # whoever goes on has had what was sent before
        if self._body is not None:
            self._more_body(self._body, data)
        elif self._call is not None:
            self._early(data)
        else:
            self._head(self._buffer + data if self._buffer else data)

    def eof_received(self) -> bool:
        """A client that has stopped sending is taken to have left, as a closed connection looks the same."""
        self._watched(self._call is None)
        self._gone()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._watched(error is None and self._call is None)
        self._gone()
        self._transport = None
        self._service.edges.discard(self)
        self._service.deadlines.cancel(self)

    def pause_writing(self) -> None:
        if self._call is not None:
            self._call.client_slow(True)

    def resume_writing(self) -> None:
        if self._call is not None:
            self._call.client_slow(False)

    # ------------------------------------------------------------------ the request

    def _head(self, data: bytes) -> None:
        settings = self._settings
        try:
            end = head_end(data, settings.head_max_bytes)
            if end < 0:
                self._partial(data)
                return
            head = parse_request(data[:end], settings.headers_max)
            body = data[end:]
            if complete := len(body) == head.length:  # all of it, and nothing else
                self._buffer = b""
            else:
                body, complete = self._begin_body(head, body)
        except BadMessage as error:
            self._refuse(not_a_message(error))
            return
        self._request = head
        outcome = self._service.handle(self, head, body, complete)
        if isinstance(outcome, Reply):
            self.reply(outcome)
            return
        self._call = outcome
        if head.expects and self._body is not None and not body:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _partial(self, data: bytes) -> None:
        """The head is not all there: it has ``head_timeout`` from its first byte on."""
        if not self._buffer:
            self._since = self._loop.time()
            self._service.deadlines.schedule(self, self._since + self._settings.head_timeout)
        self._buffer = data

    def _begin_body(self, head: RequestHead, rest: bytes) -> tuple[bytes, bool]:
        """What is there of the body, and whether that is all of it."""
        length = head.length
        if 0 <= length <= len(rest):
            self._buffer = rest[length:]
            return rest[:length], True
        body = self._body = reader(length, head.chunked)
        self._buffer = b""
        piece = body.feed(rest) if rest else b""
        if body.done:
            self._body = None
            self._buffer = body.rest
            return piece, True
        return piece, False

    def _more_body(self, body: BodyReader, data: bytes) -> None:
        try:
            piece = body.feed(data)
        except BadMessage as error:
            self._broken(error)
            return
        if body.done:
            self._body = None
            self._buffer = body.rest
        if self._call is not None:
            if piece or body.done:
                self._call.body(piece, body.done)
            return
        self._discarded += len(data)
        if body.done:
            self._next_or_close()
        elif self._discarded > DISCARD_MAX:
            self._close()

    def _broken(self, error: BadMessage) -> None:
        """The body is no body: say so, unless the response has begun already."""
        detail = error.detail if self._call is None else self._call.broken_body + error.detail
        self._gone()
        if self._responding:
            self.cut()
        else:
            self._refuse(problem(error.status, detail))

    def _early(self, data: bytes) -> None:
        """The next request, before this one was answered."""
        self._buffer += data
        if len(self._buffer) > PIPELINE_MAX:
            self.hold(True)

    # ------------------------------------------------------------------ the response, as calls give it

    def head(self, head: ResponseHead, lines: list[bytes], body: bytes, last: bool) -> None:
        request = self._request
        if request is None:
            return
        self._chunked, settings = False, self._settings
        if head.length is not None and head.status != 204:
            lines.append(b"content-length: %d" % head.length)
        elif request.method != b"HEAD" and head.status not in WITHOUT_BODY:
            if request.minor == 1:
                lines.append(b"transfer-encoding: chunked")
                self._chunked = True
                if not last and settings.sse_keep_alive > 0 and sse.wanted(request, lines):
                    self._begin_events(body)
                body = chunk(body, last)
            else:
                request.keep_alive = False
        if not request.keep_alive or self._service.stopping:
            lines.append(b"connection: close")
        self._responding = True
        self._write(b"HTTP/1.1 %d %b\r\n%b\r\n\r\n%b" % (head.status, head.reason, b"\r\n".join(lines), body))
        if last:
            self._answered()

    def _begin_events(self, body: bytes) -> None:
        now = self._loop.time()
        self._events = sse.Events(now)
        self._events.sent(body, now)
        self._service.deadlines.schedule(self, now + self._settings.sse_keep_alive)

    def _keep_alive(self, events: sse.Events, now: float) -> None:
        """A comment, if the stream pauses between two events and the client has read everything so far."""
        every, transport = self._settings.sse_keep_alive, self._transport
        if events.since + every <= now:
            if events.between and transport is not None and not transport.get_write_buffer_size():
                self._write(chunk(sse.COMMENT, False))
            events.since = now
        self._service.deadlines.schedule(self, events.since + every)

    def more(self, data: bytes, last: bool) -> None:
        if self._events is not None:
            self._events.sent(data, self._loop.time())
        self._write(chunk(data, last) if self._chunked else data)
        if last:
            self._answered()

    def reply(self, reply: Reply) -> None:
        """Answer with something made here."""
        request = self._request
        if request is None:
            return
        keep_alive = request.keep_alive and not self._service.stopping
        lines = [*reply.lines, b"content-length: %d" % len(reply.body)]
        if reply.status in WITHOUT_BODY:
            lines.pop()
        if not keep_alive or (self._body is not None and request.expects):
            request.keep_alive = False  # whoever waits for 100 may send the body, or not
            self._body = None if request.expects else self._body
            lines.append(b"connection: close")
        body = b"" if request.method == b"HEAD" else reply.body
        reason = REASONS.get(reply.status, b"")
        self._write(b"HTTP/1.1 %d %b\r\n%b\r\n\r\n%b" % (reply.status, reason, b"\r\n".join(lines), body))
        self._answered()

    def switch(self, lines: list[bytes]) -> tuple[asyncio.Transport, bytes] | None:
        """Say 101 and hand the connection over, with what the client has sent since; None when it is gone."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return None
        self.hold(False)
        self._write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n\r\n" % b"\r\n".join(lines))
        early, self._buffer = self._buffer, b""
        return transport, early

    def cut(self) -> None:
        """End the connection so that nobody takes what was sent for everything."""
        self._watched(False)
        self._call = None
        if self._transport is not None:
            self._transport.abort()

    def become(self, call: Call) -> None:
        """From now on ``call`` is what the request is."""
        self._call = call

    def origin(self) -> bytes:
        """Scheme and host under which the client calls: how a URL begins that leads here."""
        host = self._request.values.get(b"host", b"localhost") if self._request is not None else b"localhost"
        return b"%b://%b" % (b"https" if self.secure else b"http", host)

    def watch(self, told: Callable[[bool], None]) -> None:
        """Tell once whether the client has had the response: it goes on, or its connection broke before that."""
        self._watch = told

    def _watched(self, arrived: bool) -> None:
        told, self._watch = self._watch, None
        if told is not None:
            told(arrived)

    def hold(self, on: bool) -> None:
        """Read nothing for now, or go on."""
        if self._transport is None or self._transport.is_closing() or self._reading is not on:
            return
        self._reading = not on
        if on:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _answered(self) -> None:
        """The response is out. What is left of the request's body is read away, up to a limit."""
        self._call = self._events = None
        self._responding = False
        self._since = self._loop.time()
        if not self._reading:
            self.hold(False)
        if self._body is not None:
            self._discarded = 0
            return
        self._next_or_close()

    def _next_or_close(self) -> None:
        request, self._request = self._request, None
        if self._service.stopping or request is None or not request.keep_alive:
            self._close()
        elif self._buffer:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self._call is None and self._transport is not None and not self._transport.is_closing():
            data, self._buffer = self._buffer, b""
            if data:
                self._head(data)

    # ------------------------------------------------------------------ ends

    def expire(self, now: float) -> None:
        """Look whether the connection has been in its present state for too long."""
        settings = self._settings
        if self._events is not None and self._call is not None:
            self._keep_alive(self._events, now)
            return
        if self._call is not None:
            due = now + settings.idle_timeout
        elif self._buffer or self._request is not None:
            due = self._since + settings.head_timeout
        else:
            due = self._since + settings.idle_timeout
        if due > now:
            self._service.deadlines.schedule(self, due)
        elif self._buffer:
            self._refuse(problem(408, f"no complete request head within {settings.head_timeout:g} s"))
        else:
            self._close()

    def close_if_idle(self) -> None:
        """The gateway stops: nothing new on this connection."""
        if self._call is None:
            self._close()

    def _refuse(self, reply: Reply) -> None:
        """Answer what is not a request, and end the connection."""
        head = b"HTTP/1.1 %d %b\r\n%b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        reason = REASONS.get(reply.status, b"")
        self._write(head % (reply.status, reason, b"\r\n".join(reply.lines), len(reply.body), reply.body))
        self._buffer = b""
        self._close()

    def _gone(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.client_gone()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

"""Two connections joined: what one side sends, the other gets, until both have ended. Nothing is looked into.

A side that has sent everything says so by a half-close, which is passed on; the other may go on sending. A side that
reads slowly is waited for. A tunnel without a byte for too long, or one that is too old, is ended; where it carries
WebSocket, both sides are told why by a close frame (RFC 6455, sections 5.5.1 and 7.4.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gpufn.gateway.deadlines import Deadlines, Timed
from gpufn.runtime.clock import loop_now

GOING_AWAY = 1001
SERVICE_RESTART = 1012
LINGER = 2.0
"""Seconds that what was written last may take to get out."""
REASON_MAX = 123
"""Longest reason of a close frame, in bytes."""


class Tunnel:
    """``ended`` is called once, when both connections are gone. ``idle`` and ``lifetime`` are seconds; 0: no limit."""

    slice: dict[Timed, None] | None = None

    def __init__(
        self, deadlines: Deadlines, *, idle: float, lifetime: float, websocket: bool, ended: Callable[[], None]
    ) -> None:
        now = loop_now()
        self.last = now
        """When the last byte came, from either side."""
        self._deadlines = deadlines
        self._idle = idle
        self._lifetime = lifetime
        self._dies_at = now + lifetime if lifetime else float("inf")
        self._websocket = websocket
        self._ended = ended
        self._closing = False
        self._ends: tuple[End, End] | None = None
        self._open = 0

    def join(self, client: asyncio.Transport, early: bytes, instance: asyncio.Transport, rest: bytes) -> None:
        """Begin. ``early`` and ``rest`` are what the client and the instance have sent already."""
        near, far = End(self, client), End(self, instance)
        near.other, far.other = far, near
        self._ends = near, far
        self._open = 2
        for end, transport in ((near, client), (far, instance)):
            transport.set_protocol(end)
        if rest:
            client.write(rest)
        if early:
            instance.write(early)
        self._watch()

    def close(self, code: int, reason: str) -> None:
        """End it and say why, as far as the protocol allows; make sure shortly after."""
        if self._ends is None or self._closing:
            return
        self._closing = True
        near, far = self._ends
        if self._websocket:
            # in the middle of a frame this is noise, but then the end of the connection is as abrupt anyway
            near.transport.write(close_frame(code, reason, masked=False))
            far.transport.write(close_frame(code, reason, masked=True))
        near.transport.close()
        far.transport.close()
        self._deadlines.schedule(self, loop_now() + LINGER)

    def expire(self, now: float) -> None:
        """Look whether it is still in use."""
        if self._closing:
            for end in self._ends or ():
                end.transport.abort()
        elif self._idle and now >= self.last + self._idle:
            self.close(GOING_AWAY, f"no traffic for {self._idle:g} s (gateway.stream_idle)")
        elif now >= self._dies_at:
            self.close(GOING_AWAY, f"open for {self._lifetime:g} s (gateway.stream_lifetime)")
        else:
            self._watch()

    def _watch(self) -> None:
        idle_at = self.last + self._idle if self._idle else float("inf")
        due = min(idle_at, self._dies_at)
        if due != float("inf"):
            self._deadlines.schedule(self, due)

    # for the ends

    def finished(self) -> None:
        """One side has sent everything. When both have, nothing is left to do."""
        near, far = self._ends or (None, None)
        if near is not None and far is not None and near.finished and far.finished:
            self._linger()
            near.transport.close()
            far.transport.close()

    def lost(self, other: End, error: Exception | None) -> None:
        """One connection is gone; ``other`` is the one that may be left."""
        self._open -= 1
        if self._open:
            if error is not None:
                other.transport.abort()
            else:
                self._linger()
                other.transport.close()
            return
        self._deadlines.cancel(self)
        self._ends = None
        self._ended()

    def _linger(self) -> None:
        self._closing = True
        self._deadlines.schedule(self, loop_now() + LINGER)


class End(asyncio.Protocol):
    """One side of a tunnel."""

    other: End

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.finished = False
        self._tunnel = tunnel

    def data_received(self, data: bytes) -> None:
        self._tunnel.last = loop_now()
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the half-close on, and keep this side open for what still comes. TLS has none: there both end."""
        self.finished = True
        other = self.other
        if not other.transport.can_write_eof():
            other.finished = True
        elif not other.transport.is_closing():
            other.transport.write_eof()
        self._tunnel.finished()
        return self.transport.can_write_eof()

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._tunnel.lost(self.other, error)


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    """A WebSocket close frame. ``masked``: as clients must send it; the mask is zero, so the payload stays as it is."""
    words = reason.encode()[:REASON_MAX].decode(errors="ignore")  # no character is cut in two
    payload = code.to_bytes(2, "big") + words.encode()
    if masked:
        return bytes((0x88, 0x80 | len(payload))) + bytes(4) + payload
    return bytes((0x88, len(payload))) + payload

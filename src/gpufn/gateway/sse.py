"""Server-sent events that pause: a comment now and then, so that nothing on the way takes the stream for dead.

A comment means nothing to the client (HTML Living Standard, section 9.2) and goes only between two events, never into
one.
"""

from __future__ import annotations

from gpufn.gateway.http1 import RequestHead

COMMENT = b": keep-alive\n\n"
TYPE = b"text/event-stream"
BETWEEN = (b"\n\n", b"\r\r", b"\r\n\r\n")
"""How a stream ends that is between two events."""


def wanted(request: RequestHead, lines: list[bytes]) -> bool:
    """Whether the client asked for events, and the response, whose header lines are ``lines``, is a plain stream of
    them.
    """
    if TYPE not in request.values.get(b"accept", b"").lower():
        return False
    fields = dict(line.lower().split(b":", 1) for line in lines)
    return fields.get(b"content-type", b"").strip().startswith(TYPE) and b"content-encoding" not in fields


class Events:
    """What was sent of one stream."""

    __slots__ = ("_tail", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        """When something was sent last, in loop time."""
        self._tail = b""

    def sent(self, data: bytes, now: float) -> None:
        """More of the stream has gone out."""
        if data:
            self.since = now
            self._tail = (self._tail + data)[-4:]

    @property
    def between(self) -> bool:
        """Whether a comment may go out now."""
        return not self._tail or self._tail.endswith(BETWEEN)

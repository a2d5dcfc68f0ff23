"""Passing on to control what is not ours: the API, the console. As it came, both ways, streamed.

Control is told who called: the client's own ``X-Forwarded-*`` are dropped, for nobody stands before this gateway whose
word could be taken.
"""

from __future__ import annotations

from gpufn.gateway.call import Edge
from gpufn.gateway.deadlines import Deadlines, Timed
from gpufn.gateway.fields import FORWARDED, HOP_BY_HOP
from gpufn.gateway.forward import Forward
from gpufn.gateway.http1 import RequestHead, ResponseHead, end_to_end
from gpufn.gateway.problems import problem
from gpufn.gateway.upstream import Pool
from gpufn.runtime.clock import loop_now

HEAD_TIMEOUT = 300.0
"""Seconds without progress after which a request is given up: none of its body came, or no response to all of it."""
REQUEST_DROP = HOP_BY_HOP | FORWARDED | {b"content-length", b"expect"}
RESPONSE_DROP = HOP_BY_HOP | {b"content-length"}


class RelayCall:
    """One request that control answers."""

    broken_body = ""
    slice: dict[Timed, None] | None = None

    def __init__(self, edge: Edge, head: RequestHead, *, peer: str, secure: bool, deadlines: Deadlines) -> None:
        self._edge: Edge | None = edge
        self._request = head
        self._peer, self._secure = peer, secure
        self._deadlines = deadlines
        self._answering = False
        self._progress = False
        """Whether more of the body has come since the last look."""
        self._forward = Forward(self, chunked=head.chunked, without_body=head.method == b"HEAD")

    def enter(self, pool: Pool, body: bytes, complete: bool) -> None:
        """Send it on its way."""
        self._deadlines.schedule(self, loop_now() + HEAD_TIMEOUT)
        self._forward.body(body, complete)
        self._forward.start(pool, self._outgoing())

    def body(self, data: bytes, last: bool) -> None:
        self._progress = True
        self._forward.body(data, last)

    def client_gone(self) -> None:
        self._end()
        self._forward.cancel()

    def client_slow(self, on: bool) -> None:
        self._forward.pause(on)

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None:
        self._deadlines.cancel(self)
        self._answering = True
        if self._edge is not None:
            self._edge.head(head, end_to_end(head, RESPONSE_DROP), body, last)
        if last:
            self._end()

    def more(self, data: bytes, last: bool) -> None:
        if self._edge is not None:
            self._edge.more(data, last)
        if last:
            self._end()

    def failed(self, reason: str) -> None:
        edge = self._end()
        if edge is None:
            return
        if self._answering:
            edge.cut()
        else:
            detail = f"the control process does not answer ({reason}); retry, and look at its log if it stays so"
            edge.reply(problem(503, detail, b"retry-after: 1"))

    def hold(self, on: bool) -> None:
        if self._edge is not None:
            self._edge.hold(on)

    def expire(self, now: float) -> None:
        """Control takes too long, or the client: an upload may take hours, as long as it goes on."""
        if self._progress:
            self._progress = False
            self._deadlines.schedule(self, now + HEAD_TIMEOUT)
            return
        edge = self._end()
        self._forward.cancel()
        if edge is not None:
            edge.reply(problem(504, f"the control process did not answer within {HEAD_TIMEOUT:.0f} s; retry"))

    def _end(self) -> Edge | None:
        self._deadlines.cancel(self)
        edge, self._edge = self._edge, None
        self._forward.part()
        return edge

    def _outgoing(self) -> bytes:
        head = self._request
        lines = end_to_end(head, REQUEST_DROP)
        if head.chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif head.length or b"content-length" in head.values:
            lines.append(b"Content-Length: %d" % head.length)
        lines.append(b"X-Forwarded-For: " + self._peer.encode())
        lines.append(b"X-Forwarded-Proto: " + (b"https" if self._secure else b"http"))
        lines.append(b"X-Forwarded-Host: " + head.values.get(b"host", b""))
        if b"host" not in head.values:
            lines.append(b"Host: control")
        return b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (head.method, head.target, b"\r\n".join(lines))

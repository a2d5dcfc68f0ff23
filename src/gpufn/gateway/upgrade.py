"""A call that asks for another protocol on its connection: WebSocket, or any other HTTP/1.1 upgrade (RFC 9110, 7.8).

It waits for a slot like any other. The instance decides: with 101 both connections become a tunnel and the slot is
held until that ends; any other answer is passed on as in direct mode. Browsers, which can set no headers, put the
credential and the function into ``Sec-WebSocket-Protocol`` (invocation-plane page, section 14).
"""

from __future__ import annotations

import asyncio
import re

from gpufn.gateway.deadlines import Timed
from gpufn.gateway.edge import Connection as Edge
from gpufn.gateway.fields import HOP_BY_HOP
from gpufn.gateway.http1 import RequestHead, ResponseHead, end_to_end
from gpufn.gateway.lines import TOKEN
from gpufn.gateway.outgoing import callers_lines, outgoing
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import EXPOSE, Reply, connection_error, problem, trio
from gpufn.gateway.slots import Slot
from gpufn.gateway.ticket import Caller, Ticket
from gpufn.gateway.tunnel import SERVICE_RESTART, Tunnel
from gpufn.gateway.upstream import Connection
from gpufn.runtime.clock import loop_now

RESPONSE_DROP = HOP_BY_HOP | {b"nvcf-reqid", b"nvcf-status", b"content-length"}
PROTOCOLS = re.compile(TOKEN + rb"+(?:/" + TOKEN + rb"+)?")
SAID_BY_PROTOCOL = (b"authorization", b"function-id", b"function-version-id")
SUBPROTOCOL = b"sec-websocket-protocol"


def requested(head: RequestHead) -> bytes | None:
    """The protocol a request asks to change to, or None.

    HTTP/2 is not among them: it has a port of its own, and a tunnel of requests would go past everything that is
    decided per request. What else cannot be meant (an old version, a body, two protocols at once) is an ordinary
    request whose ``Upgrade`` is not passed on.
    """
    wanted = head.values.get(b"upgrade")
    if wanted is None or b"upgrade" not in head.named or head.minor == 0 or head.length or head.method != b"GET":
        return None
    lower = wanted.lower()
    if PROTOCOLS.fullmatch(wanted) is None or lower == b"h2c" or lower.startswith((b"http/", b"tls/")):
        return None
    return wanted


def read_subprotocols(head: RequestHead) -> None:
    """Take ``name.value`` items of ``Sec-WebSocket-Protocol`` for the headers they stand for; real headers win.

    The credential comes without ``Bearer`` here, and a real ``Authorization`` may then do without it too.
    """
    items = head.values.get(SUBPROTOCOL)
    if items is None:
        return
    for item in items.split(b","):
        name, dot, value = item.strip(b" \t").partition(b".")
        name = name.lower()
        if dot and value and name in SAID_BY_PROTOCOL:
            head.values.setdefault(name, value)
    credential = head.values.get(b"authorization")
    if credential is not None and b" " not in credential:
        head.values[b"authorization"] = b"Bearer " + credential


def chosen(head: RequestHead) -> bytes | None:
    """The sub-protocol to answer with when the instance names none.

    A browser that offered some fails the connection unless it is told one of them: the id of the function, if that is
    how it was said.
    """
    for item in head.values.get(SUBPROTOCOL, b"").split(b","):
        item = item.strip(b" \t")  # noqa: PLW2901
        if item.lower().startswith(b"function-id."):
            return item
    return None


class UpgradeCall:
    """One such call, from its acceptance until the tunnel has ended."""

    broken_body = ""
    slice: dict[Timed, None] | None = None
    complete = True

    def __init__(self, plane: Plane, edge: Edge, head: RequestHead, caller: Caller, protocol: bytes) -> None:
        self._plane = plane
        self._edge: Edge | None = edge
        self._request = head
        self._protocol = protocol
        self._caller = caller
        self._ticket = Ticket(plane, self, caller)
        self._slot: Slot | None = None
        self._connection: Connection | None = None
        self._tunnel: Tunnel | None = None
        self._answering = False

    def enter(self) -> None:
        """Take a slot or a place in the queue. Raises Refused (429) when the queue is full."""
        self._ticket.enter()

    # ------------------------------------------------------------------ the slot

    def started(self, slot: Slot) -> None:
        self._slot = slot
        self._plane.deadlines.schedule(self, loop_now() + self._caller.wait)
        slot.instance.pool.acquire(self, fresh=True)

    def refused(self, reply: Reply) -> None:
        self._refuse(reply)

    def shut_down(self) -> None:
        if self._tunnel is not None:
            self._tunnel.close(SERVICE_RESTART, "the gateway is shutting down; connect again")
        else:
            self._refuse(problem(503, "the gateway is shutting down; call again", b"retry-after: 1"))

    def expire(self, now: float) -> None:
        """The instance has the request and does not answer."""
        waited = f"no answer to the upgrade within {self._caller.wait:g} s: an instance has the request"
        self._refuse(problem(504, waited))

    # ------------------------------------------------------------------ the connection to the instance

    def connected(self, connection: Connection, reused: bool) -> None:
        if self._edge is None or self._slot is None:
            connection.drop()
            return
        self._connection = connection
        connection.send(self, self._outgoing(self._slot), without_body=False, switch=self._switch)

    def unreachable(self, reason: str) -> None:
        if self._slot is not None:
            self._slot.failed(loop_now())
        self._refuse(connection_error())

    def _outgoing(self, slot: Slot) -> bytes:
        request, caller = self._request, self._caller
        common = caller.version.heads[slot.instance.facts.id][1]
        opening = b"%b %b%b" % (request.method, request.target, common)
        kept = callers_lines(caller.grant.lines, request, direct=True)
        wish = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self._protocol
        return outgoing(opening, kept, wish, identity=caller.id, slot=slot, seconds=caller.wait)

    # ------------------------------------------------------------------ the instance's answer

    def _switch(self, head: ResponseHead, transport: asyncio.Transport, rest: bytes) -> None:
        """101: join the two connections."""
        self._plane.deadlines.cancel(self)
        self._connection = None
        taken = self._edge.switch(self._accepted(head)) if self._edge is not None else None
        if taken is None:
            transport.abort()
            self._end()
            return
        settings = self._plane.settings
        self._tunnel = Tunnel(
            self._plane.deadlines,
            idle=settings.stream_idle,
            lifetime=settings.stream_lifetime,
            websocket=self._protocol.lower() == b"websocket",
            ended=self._tunnel_ended,
        )
        self._tunnel.join(*taken, transport, rest)

    def _accepted(self, head: ResponseHead) -> list[bytes]:
        """The lines of the 101."""
        lines = end_to_end(head, RESPONSE_DROP)
        lines += (line for name, line in head.special if name == b"upgrade")
        named = any(line.lower().startswith(SUBPROTOCOL + b":") for line in lines)
        ours = None if named else chosen(self._request)
        if ours is not None:
            lines.append(b"Sec-WebSocket-Protocol: " + ours)
        lines += (b"connection: Upgrade", b"nvcf-reqid: " + self._caller.id, EXPOSE)
        return lines

    def _tunnel_ended(self) -> None:
        edge, self._edge = self._edge, None
        self._tunnel = None
        self._end()
        if edge is not None:
            edge.connection_lost(None)

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None:
        """No: the instance answers as it would any request."""
        self._plane.deadlines.cancel(self)
        self._answering = True
        edge = self._edge
        if last:
            self._connection = None  # it is in its pool again
            self._end()
        if edge is not None:
            edge.head(head, end_to_end(head, RESPONSE_DROP) + list(trio(self._caller.id, head.status)), body, last)

    def more(self, data: bytes, last: bool) -> None:
        edge = self._edge
        if last:
            self._connection = None
            self._end()
        if edge is not None:
            edge.more(data, last)

    def broken(self, reason: str, untouched: bool) -> None:
        self._connection = None
        self._refuse(connection_error())

    def hold(self, on: bool) -> None:
        """The request has no body that could be held."""

    # ------------------------------------------------------------------ the client

    def body(self, data: bytes, last: bool) -> None:
        """A request for an upgrade has none."""

    def client_gone(self) -> None:
        self._end()

    def client_slow(self, on: bool) -> None:
        if self._connection is not None:
            self._connection.pause(on)

    # ------------------------------------------------------------------ ends

    def _refuse(self, reply: Reply) -> None:
        edge, answering = self._edge, self._answering
        self._end()
        if edge is None:
            return
        if answering:
            edge.cut()
        else:
            edge.reply(Reply(reply.status, (*reply.lines, *trio(self._caller.id, reply.status)), reply.body))

    def _end(self) -> None:
        """Nothing is left to do; may be called again."""
        self._edge = None
        self._slot = None
        self._plane.deadlines.cancel(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        self._ticket.end()

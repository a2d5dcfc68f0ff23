"""Client connections on the gRPC port: HTTP/2 without TLS, or HTTP/1.1 served as on the HTTP port.

Which of the two is told by the first bytes. On HTTP/2 every stream is a call of a function, named by its metadata
(invocation-plane page, section 13.1).
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from gpufn.gateway import grpc_answers as answers
from gpufn.gateway.deadlines import Timed
from gpufn.gateway.edge import Connection as Http1
from gpufn.gateway.grpc_call import GrpcCall
from gpufn.gateway.grpc_head import CallHead, Malformed, call_head
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import Refused, text
from gpufn.gateway.service import Service
from gpufn.gateway.session import Session
from gpufn.gateway.ticket import Caller
from gpufn.runtime.http2.connection import Connection, Limits
from gpufn.runtime.http2.fields import Fields, line
from gpufn.runtime.http2.frames import PREFACE, Code
from gpufn.runtime.http2.stream import Stream

SIGN = PREFACE[:4]
"""No HTTP/1.1 method begins like this."""
SessionKey: TypeAlias = tuple[bytes, bytes]


class GrpcEdges:
    """All client connections of the gRPC port."""

    def __init__(self, plane: Plane, service: Service) -> None:
        self.plane = plane
        self.service = service
        self.limits = Limits(block_max=plane.settings.head_max_bytes, streams_max=plane.settings.grpc_streams_max)
        self.open: set[Edge] = set()
        self.first: set[_First] = set()

    def connection(self) -> asyncio.Protocol:
        """For the listening socket."""
        return _First(self)

    @property
    def are_idle(self) -> bool:
        return not any(edge.busy for edge in self.open)

    def shut(self) -> None:
        """Have clients go elsewhere; what runs may end."""
        for first in list(self.first):
            first.expire(0)
        for edge in list(self.open):
            edge.shut()

    def cut(self) -> None:
        """End every connection now."""
        for first in list(self.first):
            first.expire(0)
        for edge in list(self.open):
            edge.cut()


class _First(asyncio.Protocol):
    """A connection whose first bytes have not been seen."""

    slice: dict[Timed, None] | None = None

    def __init__(self, edges: GrpcEdges) -> None:
        self._edges = edges
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._edges.first.add(self)
        plane = self._edges.plane
        plane.deadlines.schedule(self, plane.now() + plane.settings.head_timeout)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if (len(self._buffer) < len(SIGN) and SIGN.startswith(self._buffer)) or self._transport is None:
            return
        edges = self._edges
        protocol: Http1 | Connection | None = None
        if not self._buffer.startswith(SIGN):
            protocol = Http1(edges.service)
        elif len(edges.open) < edges.plane.settings.connections_max:
            protocol = Edge(edges).connection
        self._done()
        if protocol is None:
            self._transport.abort()
            return
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._buffer)

    def connection_lost(self, error: Exception | None) -> None:
        self._done()

    def _done(self) -> None:
        self._edges.first.discard(self)
        self._edges.plane.deadlines.cancel(self)

    def expire(self, now: float) -> None:
        if self._transport is not None:
            self._transport.abort()


class Edge:
    """One HTTP/2 connection of a client."""

    slice: dict[Timed, None] | None = None

    def __init__(self, edges: GrpcEdges) -> None:
        self._edges = edges
        self._plane = edges.plane
        self._since = self._plane.now()
        self._sessions: dict[SessionKey, Session] = {}
        self.connection = Connection(self, edges.limits, server=True)
        edges.open.add(self)
        self._plane.deadlines.schedule(self, self._since + self._plane.settings.head_timeout)

    @property
    def busy(self) -> bool:
        return bool(self.connection.streams)

    def shut(self) -> None:
        self.connection.shut()

    def cut(self) -> None:
        self.connection.abort()

    def expire(self, now: float) -> None:
        """Look whether it is used, and whether it ever spoke HTTP/2."""
        due = self._since + self._plane.settings.idle_timeout
        if not self.connection.introduced:
            self.cut()
        elif self.busy or now < due:
            self._plane.deadlines.schedule(self, max(due, now + 1.0))
        else:
            self.shut()

    # ------------------------------------------------------------------ what the connection calls

    def accept(self, stream: Stream, fields: Fields, end: bool) -> None:
        try:
            head = call_head(fields)
        except Malformed:
            stream.reset(Code.PROTOCOL_ERROR)
            return
        if head.preflight:
            answers.preflight(stream, head)
            return
        try:
            self._call(stream, head)
        except Refused as refused:
            extra = (line(b"set-cookie", answers.FORGET),) if isinstance(refused, _NoSession) else ()
            answers.refuse(stream, head, refused.reply, *extra)

    def changed(self, connection: Connection) -> None:
        self._since = self._plane.now()

    def lost(self, connection: Connection) -> None:
        self._edges.open.discard(self)
        self._plane.deadlines.cancel(self)
        for session in self._sessions.values():
            session.disconnected()

    # ------------------------------------------------------------------ calls

    def _call(self, stream: Stream, head: CallHead) -> None:
        """Raises Refused."""
        authorization, function_id = head.authorization, head.function_id
        if authorization is None or not authorization.startswith(b"Bearer "):
            raise Refused(answers.NO_AUTHORIZATION)
        if function_id is None:
            raise Refused(answers.NO_FUNCTION)
        key = function_id.lower(), (head.version_id or b"").lower()
        session = self._sessions.get(key)
        known = session or self._plane.sessions.get(head.resume or b"")
        pinned = head.version_id
        if known is not None and pinned is None and known.serves(function_id):
            pinned = known.version.id.encode()
        try:
            counts = session is None or not self._plane.settings.grpc_slot_per_connection
            caller = self._edges.service.admit(authorization[7:], function_id, pinned, counts=counts)
        except Refused as refused:
            raise Refused(answers.denied(refused)) from None
        if head.timeout is not None and head.timeout < caller.wait:
            caller = caller._replace(wait=head.timeout)
        if session is None or session.version is not caller.version:
            fresh = self._session(head, caller)
            if session is not None:
                session.disconnected()
            session = self._sessions[key] = fresh
        GrpcCall(self._plane, session, head, caller, stream).enter()

    def _session(self, head: CallHead, caller: Caller) -> Session:
        """A new session, or an earlier one that the client names (section 13.2). Raises Refused."""
        wanted = head.resume
        if wanted is None:
            return Session(self._plane, caller, version_id=head.version_id)
        found = self._plane.sessions.get(wanted)
        name = wanted.decode()
        if found is None:
            raise _NoSession(text(404, f"no existing session found for request id {name}; leave nvcf-reqid out"))
        if not found.fits(caller.grant, caller.version.function_id, head.version_id):
            raise Refused(text(500, f"existing session's function, version or account mismatch for request id {name}"))
        found.taken_up()
        return found


class _NoSession(Refused):
    """The client is told to forget the id."""

"""What the calls of one client connection to one function have in common (invocation-plane page, section 13.2).

A session has the id that clients see as ``nvcf-reqid``, and the instance it prefers: calls of one connection meet the
same instance while it has a slot. With ``gateway.grpc_slot_per_connection`` the session itself holds the slot, as the
reference does, from its first call until the client's connection ends. An id can be taken up again by another
connection shortly after.
"""

from __future__ import annotations

from typing import Protocol

from gpufn.gateway.deadlines import Timed
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import Reply
from gpufn.gateway.slots import Slot
from gpufn.gateway.snapshot import Grant
from gpufn.gateway.ticket import Caller, Ticket
from gpufn.gateway.version import Version
from gpufn.runtime.http2.fields import line

RESUME_SECONDS = 30.0
"""How long a session is remembered when its connection has ended (section 13.2)."""


class Call(Protocol):
    """A call that waits for the session's slot, or uses it."""

    def started(self, slot: Slot) -> None: ...
    def refused(self, reply: Reply) -> None: ...
    def shut_down(self) -> None: ...


class Session:
    """One session."""

    slice: dict[Timed, None] | None = None

    def __init__(self, plane: Plane, caller: Caller, *, version_id: bytes | None) -> None:
        self.id = caller.id
        self.version: Version = caller.version
        self.account = caller.grant.principal.nca_id
        self.version_id = version_id
        """As the client sent it."""
        self.instance_id = ""
        """The instance that served the last call."""
        self.tag = line(b"nvcf-reqid", self.id)
        self._said = False
        self._users = 1
        """Client connections that use it."""
        self._plane = plane
        self._ticket: Ticket | None = None
        self._slot: Slot | None = None
        self._calls: dict[Call, None] = {}
        plane.sessions[self.id] = self

    def cookie(self) -> bytes:
        """The header line that only the first response has."""
        if self._said:
            return b""
        self._said = True
        return line(b"set-cookie", b"nvcf-request-id=" + self.id)

    def serves(self, function_id: bytes) -> bool:
        """Whether its version can still be called, and is one of that function."""
        return self.version.invocable and self.version.function_id == function_id.decode("latin-1").lower()

    def fits(self, grant: Grant, function_id: str, version_id: bytes | None) -> bool:
        """Whether it may be taken up by such a caller."""
        same = version_id is None or version_id.decode("latin-1").lower() == self.version.id
        return same and self.account == grant.principal.nca_id and self.version.function_id == function_id

    # with a slot for the whole session

    def join(self, call: Call, caller: Caller) -> None:
        """Let ``call`` use the session's slot, once there is one. Raises Refused when the queue is full."""
        if self._slot is not None and not self._slot.instance.gone:
            self._calls[call] = None
            call.started(self._slot)
            return
        if self._slot is not None:
            self.end()
        self._calls[call] = None
        if self._ticket is None:
            ticket = self._ticket = Ticket(self._plane, self, caller)
            try:
                ticket.enter()
            finally:
                if ticket.ended:
                    self._calls.pop(call, None)
                    self._ticket = None

    def leave(self, call: Call) -> None:
        """``call`` has ended. Nobody waits for a slot that nobody wants."""
        self._calls.pop(call, None)
        if not self._calls and (self._slot is None or not self._users):
            self.end()

    def end(self) -> None:
        """Give the slot back; the next call asks for another."""
        ticket, self._ticket, self._slot = self._ticket, None, None
        if ticket is not None:
            ticket.end()

    def started(self, slot: Slot) -> None:
        self._slot = slot
        for call in list(self._calls):
            call.started(slot)

    def refused(self, reply: Reply) -> None:
        self._ticket = None
        for call in list(self._calls):
            call.refused(reply)

    def shut_down(self) -> None:
        for call in list(self._calls):
            call.shut_down()

    # its end

    def disconnected(self) -> None:
        """A client's connection has ended, or uses another session. After the last one it is remembered for a while."""
        self._users -= 1
        if self._users:
            return
        if not self._calls:
            self.end()
        self._plane.deadlines.schedule(self, self._plane.now() + RESUME_SECONDS)

    def taken_up(self) -> None:
        """Another connection goes on with it."""
        self._users += 1
        self._plane.deadlines.cancel(self)

    def expire(self, now: float) -> None:
        if self._plane.sessions.get(self.id) is self:
            del self._plane.sessions[self.id]

"""One call on the gRPC port: the client's stream, a slot, and the instance's stream.

Messages are passed on as they come, in both directions; nothing is looked into, so any service works without its proto.
Credit for bytes is given to one side when the other side has been sent them.
"""

from __future__ import annotations

from gpufn.gateway import grpc_answers as answers
from gpufn.gateway.deadlines import Timed
from gpufn.gateway.grpc_head import CallHead, Malformed, answer_head, remaining, trailers
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import Refused, Reply, text
from gpufn.gateway.session import Session
from gpufn.gateway.slots import Slot
from gpufn.gateway.ticket import Caller, Ticket
from gpufn.runtime.http2.connection import Connection
from gpufn.runtime.http2.fields import Fields, line
from gpufn.runtime.http2.frames import Code
from gpufn.runtime.http2.stream import NOBODY, Stream

PROMPT = 0.01
"""Seconds of waiting that are not taken off the client's deadline."""
TRIES = 3
"""Instances that are tried before a call is refused because they cannot be reached."""


class GrpcCall:
    """One call; the sink of the client's stream."""

    slice: dict[Timed, None] | None = None

    def __init__(self, plane: Plane, session: Session, head: CallHead, caller: Caller, stream: Stream) -> None:
        self._plane = plane
        self._session = session
        self._head = head
        self._caller = caller
        self._client = stream
        self._instance: Stream | None = None
        self._slot: Slot | None = None
        self._ticket: Ticket | None = None
        self._early: list[bytes] = []
        self._complete = stream.got_end
        self._answering = False
        self._done = False
        self._tries = 1
        self._since = plane.now()

    def enter(self) -> None:
        """Take a slot or a place in the queue. Raises Refused (429) when the queue is full."""
        self._client.sink = self
        if self._head.timeout is not None:
            self._plane.deadlines.schedule(self, self._since + self._head.timeout)
        try:
            if self._plane.settings.grpc_slot_per_connection:
                self._session.join(self, self._caller)
            else:
                self._ticket = Ticket(self._plane, self, self._caller)
                self._ticket.enter(prefer=self._session.instance_id)
        except BaseException:
            self._end()
            raise

    # ------------------------------------------------------------------ the slot

    def started(self, slot: Slot) -> None:
        if self._done or self._slot is not None:
            return
        self._slot = slot
        self._session.instance_id = slot.instance.facts.id
        slot.instance.pool.http2.acquire(self)

    def refused(self, reply: Reply) -> None:
        self._refuse(reply)

    def shut_down(self) -> None:
        self._refuse(text(503, "the gateway is shutting down; call again"))

    def connected(self, connection: Connection) -> None:
        if self._done:
            return
        head, session, left = self._head, self._session, b""
        if head.timeout is not None:
            waited = self._plane.now() - self._since
            left = line(b"grpc-timeout", head.timeout_text if waited < PROMPT else remaining(head.timeout - waited))
        block = head.passed + self._caller.grant.block + session.tag + left
        complete = self._complete and not self._early
        self._instance = connection.open(_Answer(self), block, complete)
        if not complete:
            for data in self._early:
                self._instance.send(data, False)
            if self._complete:
                self._instance.send(b"", True)
            self._early.clear()

    def unreachable(self, reason: str) -> None:
        """Nothing was sent: another instance may serve the call, if there is one that has not failed."""
        slot, now = self._slot, self._plane.now()
        if slot is None:
            return
        slot.failed(now)
        if self._ticket is not None and self._tries < TRIES and self._caller.version.slots.others(slot.instance, now):
            self._try_again(self._ticket)
            return
        self._refuse(text(503, f"the instance cannot be reached: {reason}; retry"))

    def _try_again(self, ticket: Ticket) -> None:
        self._tries += 1
        self._slot = None
        ticket.end()
        self._ticket = Ticket(self._plane, self, self._caller)
        try:
            self._ticket.enter()
        except Refused as refused:
            self._refuse(refused.reply)

    # ------------------------------------------------------------------ from the client

    def headers(self, fields: Fields, end: bool) -> None:
        """Trailers of the request. Without an instance to take them they are left out."""
        self._complete = True
        if self._instance is not None:
            try:
                self._instance.send_headers(trailers(fields).passed, True)
            except Malformed:
                self._client.reset(Code.PROTOCOL_ERROR)
                self.reset(Code.PROTOCOL_ERROR, False)

    def data(self, data: bytes, end: bool) -> None:
        self._complete = end
        if self._instance is not None:
            self._instance.send(data, end)
        elif self._done:
            self._client.consumed(len(data))
        elif data:
            self._early.append(data)

    def sent(self, size: int) -> None:
        """The client has been sent as much of the response."""
        if self._instance is not None:
            self._instance.consumed(size)

    def reset(self, code: int, lost: bool) -> None:
        """The client has given up, or is gone."""
        self._end()

    # ------------------------------------------------------------------ from the instance

    def answered(self, fields: Fields, end: bool) -> None:
        """Headers of the response, or its trailers."""
        try:
            if self._answering:
                block = trailers(fields).passed
            else:
                head = answer_head(fields)
                if head.status[:1] == b"1":
                    return
                self._answering = True
                block = head.passed + self._session.tag + self._session.cookie()
        except Malformed:
            self._broken("the instance answered something that is not HTTP/2")
            return
        self._client.send_headers(block, end)
        if end:
            self._answered()

    def more(self, data: bytes, end: bool) -> None:
        self._client.send(data, end)
        if end:
            self._answered()

    def passed(self, size: int) -> None:
        """The instance has been sent as much of the request."""
        self._client.consumed(size)

    def broken_off(self, code: int, lost: bool) -> None:
        """The instance reset its stream, or its connection ended."""
        if lost:
            if self._slot is not None:
                self._slot.failed(self._plane.now())
            self._session.end()
            self._broken("the instance closed the connection before the call was complete")
            return
        self._client.reset(code)
        self._end()

    def _broken(self, reason: str) -> None:
        self._refuse(text(503, f"{reason}; retry"))

    # ------------------------------------------------------------------ ends

    def expire(self, now: float) -> None:
        """The client's deadline has passed; it knows, but not why."""
        if self._slot is None and self._ticket is not None:
            self._ticket.expire(now)
            return
        state = "running: an instance has the call" if self._slot is not None else "the session has no slot yet"
        self._refuse(text(504, f"deadline exceeded: {state}"))

    def _refuse(self, reply: Reply) -> None:
        if self._done:
            return
        client, head, session = self._client, self._head, self._session
        if not self._answering:
            answers.refuse(client, head, reply, session.tag)
        elif head.is_grpc:
            client.send_headers(answers.outcome(reply), True)
        else:
            client.reset(Code.INTERNAL_ERROR)
        self._end()

    def _answered(self) -> None:
        """The response is complete; what the client still sends is of no use."""
        self._release()
        instance = self._instance
        if instance is not None and not instance.sent_end:
            instance.sink = NOBODY
            instance.reset(Code.NO_ERROR)
            self._instance = None
        self._done = True

    def _end(self) -> None:
        """Nothing is left to do; may be called again."""
        self._done = True
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.sink = NOBODY
            instance.reset(Code.CANCEL)
        self._early.clear()
        self._release()

    def _release(self) -> None:
        self._plane.deadlines.cancel(self)
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.instance.pool.http2.forget(self)
        if self._ticket is not None:
            self._ticket.end()
        else:
            self._session.leave(self)


class _Answer:
    """The sink of the instance's stream."""

    __slots__ = ("_call",)

    def __init__(self, call: GrpcCall) -> None:
        self._call = call

    def headers(self, fields: Fields, end: bool) -> None:
        self._call.answered(fields, end)

    def data(self, data: bytes, end: bool) -> None:
        self._call.more(data, end)

    def sent(self, size: int) -> None:
        self._call.passed(size)

    def reset(self, code: int, lost: bool) -> None:
        self._call.broken_off(code, lost)

"""One call of a function, from its acceptance until its response is delivered.

    QUEUED ──slot──▶ RUNNING ──head──▶ ANSWERING ──▶ DONE
       │               │ window over, compatibility mode: 202
       │               ▼
       │            detached: RUNNING (or FINISHED, with its result kept) and no client
       │               │ poll: attached again            │ nobody polls: abandoned
       └─ 504          ▼                                 ▼
                    ANSWERING, or 202 again             DONE

The client's connection is ``edge``; it is None while the call is detached. One deadline is pending at a time; what it
means follows from the state (invocation-plane page, section 7).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple, Protocol

from gpufn.gateway import outgoing
from gpufn.gateway.deadlines import Timed
from gpufn.gateway.fields import HOP_BY_HOP
from gpufn.gateway.forward import Forward
from gpufn.gateway.http1 import RequestHead, ResponseHead, end_to_end
from gpufn.gateway.outgoing import OPT_OUT, Told
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import (
    ERROR_BODY_MAX,
    Refused,
    Reply,
    call_failed,
    inference_error,
    problem,
    queue_full,
    trio,
    worker_problem,
)
from gpufn.gateway.slots import Slot
from gpufn.gateway.snapshot import Grant
from gpufn.gateway.ticket import gone, standing
from gpufn.gateway.version import Version
from gpufn.runtime.clock import loop_now
from gpufn.wire.feed import RouteInstance

RESPONSE_DROP = HOP_BY_HOP | {b"nvcf-reqid", b"nvcf-status", b"content-length"}
CORS_DROP = RESPONSE_DROP | {b"access-control-allow-origin", b"access-control-allow-credentials"}
ABANDON_MIN = 10.0
"""Seconds a detached call is kept at least without being asked for (section 7.2)."""


class Edge(Protocol):
    """The client's connection, as calls see it."""

    def head(self, head: ResponseHead, lines: list[bytes], body: bytes, last: bool) -> None:
        """Begin the response, in one write with the first bytes of its body."""
        ...

    def more(self, data: bytes, last: bool) -> None: ...
    def reply(self, reply: Reply) -> None:
        """Answer with something made here."""
        ...

    def cut(self) -> None:
        """The response cannot be completed: show it by ending the connection."""
        ...

    def hold(self, on: bool) -> None:
        """Read no more of the request for now, or go on."""
        ...


class Phase(Enum):
    """Where a call is."""

    QUEUED = auto()
    RUNNING = auto()
    ANSWERING = auto()
    FINISHED = auto()
    """Its result is kept until it is fetched."""
    DONE = auto()


class Admitted(NamedTuple):
    """What was decided before there is an invocation."""

    id: bytes
    grant: Grant
    version: Version
    direct: bool
    window: int
    """``NVCF-POLL-SECONDS``: how long the client waits."""
    cors: tuple[bytes, ...] = ()
    lines: tuple[bytes, ...] = ()
    """Further header lines of the response: what is left of a rate limit."""


class Invocation:
    """One call. The edge gives it the request's body, its version a slot, its forward the response."""

    broken_body = "failed to read request body: "
    __slots__ = (
        "_collected", "_compatible", "_cors", "_direct", "_edge", "_forward", "_head", "_more_lines", "_plane",
        "_request", "_reserved", "_since", "_size", "_slot", "_window", "_window_end", "give_up_at", "grant", "id",
        "phase", "poller", "result", "slice", "version",
    )  # fmt: skip

    def __init__(self, plane: Plane, edge: Edge, head: RequestHead, admitted: Admitted) -> None:
        now = loop_now()
        self.slice: dict[Timed, None] | None = None
        self.id = admitted.id
        self.grant = admitted.grant
        self.version = admitted.version
        self.phase = Phase.QUEUED
        self.poller = False
        """Whether the client came with a status poll."""
        self.result: Reply | None = None
        self.give_up_at = now + admitted.window + plane.settings.poll_grace
        self._plane = plane
        self._edge: Edge | None = edge
        self._request = head
        self._direct = admitted.direct
        values = head.values
        self._compatible = not (
            admitted.direct or values.get(b"accept") == b"text/event-stream" or values.get(OPT_OUT) == b"true"
        )
        self._cors = admitted.cors
        self._more_lines = admitted.lines
        self._window = admitted.window
        self._since = now
        self._window_end = now + admitted.window
        self._slot: Slot | None = None
        self._forward = Forward(self, chunked=head.chunked, without_body=head.method == b"HEAD")
        self._head: ResponseHead | None = None
        self._collected: list[bytes] = []
        self._size = self._reserved = 0

    # ------------------------------------------------------------------ the request

    def enter(self, body: bytes, complete: bool) -> None:
        """Take a slot or a place in the queue. Raises Refused (429) when the queue is full."""
        plane, version = self._plane, self.version
        self._forward.body(body, complete)
        plane.calls[self.id] = self
        plane.deadlines.schedule(self, self._window_end)
        if not version.submit(self, self._since):
            self._end()
            raise Refused(queue_full(version.queue.depth))
        plane.load.changed = True
        if self.phase is Phase.QUEUED and not version.slots.ready:
            plane.load.urge()

    def body(self, data: bytes, last: bool) -> None:
        self._forward.body(data, last)

    def start(self, slot: Slot, now: float) -> None:
        """A slot is free: on to its instance."""
        self._slot = slot
        self.phase = Phase.RUNNING
        head = self._outgoing(slot.instance.facts, now)
        source = self._plane.assets.source(slot, head, self.id, self.grant.principal.nca_id)
        self._forward.start(source, head)
        if now >= self._window_end:
            self.expire(now)

    def _outgoing(self, instance: RouteInstance, now: float) -> bytes:
        pexec, common = self.version.heads[instance.id]
        caller, left = self.grant.lines, int(self._window_end - now)
        if self._direct:
            return outgoing.direct(self._request, common, Told(self.id, caller, instance.shared_dir.encode(), left))
        return outgoing.pexec(self._request, pexec, Told(self.id, caller, instance.shared_dir.encode(), left))

    # ------------------------------------------------------------------ the response

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None:
        edge = self._edge
        if edge is None or (self._compatible and head.status >= 400):
            self._head = head
            self._collect(body, last)
            return
        self.phase = Phase.ANSWERING
        self._plane.deadlines.cancel(self)
        edge.head(head, self._lines(head), body, last)
        if last:
            self._end()

    def more(self, data: bytes, last: bool) -> None:
        if self.phase is not Phase.ANSWERING:
            self._collect(data, last)
        elif self._edge is not None:
            self._edge.more(data, last)
            if last:
                self._end()

    def failed(self, reason: str) -> None:
        """The instance could not be reached, or broke off."""
        if self.phase is Phase.ANSWERING:
            if self._edge is not None:
                self._edge.cut()
            self._end()
        else:
            self._conclude(call_failed(reason))

    def hold(self, on: bool) -> None:
        if self._edge is not None:
            self._edge.hold(on)

    def _lines(self, head: ResponseHead) -> list[bytes]:
        lines = end_to_end(head, CORS_DROP if self._cors else RESPONSE_DROP)
        lines += (*trio(self.id, head.status), *self._more_lines, *self._cors)
        return lines

    def _collect(self, data: bytes, last: bool) -> None:
        """Keep what cannot be passed on as it comes: an error to be rewritten, or a result nobody waits for."""
        head = self._head
        if head is None:
            return
        self._collected.append(data)
        self._size += len(data)
        if head.status >= 400:
            if last or self._size > ERROR_BODY_MAX:
                self._conclude(inference_error(head.status, b"".join(self._collected)[:ERROR_BODY_MAX]))
            return
        full = self._plane.results.reserve(len(data), self._reserved)
        if full is not None:
            self._conclude(worker_problem("nvcf-worker-service", 500, full))
            return
        self._reserved += len(data)
        if last:
            lines = end_to_end(head, RESPONSE_DROP)
            self._conclude(Reply(head.status, tuple(lines), b"".join(self._collected)))

    def _conclude(self, reply: Reply) -> None:
        """The call has its outcome: give it to whoever waits, or keep it."""
        self._forward.cancel()
        self._free_slot()
        edge = self._edge
        if edge is None:
            self.phase = Phase.FINISHED
            self.result = reply
            self._collected.clear()
        else:
            edge.reply(self._signed(reply))
            self._end()

    def _signed(self, reply: Reply) -> Reply:
        """``reply`` with the header lines every response of an accepted call carries."""
        return Reply(
            reply.status, (*reply.lines, *trio(self.id, reply.status), *self._more_lines, *self._cors), reply.body
        )

    # ------------------------------------------------------------------ detached

    @property
    def detached(self) -> bool:
        """Whether the call goes on without the client that made it."""
        return self._edge is None or self.poller

    def attach(self, edge: Edge, window: int, cors: tuple[bytes, ...]) -> Reply | None:
        """A status poll: the result if it is there, delivered this once; else ``edge`` waits for ``window`` seconds."""
        if self._edge is not None:  # an earlier poll still waits: the later one takes its place
            self._edge.reply(self._signed(Reply(202, ())))
        self._cors, self._more_lines = cors, ()
        if self.result is not None:
            reply = self._signed(self.result)
            self._end()
            return reply
        self._edge = edge
        self.poller = True
        self._plane.deadlines.schedule(self, loop_now() + window)
        return None

    def _detach(self, now: float) -> None:
        """The window is over and the call goes on: 202."""
        edge, self._edge = self._edge, None
        if edge is not None:
            edge.reply(self._signed(Reply(202, ())))
        self._await_poll(now)

    def _await_poll(self, now: float) -> None:
        self.poller = False
        self._plane.deadlines.schedule(self, now + max(2.0 * self._window, ABANDON_MIN))

    # ------------------------------------------------------------------ ends

    def expire(self, now: float) -> None:
        """What was pending is due."""
        if self.phase in (Phase.DONE, Phase.ANSWERING):
            return
        if self._edge is None:
            self._plane.results.abandon(self.id, now)
            self._abort()
        elif self.poller:
            self._detach(now)
        elif now >= self.give_up_at:
            self._give_up(now)
        elif self._may_detach:
            self._detach(now)
        else:
            self._plane.deadlines.schedule(self, self.give_up_at)

    @property
    def _may_detach(self) -> bool:
        """202 is for calls that run and whose request is all there."""
        return self.phase is Phase.RUNNING and self._compatible and self._forward.complete and self._head is None

    def _give_up(self, now: float) -> None:
        if self._head is not None:  # an error whose body does not end
            self._conclude(inference_error(self._head.status, b"".join(self._collected)))
            return
        waited = f"no response within {now - self._since:.0f} s: "
        self._refuse(problem(504, waited + self.describe()[1]))

    def withdrawn(self) -> None:
        """The version was undeployed, or failed, while the call was queued."""
        self._refuse(gone(self.version))

    def shut_down(self) -> None:
        """The gateway stops."""
        self._refuse(problem(503, "the gateway is shutting down; call again", b"retry-after: 1"))

    def client_gone(self) -> None:
        """The client's connection has ended. A detached call goes on; any other is of no use to anybody."""
        self._edge = None
        if self.poller and self.phase is not Phase.ANSWERING:
            self._await_poll(loop_now())
        else:
            self._abort()

    def client_slow(self, on: bool) -> None:
        self._forward.pause(on)

    def _refuse(self, reply: Reply) -> None:
        edge = self._edge
        answering = self.phase is Phase.ANSWERING
        self._abort()
        if edge is not None:
            if answering:
                edge.cut()
            else:
                edge.reply(self._signed(reply))

    def _abort(self) -> None:
        self._forward.cancel()
        self.version.queue.remove(self)
        self._end()

    def _end(self) -> None:
        """Nothing is left to do; every way out comes through here, and may do so again."""
        if self.phase is Phase.DONE:
            return
        self.phase = Phase.DONE
        self._edge = None
        self.result = None
        self._collected.clear()
        self._plane.results.free(self._reserved)
        self._reserved = 0
        self._plane.deadlines.cancel(self)
        self._plane.calls.pop(self.id, None)
        self._forward.part()
        self._free_slot()

    def _free_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._plane.load.changed = True
            self.version.release(slot)

    def describe(self) -> tuple[str, str]:
        """(phase, what the call is waiting for), for a 504 and for who asks for its position."""
        if self.phase is Phase.FINISHED:
            return "finished", "the result is ready to be fetched"
        if self.phase is not Phase.QUEUED:
            return "running", "running: an instance has the request and has not answered yet"
        return standing(self.version, self)

"""One call of a function whose client waits for the answer.

    QUEUED ──slot──▶ RUNNING ──head──▶ ANSWERING ──▶ DONE
       │               │ window over, compatibility mode
       └─ 504          └──▶ becomes an ``Accepted`` invocation, which answers 202 and is kept

Nothing of it is written down: its client holds the line and sees it fail. One deadline is pending at a time; what it
means follows from the phase (invocation-plane page, section 7).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from gpufn.gateway.accepted import Accepted
from gpufn.gateway.answers import CORS_DROP, RESPONSE_DROP
from gpufn.gateway.call import Edge
from gpufn.gateway.deadlines import Timed
from gpufn.gateway.forward import Forward
from gpufn.gateway.http1 import RequestHead, ResponseHead, end_to_end
from gpufn.gateway.outgoing import OPT_OUT, callers_lines, framing, outgoing
from gpufn.gateway.outputs import Progress
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import (
    ASSETS_FAILED,
    ERROR_BODY_MAX,
    Refused,
    Reply,
    call_failed,
    inference_error,
    problem,
    queue_full,
    trio,
)
from gpufn.gateway.recording import begun
from gpufn.gateway.results import Gathered, passes_on
from gpufn.gateway.slots import Slot
from gpufn.gateway.snapshot import Grant
from gpufn.gateway.spool import Spool
from gpufn.gateway.ticket import gone, standing
from gpufn.gateway.version import MAX_RESPONSE_SIZE, Version
from gpufn.runtime.clock import loop_now


class Phase(Enum):
    """Where a call is."""

    QUEUED = auto()
    RUNNING = auto()
    ANSWERING = auto()
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
    gives_way = True
    # what most calls never have is a default of the class: setting it for each would show
    slice: dict[Timed, None] | None = None
    _slot: Slot | None = None
    _head: ResponseHead | None = None
    _errors: list[bytes] | None = None
    _gathered: Gathered | None = None
    _kept = b""
    _whole = b""
    """The request's body, if it came in one piece; else what has come is in the spool."""
    _spool: Spool | None = None
    _holders = 0
    _ran = False
    """Whether an instance has had it that failed."""

    def __init__(self, plane: Plane, edge: Edge, head: RequestHead, admitted: Admitted) -> None:
        self.id, self.grant, self.version, self._direct, window, self._cors, self._more_lines = admitted
        now = self._since = loop_now()
        self.phase = Phase.QUEUED
        self._window = window
        self._window_end = end = now + window
        self.give_up_at = end + plane.settings.poll_grace
        self._plane = plane
        self._edge: Edge | None = edge
        self._request = head
        values = head.values
        self._compatible = not (
            self._direct or values.get(b"accept") == b"text/event-stream" or values.get(OPT_OUT) == b"true"
        )
        self._forward = Forward(self, head.chunked, head.method == b"HEAD")

    # ------------------------------------------------------------------ the request

    def enter(self, body: bytes, complete: bool) -> None:
        """Take a slot or a place in the queue. Raises Refused (429) when the queue is full."""
        plane, version = self._plane, self.version
        if complete:
            self._whole = body
        elif self._compatible:
            self._spool = plane.stores.request(self.id.decode(), self.hold)
            self._spool.add(body)
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
        if self._spool is not None:
            self._spool.add(data)
        self._forward.body(data, last)

    def start(self, slot: Slot, now: float) -> None:
        """A slot is free: on to its instance."""
        self._slot = slot
        self.phase = Phase.RUNNING
        request = self._request
        opening, common = self.version.heads[slot.instance.facts.id]
        if self._direct:
            opening = b"%b %b%b" % (request.method, request.target, common)
        else:
            self._plane.open_output(slot, self.id.decode())
        self._kept = callers_lines(self.grant.lines, request, direct=self._direct)
        seconds = self._window_end - now
        head = outgoing(opening, self._kept, framing(request), identity=self.id, slot=slot, seconds=seconds)
        source = self._plane.assets.source(slot, head, self.id, self.grant.principal.nca_id)
        self._forward.start(source, head)
        if now >= self._window_end:
            self.expire(now)

    # ------------------------------------------------------------------ the response

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None:
        edge = self._edge
        if edge is None:
            return
        if self._compatible and head.status >= 400:
            self._head, self._errors = head, []
            self.more(body, last)
            return
        if self._compatible and not passes_on(self._request, head, body, last, self._slot):
            self._gather(edge, head, body, last)
            return
        self._answer(edge, head, body, last)

    def _answer(self, edge: Edge, head: ResponseHead, body: bytes, last: bool) -> None:
        self.phase = Phase.ANSWERING
        if not last:
            self._plane.deadlines.cancel(self)
        edge.head(head, self._lines(head), body, last)
        if last:
            self._end()

    def more(self, data: bytes, last: bool) -> None:
        if self._gathered is not None:
            self._gather_more(self._gathered, data, last)
        elif self.phase is not Phase.ANSWERING:
            self._collect(data, last)
        elif self._edge is not None:
            self._edge.more(data, last)
            if last:
                self._end()

    def failed(self, reason: str) -> None:
        """The instance could not be reached, or broke off."""
        if self.phase is not Phase.ANSWERING:
            if reason == ASSETS_FAILED or not self._go_elsewhere():
                self._conclude(call_failed(reason))
            return
        if self._edge is not None:
            self._edge.cut()
        self._end()

    def _go_elsewhere(self) -> bool:
        """Have another instance answer, at once: all of the request is here and none of a response was seen. Like in
        the reference it may then run twice (section 6.3), but not more often: it may be what ends its instances.
        """
        slot, now = self._slot, loop_now()
        if slot is None or self._head is not None:
            return False
        slot.failed(now)
        if (self._ran and self._forward.sent) or not self.version.slots.others(slot.instance, now):
            return False
        fresh = self._forward.again()
        if fresh is None:
            return False
        self._ran = self._ran or self._forward.sent
        self._forward, self._slot, self.phase = fresh, None, Phase.QUEUED
        self._plane.load.changed = True
        self.version.queue.put_first(self)
        self.version.release(slot)
        return True

    def hold(self, on: bool) -> None:
        """Somebody cannot take more of the request's body for now, or can again."""
        self._holders += 1 if on else -1
        if self._edge is not None:
            self._edge.hold(self._holders > 0)

    def _lines(self, head: ResponseHead) -> list[bytes]:
        lines = end_to_end(head, CORS_DROP if self._cors else RESPONSE_DROP)
        lines += (*trio(self.id, head.status), *self._more_lines, *self._cors)
        return lines

    def _gather(self, edge: Edge, head: ResponseHead, body: bytes, last: bool) -> None:
        """A response that is to be kept as a zip; of unknown length, it is held back until that is known. Where the
        request is still coming it is passed on: an instance that waits for its reader would not read the rest.
        """
        if not self._forward.complete:
            self._answer(edge, head, body, last)
            return
        self._head, self._gathered = head, Gathered(self._plane.memory)
        self._gather_more(self._gathered, body, last, enough=last or head.length is not None)

    def _gather_more(self, gathered: Gathered, data: bytes, last: bool, *, enough: bool = False) -> None:
        edge, slot, head = self._edge, self._slot, self._head
        if edge is None or slot is None or head is None:
            return
        fits = gathered.add(data)
        if enough or not fits or gathered.size > MAX_RESPONSE_SIZE or (last and slot.wrote()):
            self._accept(edge, slot, last=last)
        elif last:
            body = gathered.take()
            self._gathered = None
            head.length, head.chunked = len(body), False
            self._answer(edge, head, body, True)

    def _collect(self, data: bytes, last: bool) -> None:
        """An instance's error, which is rewritten as a whole."""
        head, errors = self._head, self._errors
        if head is None or errors is None:
            return
        errors.append(data)
        if last or sum(map(len, errors)) > ERROR_BODY_MAX:
            self._conclude(inference_error(head.status, b"".join(errors)[:ERROR_BODY_MAX]))

    def _conclude(self, reply: Reply) -> None:
        """The call has its answer."""
        edge = self._edge
        self._forward.cancel()
        self._free_slot()
        if edge is not None:
            edge.reply(self._signed(reply))
        self._end()

    def _signed(self, reply: Reply) -> Reply:
        """``reply`` with the header lines every response of an accepted call carries."""
        return Reply(
            reply.status, (*reply.lines, *trio(self.id, reply.status), *self._more_lines, *self._cors), reply.body
        )

    # ------------------------------------------------------------------ ends

    def expire(self, now: float) -> None:
        """The window is over, or the grace beyond it."""
        if self.phase in (Phase.DONE, Phase.ANSWERING):
            return
        edge, slot = self._edge, self._slot
        if now >= self.give_up_at:
            self._give_up(now)
        elif edge is not None and slot is not None and self._may_be_accepted:
            self._accept(edge, slot)
        else:
            self._plane.deadlines.schedule(self, self.give_up_at)

    @property
    def _may_be_accepted(self) -> bool:
        """202 is for calls that run and whose request is all there."""
        return self.phase is Phase.RUNNING and self._compatible and self._forward.complete and self._errors is None

    def look(self) -> None:
        """Tell the client how far the instance is, once it says so (section 8.2)."""
        edge, slot = self._edge, self._slot
        if edge is not None and slot is not None and self._may_be_accepted and self._head is None:
            progress = slot.progress(0)
            if progress is not None:
                self._accept(edge, slot, progress=progress)

    def _accept(self, edge: Edge, slot: Slot, *, last: bool = False, progress: Progress | None = None) -> None:
        """From here on the call is kept, for its client or for its result; ``last``: all of that was gathered."""
        version, plane = self.version, self._plane
        record = begun(plane, self.grant, version, request_id=self.id.decode(), head=self._kept, window=self._window)
        request, self._spool, self._slot = self._spool, None, None
        if request is None:
            request = plane.stores.request(record.id, edge.hold)
            request.add(self._whole)
        forward, head = self._forward, self._head
        body = self._gathered.take() if self._gathered is not None else b""
        accepted = Accepted(plane, record, version)
        self._leave()
        accepted.adopt(
            forward, slot, edge=edge, cors=self._cors, request=request, until=self._window_end, progress=progress
        )
        if head is not None:
            accepted.inherit(head, body, last)

    def _give_up(self, now: float) -> None:
        if self._head is not None and self._errors is not None:  # an error whose body does not end
            self._conclude(inference_error(self._head.status, b"".join(self._errors)))
            return
        waited = f"no response within {now - self._since:.0f} s: "
        self._refuse(problem(504, waited + self.describe()[1]))

    def withdrawn(self) -> None:
        """The version was undeployed, or failed, while the call was queued."""
        self._refuse(gone(self.version))

    def crowded_out(self) -> None:
        """Another account has less in a full queue."""
        self._refuse(queue_full(self.version.queue.depth))

    def shut_down(self) -> None:
        """The gateway stops."""
        self._refuse(problem(503, "the gateway is shutting down; call again", b"retry-after: 1"))

    def client_gone(self) -> None:
        """The client's connection has ended: the call is of no use to anybody."""
        self._edge = None
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
        """Nothing is left to do; every way out but that of acceptance comes through here, and may do so again."""
        if self.phase is Phase.DONE:
            return
        self._leave()
        self._forward.part()
        self._free_slot()

    def _leave(self) -> None:
        self.phase = Phase.DONE
        self._edge = None
        self._whole = b""
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            gathered.take()
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.discard()
        plane = self._plane
        plane.deadlines.cancel(self)
        plane.calls.pop(self.id, None)

    def _free_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._plane.load.changed = True
            self.version.release(slot)

    @property
    def nca_id(self) -> str:
        """The caller's account."""
        return self.grant.principal.nca_id

    def describe(self) -> tuple[str, str]:
        """(phase, what the call is waiting for), for a 504 and for who asks for its position."""
        if self.phase is Phase.QUEUED:
            return standing(self.version, self)
        return "running", "running: an instance has the request and has not answered yet"

"""A kept result on its way to one poll.

It counts as delivered, once, from the moment that this is committed, before its first byte leaves. Should the
connection break before the client had it, or this gateway die, the next poll gets it. That is in doubt until the
client sends something else, closes the connection in an orderly way, or ``GRACE`` seconds have passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gpufn.gateway.answers import result_lines
from gpufn.gateway.call import Edge
from gpufn.gateway.deadlines import Timed
from gpufn.gateway.http1 import ResponseHead
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import Reply, problem
from gpufn.model.errors import OutcomeUnknown, Unavailable
from gpufn.model.invocation import AcceptedInvocation, Body, Outcome
from gpufn.runtime.clock import loop_now, utc_now
from gpufn.runtime.log import get_logger
from gpufn.store import invocations

log = get_logger("invocations")


GRACE = 1.0
"""Seconds without news after which a result that was sent has arrived."""


class Delivery:
    """One attempt to hand over the result of ``record``, which must have an outcome."""

    slice: dict[Timed, None] | None = None

    broken_body = ""

    def __init__(self, plane: Plane, edge: Edge, record: AcceptedInvocation, cors: tuple[bytes, ...]) -> None:
        self._plane = plane
        self._edge: Edge | None = edge
        self._record = record
        self._cors = cors
        self._owner, self._at = plane.journal.incarnation, utc_now()
        """What this delivery is known by."""
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self._go_on = asyncio.Event()
        self._go_on.set()

    def begin(self) -> None:
        """Do it, in the background."""
        self._task = self._plane.tasks.start(self.run(), name="delivery")

    async def run(self) -> None:
        """Claim the right to deliver, then deliver."""
        record, owner, at = self._record, self._owner, self._at
        try:
            self._begun = await self._plane.journal.do(
                lambda tx: invocations.begin_delivery(tx, record.id, owner=owner, at=at)
            )
        except Unavailable as error:
            self._begun = isinstance(error, OutcomeUnknown)
            self._settle(arrived=False)
            self._reply(problem(503, error.message, b"retry-after: 1"))
            return
        edge = self._edge
        if not self._begun:
            self._reply(problem(404))
        elif edge is None or record.outcome is None:
            self._settle(arrived=False)
        else:
            await self._hand_over(edge, record.outcome)

    async def _hand_over(self, edge: Edge, outcome: Outcome) -> None:
        try:
            outcome = await linked(self._plane, edge, self._record, outcome)
        except Unavailable as error:
            self._settle(arrived=False)
            self._reply(problem(503, error.message, b"retry-after: 1"))
            return
        lines = result_lines(outcome, self._record.id.encode(), self._cors)
        body = outcome.body
        if self._edge is None:  # it has left meanwhile
            self._settle(arrived=False)
            return
        if body.key is None:
            edge.watch(lambda arrived: self._settle(arrived=arrived))
            self._edge = None
            self._plane.deadlines.schedule(self, loop_now() + GRACE)
            edge.reply(Reply(outcome.status, tuple(lines), body.content))
            return
        pieces = await self._opened(body.key)
        if pieces is None or self._edge is None:  # nobody has had any of it
            self._settle(arrived=False)
            return
        try:
            await self._stream(edge, outcome.status, lines, body.size, pieces)
        except Unavailable as error:
            log.warning("a result cannot be read", invocation=self._record.id, error=error.message)
            edge.cut()

    async def _opened(self, key: str) -> AsyncIterator[bytes] | None:
        """What is kept under ``key``; None when it cannot be read now, and the poll was told so."""
        try:
            pieces = await self._plane.stores.objects.get(key)
        except Unavailable as error:
            self._reply(problem(503, error.message, b"retry-after: 1"))
            return None
        if pieces is None:
            self._reply(problem(500, "the stored result is not there any more"))
        return pieces

    async def _stream(
        self, edge: Edge, status: int, lines: list[bytes], size: int, pieces: AsyncIterator[bytes]
    ) -> None:
        edge.watch(lambda arrived: self._settle(arrived=arrived))
        edge.head(_head(status, size), lines, b"", last=False)
        left = size
        async for piece in pieces:
            await self._go_on.wait()
            if self._edge is None:
                return
            left -= len(piece)
            edge.more(piece, last=left <= 0)
        if left > 0:
            raise Unavailable(f"{left} of its {size} bytes are missing")
        self._plane.deadlines.schedule(self, loop_now() + GRACE)

    def expire(self, now: float) -> None:
        """Nothing was heard of the client since."""
        self._settle(arrived=True)

    def _reply(self, reply: Reply) -> None:
        edge, self._edge = self._edge, None
        if edge is not None:
            edge.reply(Reply(reply.status, (*reply.lines, *self._cors), reply.body))

    def _settle(self, *, arrived: bool) -> None:
        record, owner, at = self._record, self._owner, self._at
        if self._begun:
            self._begun = False
            self._plane.deadlines.cancel(self)
            self._plane.record(
                lambda tx: invocations.end_delivery(tx, record.id, owner=owner, at=at, arrived=arrived), "delivery"
            )

    # what the connection calls

    def body(self, data: bytes, last: bool) -> None:
        """A poll has no body to speak of."""

    def client_gone(self) -> None:
        self._edge = None
        self._go_on.set()

    def client_slow(self, on: bool) -> None:
        if on:
            self._go_on.clear()
        else:
            self._go_on.set()


async def linked(plane: Plane, edge: Edge, record: AcceptedInvocation, outcome: Outcome) -> Outcome:
    """``outcome``, or for a result that is kept as a zip the redirection to it. Raises Unavailable."""
    key = outcome.body.key
    if key is None or not outcome.body.is_archive:
        return outcome
    location = await plane.links.result(record.id, key, edge.origin())
    return Outcome(302, (b"location: " + location,), Body(0))


def show(edge: Edge, record: AcceptedInvocation, outcome: Outcome, cors: tuple[bytes, ...]) -> None:
    """Answer HEAD: what a GET would begin with. The result stays where it is."""
    lines, body = result_lines(outcome, record.id.encode(), cors), outcome.body
    if body.key is None:
        edge.reply(Reply(outcome.status, tuple(lines), body.content))
    else:
        edge.head(_head(outcome.status, body.size), lines, b"", last=True)


def _head(status: int, size: int) -> ResponseHead:
    head = ResponseHead(status, b"OK", 1)
    head.length = size
    return head

"""A status poll: for an invocation of this gateway, of another one, or one whose outcome is kept (section 7.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gpufn.gateway.accepted import Accepted
from gpufn.gateway.answers import abandoned
from gpufn.gateway.call import Edge
from gpufn.gateway.delivery import Delivery, linked, show
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import Refused, Reply, problem, trio
from gpufn.model.errors import Unavailable
from gpufn.model.invocation import ABANDONED, AcceptedInvocation, Outcome
from gpufn.runtime.clock import loop_now
from gpufn.store import invocations

LOOK_EVERY = 0.2
"""Seconds between two looks at an invocation that runs elsewhere, or whose result is being handed out: should that
fail, it is for this poll.
"""


class StatusPoll:
    """One poll, until it knows what to attach to. ``allow`` raises Refused for who may not see that invocation."""

    broken_body = ""

    def __init__(
        self,
        plane: Plane,
        edge: Edge,
        request_id: bytes,
        *,
        window: int,
        cors: tuple[bytes, ...],
        allow: Callable[[AcceptedInvocation], None],
        looks: bool = False,
    ) -> None:
        """``looks``: it is a HEAD, which waits like any other and fetches nothing."""
        self._plane = plane
        self._edge = edge
        self._id = request_id
        self._window = window
        self._cors = cors
        self._allow = allow
        self._looks = looks
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look, in the background."""
        self._task = self._plane.tasks.start(self._run(), name="poll")

    async def _run(self) -> None:
        try:
            await self._find()
        except Refused as refused:
            self._reply(refused.reply)
        except Unavailable as error:
            self._reply(problem(503, error.message, b"retry-after: 1"))

    async def _find(self) -> None:
        until = loop_now() + self._window
        while not await self._looked(until):
            if loop_now() >= until:
                self._reply(Reply(202, trio(self._id, 202)))
                return
            await asyncio.sleep(LOOK_EVERY)

    async def _looked(self, until: float) -> bool:
        """Whether this poll is over, or is somebody else's now. Raises Refused."""
        call = self._plane.calls.get(self._id)
        if isinstance(call, Accepted) and call.committed and not self._looks:
            self._allow(call.record)
            call.attach(self._edge, until - loop_now(), self._cors)
            return True
        record = await self._plane.journal.do(lambda tx: invocations.get(tx, self._id.decode()))
        if record is None:
            raise Refused(problem(404))
        self._allow(record)
        return record.outcome is not None and await self._ended(record, record.outcome)

    async def _ended(self, record: AcceptedInvocation, outcome: Outcome) -> bool:
        """Hand the outcome out; False while that is being done already."""
        if outcome == ABANDONED:
            raise Refused(abandoned())
        if record.delivered_at is not None and not record.owner:
            raise Refused(problem(404))
        if self._looks:
            show(self._edge, record, await linked(self._plane, self._edge, record, outcome), self._cors)
            return True
        if record.delivered_at is not None:
            return False
        delivery = Delivery(self._plane, self._edge, record, self._cors)
        self._edge.become(delivery)
        await delivery.run()
        return True

    def _reply(self, reply: Reply) -> None:
        self._edge.reply(Reply(reply.status, (*reply.lines, *self._cors), reply.body))

    def body(self, data: bytes, last: bool) -> None:
        """A poll has no body to speak of."""

    def client_gone(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def client_slow(self, on: bool) -> None:
        """Nothing is sent but one short answer."""

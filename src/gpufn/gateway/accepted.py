"""An invocation whose client was answered 202: it is kept until its outcome was fetched, whatever dies meanwhile.

    ACCEPTING ──committed: 202──▶ RUNNING ──outcome──▶ ENDING ──committed──▶ gone from memory; polls read the row
                                   ▲    │ the instance broke off
                    QUEUED ──slot──┘    ▼
                       ▲────────── WAITING, then the next attempt, with a higher fence

An invocation begins here when its window ends (``adopt``), or when it is taken over from a gateway that died
(``resume``). The connection of whoever polls is ``edge``; there may be none. Only who holds the fence can write the
outcome, so an invocation that runs twice ends once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from gpufn.gateway.answers import abandoned, stored, underway
from gpufn.gateway.attempt import Attempt
from gpufn.gateway.call import Edge
from gpufn.gateway.deadlines import Timed
from gpufn.gateway.delivery import Delivery
from gpufn.gateway.forward import Forward
from gpufn.gateway.http1 import ResponseHead
from gpufn.gateway.outgoing import outgoing
from gpufn.gateway.outputs import Progress
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import Reply, problem, trio
from gpufn.gateway.recording import finish, lost, next_attempt
from gpufn.gateway.results import Answer
from gpufn.gateway.slots import Slot
from gpufn.gateway.spool import Spool
from gpufn.gateway.ticket import standing
from gpufn.gateway.version import Version
from gpufn.model.errors import Conflict, Unavailable
from gpufn.model.invocation import ABANDONED, AcceptedInvocation, Body, Outcome
from gpufn.runtime.clock import loop_now, utc_now
from gpufn.store import invocations

ABANDON_MIN = 10.0
"""Seconds after which the reference gives up a call nobody asks for, at least (section 7.2)."""
RETRY_AFTER = b"retry-after: 1"
ATTEMPT_DELAY = 1.0
"""Seconds before the second attempt; doubled for each further one."""


class State(Enum):
    """Where an accepted invocation is."""

    ACCEPTING = auto()
    WAITING = auto()
    QUEUED = auto()
    RUNNING = auto()
    ENDING = auto()
    DONE = auto()


class Accepted:
    """One accepted invocation that this gateway owns."""

    broken_body = ""
    gives_way = False

    __slots__ = (
        "_accepting", "_attempt", "_cors", "_deadline", "_edge", "_outcome", "_plane", "_progress", "_seen", "_told",
        "_turn", "_until", "committed", "give_up_at", "record", "slice", "state", "version",
    )  # fmt: skip

    def __init__(self, plane: Plane, record: AcceptedInvocation, version: Version) -> None:
        self.slice: dict[Timed, None] | None = None
        self.record = record
        self.version = version
        self.state = State.QUEUED
        self._deadline = loop_now() + max((record.deadline - utc_now()).total_seconds(), 0.0)
        self.give_up_at = self._deadline
        self._plane = plane
        self._edge: Edge | None = None
        self._cors: tuple[bytes, ...] = ()
        self.committed = False
        """Whether it is recorded: before that nobody is told of it, and it is nobody else's."""
        self._turn = asyncio.Lock()
        """Held while something is written that depends on the fence, or changes it."""
        self._attempt = Attempt(plane, self, version.release)
        self._outcome: Outcome | None = None
        self._told = True
        """Whether any client knows of it: if none does, it ends with its client."""
        self._until = 0.0
        """The loop time until which the first client waits."""
        self._progress: Progress | None = None
        self._seen = 0
        """What the client was last told of how far it is."""
        self._accepting: asyncio.Task[None] | None = None

    @property
    def id(self) -> bytes:
        return self.record.id.encode()

    @property
    def nca_id(self) -> str:
        """The caller's account."""
        return self.record.nca_id

    # ------------------------------------------------------------------ beginnings

    def adopt(
        self,
        forward: Forward,
        slot: Slot,
        *,
        edge: Edge,
        cors: tuple[bytes, ...],
        request: Spool,
        until: float,
        progress: Progress | None = None,
    ) -> None:
        """Go on with a call whose window has ended (``until``), or that has made ``progress``: 202 once it is
        committed. Before its window ends it is one whose result has to be kept: its client goes on waiting.
        """
        self.state = State.ACCEPTING
        self._edge, self._cors = edge, cors
        self._told, self._until = False, until
        self._note(progress)
        self._attempt.adopt(forward, slot)
        edge.become(self)
        self._plane.calls[self.id] = self
        self._accepting = self._start(self._accept(request), "accept")

    async def _accept(self, request: Spool) -> None:
        try:
            body = await request.finish()
            self.record = replace(self.record, request=body, owner=self._plane.journal.incarnation)
            await self._plane.journal.accept(self.record)
        except (Unavailable, Conflict) as error:
            detail = f"the request could not be recorded, so it was cancelled: {error.message}"
            self._refuse(problem(409, detail) if isinstance(error, Conflict) else problem(503, detail, RETRY_AFTER))
            return
        self.committed = True
        if self.state is State.ACCEPTING:
            self.state = State.RUNNING
        if self._edge is None:
            self._cancel()  # its client has left without knowing that it was accepted
        elif self._outcome is not None:
            await self._store(self._outcome)
        elif self._progress is not None or loop_now() >= self._until:
            self._in_progress()
        else:
            self._schedule(self._until)

    def inherit(self, head: ResponseHead, body: bytes, last: bool) -> None:
        """What has come of the response so far."""
        self._attempt.answered(head, body, last)

    def resume(self) -> None:
        """Begin an attempt of an invocation that was claimed."""
        self.committed = True
        self._plane.calls[self.id] = self
        self._schedule(self._deadline)
        limit = self._plane.settings.attempts
        if self.record.attempt > limit:
            self.conclude(lost(self.record.note, limit))
        else:
            self._submit()

    def _submit(self) -> None:
        self.state = State.QUEUED
        route = self.version.route
        if route is None or not self.version.serves:
            self.withdrawn()
            return
        self.version.submit(self, loop_now(), accepted=True)
        self._plane.load.changed = True
        if self.state is State.QUEUED and not self.version.slots.ready:
            self._plane.load.urge()

    # ------------------------------------------------------------------ the request

    def start(self, slot: Slot, now: float) -> None:
        """A slot is free: make the call."""
        self.state = State.RUNNING
        record = self.record
        opening = self.version.heads[slot.instance.facts.id][0]
        length = b"Content-Length: %d\r\n" % record.request.size
        seconds = max(min(self._deadline - now, record.window), 0)
        self._attempt.start(slot, outgoing(opening, record.head, length, identity=self.id, slot=slot, seconds=seconds))

    def body(self, data: bytes, last: bool) -> None:
        """A poll has no body to speak of."""

    # ------------------------------------------------------------------ what the attempt tells

    def responded(self, answer: Answer) -> None:
        """There is a result: keep it."""
        self.state = State.ENDING
        self._start(self._keep(answer), "keep")

    async def _keep(self, answer: Answer) -> None:
        await self._ended(await answer.finish(self._plane.settings.result_max_bytes))

    def failed(self, reason: str) -> None:
        """The instance could not be reached, or broke off: try again, a bounded number of times."""
        limit = self._plane.settings.attempts
        if self.record.attempt >= limit:
            self.conclude(lost(reason, limit))
        else:
            self.state = State.WAITING
            self._start(self._try_again(reason), "again")

    async def _try_again(self, reason: str) -> None:
        await asyncio.sleep(ATTEMPT_DELAY * 2 ** (self.record.attempt - 1))
        if self._accepting is not None:
            await asyncio.wait([self._accepting])
        async with self._turn:
            ours = self.state is not State.WAITING or await self._raise_fence(reason)
        if not ours:
            self.lose()
        elif self.state is State.WAITING:
            self._submit()

    async def _raise_fence(self, reason: str) -> bool:
        ours, self.record = await next_attempt(self._plane, self.record, reason)
        return ours

    # ------------------------------------------------------------------ the outcome

    def conclude(self, reply: Reply) -> None:
        """It ends with something made here."""
        self._attempt.end()
        self.state = State.ENDING
        self._start(self._ended(stored(reply)), "end")

    async def _ended(self, outcome: Outcome) -> None:
        if self.state is State.DONE:  # cancelled or lost while its result was being kept
            self._forget(outcome.body)
            return
        self._outcome = outcome
        if self.committed:  # else its acceptance is under way, and goes on with this
            await self._store(outcome)

    async def _store(self, outcome: Outcome) -> None:
        async with self._turn:
            ours = await finish(self._plane, self.record, outcome)
        record = self.record
        edge, cors = self._edge, self._cors
        if not ours:
            self.lose()
            return
        self._leave()
        if edge is not None and outcome == ABANDONED:
            edge.reply(abandoned())
        elif edge is not None:
            delivery = Delivery(self._plane, edge, replace(record, outcome=outcome), cors)
            edge.become(delivery)
            delivery.begin()

    def lose(self) -> None:
        """Another gateway has it now: what we know is not the truth any more."""
        self.version.queue.remove(self)
        self._attempt.end()
        self._in_progress()
        self._leave()

    # ------------------------------------------------------------------ polls

    def attach(self, edge: Edge, window: float, cors: tuple[bytes, ...]) -> None:
        """A status poll waits for ``window`` seconds; an earlier one that still waits is answered 202."""
        self._in_progress()
        self._edge, self._cors, self._told = edge, cors, True
        edge.become(self)
        self._schedule(loop_now() + window)
        self.look()

    def look(self) -> None:
        """See whether the instance has told how far it is: whoever waits is told so at once (section 8.2)."""
        if self._edge is not None and self.state is State.RUNNING and self.committed:
            self._note(self._attempt.progress(self._seen))
            if self._progress is not None:
                self._in_progress()

    def _note(self, progress: Progress | None) -> None:
        if progress is not None:
            self._progress, self._seen = progress, progress.at

    def _in_progress(self) -> None:
        """Tell whoever waits: 202."""
        edge, self._edge = self._edge, None
        progress, self._progress = self._progress, None
        if edge is not None:
            self._told = True
            edge.reply(underway(self.id, progress, self._cors))
        if self.state is not State.ENDING:
            self._await_poll()

    def _await_poll(self) -> None:
        if self._plane.settings.abandon == "reference" and not self._plane.is_replaced:
            self._schedule(loop_now() + max(2.0 * self.record.window, ABANDON_MIN))
        else:
            self._schedule(self._deadline)

    def client_gone(self) -> None:
        """Whoever polled has left; the invocation goes on. Without anybody who knows of it, it does not."""
        self._edge = None
        if self.committed and not self._told:
            self._cancel()
        elif self.state is not State.ACCEPTING:
            self._await_poll()

    def client_slow(self, on: bool) -> None:
        """Nothing is sent but one short answer."""

    # ------------------------------------------------------------------ ends

    def _schedule(self, due: float) -> None:
        if self.state is not State.DONE:
            limit = due if self.state is State.ENDING else self._deadline
            self._plane.deadlines.schedule(self, min(due, limit))

    def expire(self, now: float) -> None:
        """A poll's window is over, nobody asked for too long, or the invocation takes too long."""
        if not self.committed or self.state is State.DONE:
            return
        if self.state is State.ENDING:
            self._in_progress()  # the outcome is not recorded yet, and goes to a later poll
        elif now >= self._deadline:
            self.version.queue.remove(self)
            seconds = self._plane.settings.accepted_timeout
            self.conclude(problem(504, f"no result within {seconds:g} s of the request: {self.describe()[1]}"))
        elif self._edge is not None or self._plane.is_replaced:
            self._in_progress()
        else:
            self.version.queue.remove(self)
            self._attempt.end()
            self.state = State.ENDING
            self._start(self._ended(ABANDONED), "abandon")

    def crowded_out(self) -> None:
        """Never: what was accepted gives way to nobody."""

    def withdrawn(self) -> None:
        """The version was undeployed, or has failed."""
        version = self.version
        what = f"Function id '{version.function_id}' version '{version.id}'"
        note = version.route.note if version.route is not None else "it is not deployed any more"
        self.conclude(problem(503, f"{what}: the request was accepted and cannot be served: {note or 'it failed'}"))

    def come_again(self) -> None:
        """Tell whoever polls to do so elsewhere."""
        if self.committed:
            self._in_progress()

    def shut_down(self) -> None:
        """The gateway stops: polls are told to come again, and what is left is for the next owner."""
        if self.committed:
            self._in_progress()
        else:
            self._refuse(problem(503, "the gateway is shutting down; call again", RETRY_AFTER))

    def _refuse(self, reply: Reply) -> None:
        """It was not accepted after all."""
        edge = self._edge
        self._cancel()  # should it have been recorded nevertheless
        if edge is not None:
            edge.reply(Reply(reply.status, (*reply.lines, *trio(self.id, reply.status), *self._cors), reply.body))

    def _cancel(self) -> None:
        """Nobody was told of the acceptance: undo it."""
        self._attempt.end()
        self._leave()
        record = self.record
        self._forget(record.request)
        if self._outcome is not None:
            self._forget(self._outcome.body)
        self._plane.record(lambda tx: invocations.cancel(tx, record.id, owner=record.owner), "cancel")

    def _forget(self, body: Body) -> None:
        if body.key is not None:
            self._plane.stores.forget(body.key)

    def _leave(self) -> None:
        """Nothing is left to do here."""
        self.state = State.DONE
        self._edge = None
        self._plane.deadlines.cancel(self)
        if self._plane.calls.get(self.id) is self:
            del self._plane.calls[self.id]

    def _start(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        return self._plane.tasks.start(work, name=f"invocation:{what}")

    def describe(self) -> tuple[str, str]:
        """(phase, what it is waiting for)."""
        again = f" (attempt {self.record.attempt}; before: {self.record.note})" if self.record.note else ""
        if self.state is State.QUEUED:
            phase, detail = standing(self.version, self)
            return phase, detail + again
        if self.state is State.WAITING:
            return "waiting", "waiting: the next attempt begins in a moment" + again
        return "running", "running: an instance has the request and has not answered yet" + again

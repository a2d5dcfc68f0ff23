"""One attempt to have an accepted invocation answered: a slot, the call to its instance, the result as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gpufn.gateway.forward import Forward
from gpufn.gateway.http1 import ResponseHead
from gpufn.gateway.outputs import Progress
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import ERROR_BODY_MAX, Reply, inference_error, worker_problem
from gpufn.gateway.results import Answer, receive
from gpufn.gateway.slots import Slot
from gpufn.model.errors import Unavailable
from gpufn.model.invocation import AcceptedInvocation
from gpufn.runtime.clock import loop_now


class Owner(Protocol):
    """The invocation. It is told one of these, once; then the attempt is over and its slot is free."""

    record: AcceptedInvocation

    def responded(self, answer: Answer) -> None:
        """There is a result, all of it."""
        ...

    def conclude(self, reply: Reply) -> None:
        """There is an error, and another attempt would be of no use."""
        ...

    def failed(self, reason: str) -> None:
        """The instance could not be reached, or broke off."""
        ...


class Attempt:
    """Either ``adopt`` a call under way, or ``start`` one. ``end`` it at any time."""

    __slots__ = ("_answer", "_errors", "_forward", "_go_on", "_head", "_owner", "_plane", "_release", "_slot")

    def __init__(self, plane: Plane, owner: Owner, release: Callable[[Slot], None]) -> None:
        self._plane = plane
        self._owner = owner
        self._release = release
        self._slot: Slot | None = None
        self._forward: Forward | None = None
        self._head: ResponseHead | None = None
        self._errors: list[bytes] = []
        self._answer: Answer | None = None
        self._go_on = asyncio.Event()
        self._go_on.set()

    def adopt(self, forward: Forward, slot: Slot) -> None:
        """Go on with a call that an instance has."""
        self._forward, self._slot = forward, slot
        forward.sink = self

    def start(self, slot: Slot, head: bytes) -> None:
        """Make the call."""
        self._slot = slot
        request = self._owner.record.request
        forward = self._forward = Forward(self, chunked=False)
        if request.key is None:
            forward.body(request.content, True)
        record = self._owner.record
        self._plane.open_output(slot, record.id)
        source = self._plane.assets.source(slot, head, record.id.encode(), record.nca_id)
        forward.start(source, head)
        if request.key is not None:
            self._plane.tasks.start(self._send(forward, request.key), name="invocation:send")

    async def _send(self, forward: Forward, key: str) -> None:
        """Pass on a large request from the object store."""
        try:
            pieces = await self._plane.stores.objects.get(key)
            if self._forward is not forward:
                return
            if pieces is None:
                self._conclude(worker_problem("nvcf-worker-service", 500, "the stored request is not there any more"))
                return
            async for piece in pieces:
                await self._go_on.wait()
                if self._forward is not forward:
                    return
                forward.body(piece, False)
            forward.body(b"", True)
        except Unavailable as error:
            if self._forward is forward:  # else that attempt is over, and this is not the present one's failure
                self.failed(error.message, blame=False)

    # ------------------------------------------------------------------ what the forward calls

    def hold(self, on: bool) -> None:
        if on:
            self._go_on.clear()
        else:
            self._go_on.set()

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None:
        self._head = head
        if head.status < 400:
            self._answer = receive(self._plane.stores, self._owner.record, head, self._pause)
        self.more(body, last)

    def more(self, data: bytes, last: bool) -> None:
        head, answer = self._head, self._answer
        if head is None:
            return
        if answer is None:
            self._errors.append(data)
            if last or sum(map(len, self._errors)) > ERROR_BODY_MAX:
                self._conclude(inference_error(head.status, b"".join(self._errors)[:ERROR_BODY_MAX]))
            return
        limit = self._plane.settings.result_max_bytes
        if answer.size + len(data) > limit:
            detail = f"the result is larger than {limit} bytes, which is the most kept for a later poll"
            self._conclude(worker_problem("nvcf-worker-service", 500, detail))
            return
        answer.add(data)
        if last:
            self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        self._answer = None
        try:
            answer.directory = self._slot.take_output() if self._slot is not None else None
        except OSError as error:
            answer.discard()
            detail = f"the output files could not be taken: {error.strerror}"
            self._conclude(worker_problem("nvcf-worker-service", 500, detail))
            return
        self.end()
        self._owner.responded(answer)

    def progress(self, after: int) -> Progress | None:
        """What the instance says of how far it is, if it has said so after the one known by ``after``."""
        slot = self._slot
        if slot is None or self._head is not None:
            return None
        return slot.progress(after)

    def failed(self, reason: str, *, blame: bool = True) -> None:
        if self._slot is not None:
            if blame:
                self._slot.failed(loop_now())
            self.end()
            self._owner.failed(reason)

    def _conclude(self, reply: Reply) -> None:
        self.end()
        self._owner.conclude(reply)

    def _pause(self, on: bool) -> None:
        if self._forward is not None:
            self._forward.pause(on)

    # ------------------------------------------------------------------ the end

    def end(self) -> None:
        """Nothing more is wanted of the instance. Repeating it changes nothing."""
        forward, self._forward = self._forward, None
        if forward is not None:
            forward.cancel()
            forward.part()
        self._go_on.set()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.discard()
        self._head = None
        self._errors.clear()
        slot, self._slot = self._slot, None
        if slot is not None:
            self._plane.load.changed = True
            self._release(slot)

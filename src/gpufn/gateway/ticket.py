"""A place in a version's queue, then a slot, for something that holds it until it ends: a socket, a gRPC call.

Unlike an invocation such a thing is never answered 202: it waits for its slot for a limited time, or is refused.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from gpufn.gateway.deadlines import Timed
from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import Refused, Reply, problem, queue_full
from gpufn.gateway.queue import Waiting
from gpufn.gateway.slots import Slot
from gpufn.gateway.snapshot import Grant
from gpufn.gateway.version import Version
from gpufn.runtime.clock import loop_now


class Caller(NamedTuple):
    """What was decided about a call before it waits."""

    id: bytes
    grant: Grant
    version: Version
    wait: float
    """Seconds it may wait for a slot."""


class Holder(Protocol):
    """What a ticket is for."""

    def started(self, slot: Slot) -> None:
        """The slot is yours until you end the ticket."""
        ...

    def refused(self, reply: Reply) -> None:
        """There will be no slot; the ticket has ended."""
        ...

    def shut_down(self) -> None:
        """The gateway stops: tell the client, and end."""
        ...


class Ticket:
    """``enter`` once, ``end`` as often as you like."""

    __slots__ = ("_holder", "_plane", "_since", "_slot", "_wait", "give_up_at", "id", "nca_id", "slice", "version")

    gives_way = True

    def __init__(self, plane: Plane, holder: Holder, caller: Caller) -> None:
        self.slice: dict[Timed, None] | None = None
        self.id = caller.id
        self.nca_id: str = caller.grant.principal.nca_id
        self.version = caller.version
        self._plane = plane
        self._holder = holder
        self._slot: Slot | None = None
        self._wait = caller.wait
        self._since = loop_now()
        self.give_up_at = self._since + caller.wait

    @property
    def ended(self) -> bool:
        return self not in self._plane.tickets

    def enter(self, *, prefer: str = "") -> None:
        """Take a slot or a place in the queue. Raises Refused (429) when the queue is full.

        ``prefer``: the id of the instance to be served by, if it has a slot.
        """
        plane, version = self._plane, self.version
        plane.tickets.add(self)
        slot = version.slots.take_at(prefer, self._since) if prefer and not version.queue else None
        if slot is not None:
            plane.load.changed = True
            self.start(slot, self._since)
            return
        if not version.submit(self, self._since):
            self.end()
            raise Refused(queue_full(version.queue.depth))
        plane.load.changed = True
        if self._slot is None and not self.ended:
            plane.deadlines.schedule(self, self.give_up_at)
            if not version.slots.ready:
                plane.load.urge()

    def end(self) -> None:
        """Leave the queue, or give the slot back."""
        if self.ended:
            return
        self._plane.tickets.discard(self)
        self._plane.deadlines.cancel(self)
        self.version.queue.remove(self)
        slot, self._slot = self._slot, None
        if slot is not None:
            self._plane.load.changed = True
            self.version.release(slot)

    def start(self, slot: Slot, now: float) -> None:
        """A slot is free."""
        self._slot = slot
        self._plane.deadlines.cancel(self)
        self._holder.started(slot)

    def expire(self, now: float) -> None:
        """It has waited long enough. The first words are the reference's (invocation-plane page, section 13.3)."""
        if self._slot is not None:
            return
        waited = f"failed to establish link to worker within {now - self._since:.0f} s: "
        self._refuse(problem(504, waited + standing(self.version, self)[1]))

    def withdrawn(self) -> None:
        """The version was undeployed, or failed, while this waited."""
        self._refuse(gone(self.version))

    def crowded_out(self) -> None:
        """Another account has less in a full queue."""
        self._refuse(queue_full(self.version.queue.depth))

    def shut_down(self) -> None:
        """The gateway stops."""
        self._holder.shut_down()
        self.end()

    def _refuse(self, reply: Reply) -> None:
        self.end()
        self._holder.refused(reply)


def gone(version: Version) -> Reply:
    """Why what waited for ``version`` waits no more: it was undeployed, or its deployment failed."""
    what = f"Function id '{version.function_id}' version '{version.id}'"
    route = version.route
    if route is None:
        return problem(404, f"{what}: undeployed while the request was queued; deploy it, then call again")
    return problem(503, f"{what}: cannot serve: {route.note or 'its deployment failed'}", b"retry-after: 10")


def standing(version: Version, item: Waiting) -> tuple[str, str]:
    """(phase, what it is waiting for) of something in the queue of ``version``."""
    route = version.route
    starting = route.starting if route is not None else 0
    position, waiting, ready = version.queue.position(item), len(version.queue), version.slots.ready
    phase = "queued" if ready else "starting"
    counts = f"at position {position} of {waiting}; {ready} instances ready, {starting} starting"
    note = f"; {route.note}" if route is not None and route.note else ""
    return phase, f"{phase}: {counts}{note}"

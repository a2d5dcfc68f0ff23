"""Which gateways live, and taking over what a dead one has accepted.

Nobody's clock is compared with anybody else's: a gateway moves its ``beat`` in the database, and the others look
whether it moved. One whose beat stands still for ``lease`` seconds on the observer's own clock is dead; what it owned
is claimed with a higher fence. Should it come back after all (it was stopped, not dead), its next beat is refused, and
it drops what it had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from gpufn.gateway.accepted import Accepted
from gpufn.gateway.plane import Plane
from gpufn.gateway.snapshot import Snapshot
from gpufn.gateway.version import Version
from gpufn.model.errors import Unavailable
from gpufn.model.ids import new_id
from gpufn.model.invocation import NOBODY, AcceptedInvocation
from gpufn.model.status import FunctionStatus
from gpufn.runtime.clock import loop_now
from gpufn.runtime.log import get_logger
from gpufn.store import invocations
from gpufn.store.database import Transaction
from gpufn.store.invocations import Gateway
from gpufn.wire.feed import Known

log = get_logger("ownership")

BEATS = 5
"""Beats within one lease."""
RELIST = 10.0
"""Seconds between two looks whether everything that is ours is in our hands."""


class Silence:
    """Since when each gateway's beat has stood still, on our own clock. Pure but for its memory."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: dict[str, tuple[int, float]] = {}

    def dead(self, gateways: Iterable[Gateway], owners: Collection[str], *, me: str, now: float) -> set[str]:
        """Incarnations to bury: their beat stands still, or they own something without being registered."""
        living = {g.incarnation: g.beat for g in gateways}
        self._seen = {i: seen for i, seen in self._seen.items() if i in living}
        dead = set(owners) - living.keys() - {me, NOBODY}
        for incarnation, beat in living.items():
            before = self._seen.get(incarnation)
            if before is None or before[0] != beat:
                self._seen[incarnation] = (beat, now)
            elif incarnation != me and now - before[1] > self._lease:
                dead.add(incarnation)
        return dead


class Ownership:
    """Keeps this gateway alive in the eyes of the others, and takes over from those that are not."""

    def __init__(self, plane: Plane, snapshot: Snapshot, *, name: str, unknown: Callable[[Known], Version]) -> None:
        self._plane = plane
        self._snapshot = snapshot
        self._name = name
        self._unknown = unknown
        self._lease = plane.settings.lease
        self._silence = Silence(self._lease)
        self._registered = False
        self._released = False
        self._relist_at = float("-inf")
        self._missing: dict[str, int] = {}
        """Fence by id of what is ours by the table only, as last seen."""

    async def run(self) -> None:
        """Beat and look, until cancelled."""
        troubled = False
        while not self._released:
            try:
                await self._round()
                troubled = False
            except Unavailable as error:
                if not troubled:
                    log.warning("the database cannot be used; accepted requests wait", error=error.message)
                troubled = True
            await asyncio.sleep(self._lease / BEATS)

    async def release(self) -> None:
        """We stop: leave what we own to whoever claims it."""
        owner = self._plane.journal.incarnation

        def write(tx: Transaction) -> int:
            invocations.bury(tx, [owner])
            return invocations.release(tx, owner)

        self._released = True
        if not self._registered:
            return
        self._registered = False
        try:
            left = await self._plane.journal.do(write)
        except Unavailable as error:  # the others will find us silent
            log.warning("accepted requests could not be left to the next gateway", error=error.message)
            return
        if left:
            log.info("accepted requests are left to the next gateway", count=left)

    async def _round(self) -> None:
        journal = self._plane.journal
        if not self._registered:
            me = Gateway(self._name, journal.incarnation, 0)
            await journal.do(lambda tx: invocations.register(tx, me))
            self._registered = True
        alive, gateways, owners = await journal.do(lambda tx: _look(tx, journal.incarnation))
        if not alive:
            self._fenced()
            return
        dead = self._silence.dead(gateways, owners, me=journal.incarnation, now=loop_now())
        if not self._snapshot.ready:  # before that, versions are not known
            return
        if dead or NOBODY in owners:
            await self._take_over(dead)
        if journal.incarnation in owners and loop_now() >= self._relist_at:
            self._relist_at = loop_now() + RELIST
            await self._relist()

    async def _take_over(self, dead: set[str]) -> None:
        owner = self._plane.journal.incarnation

        def write(tx: Transaction) -> list[AcceptedInvocation]:
            invocations.bury(tx, dead)
            return invocations.claim(tx, owner, of=dead, note="its gateway died")

        claimed = await self._plane.journal.do(write)
        if claimed:
            log.warning("taking over accepted requests", count=len(claimed), of=sorted(dead))
        for record in claimed:
            self.resume(record)

    async def _relist(self) -> None:
        """What is recorded as ours and is not in our hands: memory makes it fast, the table makes it true.

        Seen twice, so that nothing is taken up again that ends just now.
        """
        owner, calls = self._plane.journal.incarnation, self._plane.calls
        held = await self._plane.journal.do(lambda tx: invocations.held_by(tx, owner))
        missing = {record.id: record.fence for record in held if record.id.encode() not in calls}
        forgotten = [record for record in held if self._missing.get(record.id) == missing.get(record.id, -1)]
        self._missing = missing
        for record in forgotten:
            log.warning("taking up an accepted request that was left lying", invocation=record.id)
            self.resume(record)

    def resume(self, record: AcceptedInvocation) -> None:
        """Go on with an invocation that is ours now."""
        version = self._snapshot.version(record.version_id) or self._unknown(_deleted(record))
        Accepted(self._plane, record, version).resume()

    def _fenced(self) -> None:
        """We were taken for dead: what we had is somebody else's."""
        log.warning("this gateway was taken for dead; its accepted requests were taken over")
        for call in [c for c in self._plane.calls.values() if isinstance(c, Accepted) and c.committed]:
            call.lose()
        self._plane.journal.incarnation = new_id()
        self._registered = False


def _deleted(record: AcceptedInvocation) -> Known:
    """A version that control does not know any more."""
    return Known(
        version_id=record.version_id,
        function_id=record.function_id,
        function_name="",
        nca_id=record.nca_id,
        status=FunctionStatus.INACTIVE,
    )


def _look(tx: Transaction, incarnation: str) -> tuple[bool, list[Gateway], set[str]]:
    return invocations.beat(tx, incarnation), invocations.all_gateways(tx), invocations.owners(tx)

"""Commits of which nobody knows whether they happened, and rows that nobody has in hand: neither loses a request."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from gateway_world import ACCOUNT, F, V, World, a_world
from test_gateway_accepted import result_of
from test_gateway_handing_out import a_kept_result
from test_gateway_windows import Gate, a_detached_call, status_of

from gpufn.gateway import ownership
from gpufn.model.errors import OutcomeUnknown
from gpufn.model.ids import new_id
from gpufn.model.invocation import AcceptedInvocation, Body
from gpufn.runtime.clock import utc_now
from gpufn.store import invocations
from gpufn.store.database import Database, T, Transaction

SILENT = {"lease": 500.0}
"""No beat comes between: the commits are those that the test means."""
either = pytest.mark.parametrize("happened", [True, False])


class Doubtful:
    """The gateway's database. After ``after`` commits there is one that happens, or not, while nobody can say which."""

    def __init__(self, world: World, *, after: int, happened: bool) -> None:
        journal = world.gateway._plane.journal
        self._real: Database = journal._db
        self._left, self._happened = after, happened
        journal._db = self

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        """As the real one, but for that commit."""
        self._left -= 1
        if self._left != -1:
            return await self._real.run(fn)
        if self._happened:
            await self._real.run(fn)
        raise OutcomeUnknown("the server went away during the commit")

    async def close(self) -> None:
        """The real one is closed by whoever opened it."""


@either
async def test_a_delivery_in_doubt_is_taken_back(happened: bool) -> None:
    """When nobody knows whether a delivery has begun, the poll is told to retry, and the next one gets the result."""
    async with a_world(**SILENT) as world:
        request_id = await a_kept_result(world, b"kept")
        Doubtful(world, after=1, happened=happened)  # the first one looks it up
        assert (await world.call("GET", status_of(request_id))).status == 503
        assert (await world.call("GET", status_of(request_id))).body == b"kept"
        assert (await world.call("GET", status_of(request_id))).status == 404


@either
async def test_an_attempt_in_doubt_ends_in_a_result(happened: bool) -> None:
    """When nobody knows whether the next attempt was recorded, it is recorded once, and its result is kept."""
    async with a_world(**SILENT) as world:
        request_id = await a_detached_call(world, Gate())
        second = Gate(body=b"second")
        second.open.set()
        Doubtful(world, after=0, happened=happened)
        server = await world.instance(second)
        await world.servers[0].stop()
        await world.deploy(server)
        assert await result_of(world, request_id) == b"second"
        row = await world.databases[0].run(lambda tx: invocations.get(tx, request_id))
        assert row is not None
        assert (row.attempt, row.fence) == (2, 2)


async def test_what_is_ours_and_was_left_lying_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that names this gateway and that it does not have in hand is run, and ends."""
    monkeypatch.setattr(ownership, "RELIST", 0.1)
    async with a_world(lease=0.5) as world:
        gate = Gate(body=b"found")
        gate.open.set()
        await world.deploy(await world.instance(gate))
        now, me = utc_now(), world.gateway._plane.journal.incarnation
        left = AcceptedInvocation(
            id=new_id(), nca_id=ACCOUNT, function_id=F, version_id=V, form="pexec", head=b"", request=Body(2, b"{}"),
            window=1, accepted_at=now, deadline=now + timedelta(hours=1), owner=me,
            fence=3, attempt=1,
        )  # fmt: skip
        await world.databases[0].run(lambda tx: invocations.insert(tx, [left]))
        assert await result_of(world, left.id) == b"found"

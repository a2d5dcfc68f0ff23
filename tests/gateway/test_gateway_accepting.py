"""Between the end of a window and the commit: nobody is told 202 of what is not recorded, and everybody is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from gateway_world import PINNED, Client, World, a_world
from test_gateway_windows import ONE, Gate, a_detached_call, status_of

from gpufn.gateway.accepted import Accepted
from gpufn.model.errors import Fatal, Unavailable
from gpufn.model.ids import new_id
from gpufn.store import invocations
from gpufn.store.database import Database, T, Transaction


class Slow:
    """A database whose transactions wait until ``go_on``, or fail with ``error``."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return await self._db.run(fn)

    async def close(self) -> None:
        """Whoever made the other one closes it."""


def slowed(world: World) -> Slow:
    journal = world.gateway._plane.journal
    slow = journal._db = Slow(journal._db)
    return slow


def accepted(world: World) -> list[Accepted]:
    return [call for call in world.gateway._plane.calls.values() if isinstance(call, Accepted)]


async def being_accepted(world: World, headers: dict[str, str] | None = None) -> Client:
    """A call whose acceptance is not committed yet; its client."""
    client = await world.client()
    await client.send("POST", PINNED, ONE | (headers or {}), b"precious")
    await world.until(lambda: len(world.gateway._plane.calls) == 1)
    await asyncio.sleep(0.9)
    await world.until(lambda: len(accepted(world)) == 1)
    return client


async def test_a_gateway_that_stops_says_202_only_of_what_is_recorded() -> None:
    """A stop while an acceptance is being written answers its client when that is known, and not before."""
    async with a_world() as world:
        await world.deploy(await world.instance(Gate()))
        slow = slowed(world)
        client = await being_accepted(world)
        slow.error = Unavailable("the disk is full")
        world.gateway._plane.tasks.start(release(slow), name="release")
        await world.gateway.drain(1.0)
        assert (await client.answer()).status == 503


async def release(slow: Slow) -> None:
    await asyncio.sleep(0.3)
    slow.go_on.set()


async def test_a_gateway_taken_for_dead_keeps_what_it_is_accepting() -> None:
    """What is being accepted when a gateway learns that it was buried is nobody else's: it goes on and ends once."""
    async with a_world() as world:
        gate = Gate()
        await world.deploy(await world.instance(gate))
        slow = slowed(world)
        client = await being_accepted(world)
        world.gateway._ownership._fenced()
        slow.go_on.set()
        first = await client.answer()
        assert first.status == 202
        gate.open.set()
        found = await world.call("GET", status_of(first["nvcf-reqid"]))
        assert (found.status, found.body) == (200, b'{"late":1}')
        assert len(world.servers[0].seen) == 1


async def test_a_poll_before_the_commit_makes_no_promise() -> None:
    """A client that chose its id and polls too early does not make the gateway promise what is not recorded."""
    async with a_world() as world:
        await world.deploy(await world.instance(Gate()))
        slow = slowed(world)
        wished = new_id()
        client = await being_accepted(world, {"gpufn-invocation-id": wished})
        early = await world.client()
        await early.send("GET", status_of(wished))
        await asyncio.sleep(0.1)
        slow.error = Unavailable("the disk is full")
        slow.go_on.set()
        assert [(await client.answer()).status, (await early.answer("GET")).status] == [503, 503]


async def test_an_id_that_is_recorded_is_refused_and_changes_nothing() -> None:
    """A call that takes the id of one whose result is kept ends with 409, and the kept result is still there."""
    async with a_world() as world:
        gate = Gate()
        kept = await a_detached_call(world, gate)
        gate.open.set()
        await world.until(lambda: not world.gateway._plane.calls)
        gate.open.clear()
        refused = await world.call("POST", PINNED, ONE | {"gpufn-invocation-id": kept})
        assert (refused.status, b"fresh UUID" in refused.body) == (409, True)
        await world.until(lambda: world.is_quiet and not world.gateway._plane.calls)
        assert (await world.call("GET", status_of(kept))).body == b'{"late":1}'


async def test_a_damaged_database_is_an_answer() -> None:
    """A database that is broken for good ends calls and polls with 503 and the reason; nobody hangs."""
    async with a_world() as world:
        await world.deploy(await world.instance(Gate()))
        slow = slowed(world)
        slow.error = Fatal("the database is damaged")
        slow.go_on.set()
        found = await world.call("POST", PINNED, ONE)
        assert (found.status, "damaged" in json.loads(found.body)["detail"]) == (503, True)
        assert (await world.call("GET", status_of(new_id()))).status == 503


async def test_a_poll_ends_in_time_while_an_outcome_cannot_be_recorded() -> None:
    """When the database goes away before the outcome is written, polls are told 202 at the end of their window."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        slow = slowed(world)
        gate.open.set()
        await world.until(lambda: world.is_quiet)
        async with asyncio.timeout(3):
            assert (await world.call("GET", status_of(request_id), ONE)).status == 202
        slow.go_on.set()
        assert (await world.call("GET", status_of(request_id))).body == b'{"late":1}'


async def test_what_was_lost_to_another_gateway_leaves_the_queue() -> None:
    """A gateway that was taken for dead does not start what waits for a slot, for it is somebody else's now."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        await world.deploy()  # its instance is gone, and no other is ready
        await world.servers[0].stop()
        await world.until(lambda: "queued=1 " in repr(world.gateway))
        (call,) = accepted(world)
        call.lose()
        second = await world.instance()
        await world.deploy(second)
        await asyncio.sleep(0.1)
        assert (request_id != "", second.seen, world.is_quiet) == (True, [], True)


async def test_an_attempt_that_is_being_recorded_does_not_lose_the_outcome() -> None:
    """An outcome that comes while the next attempt is written down is recorded after it, under the new fence."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        (call,) = accepted(world)
        slow = slowed(world)
        await world.deploy()
        await world.servers[0].stop()
        await asyncio.sleep(1.3)  # the next attempt is being recorded
        call.expire(call._deadline)
        await asyncio.sleep(0.05)
        slow.go_on.set()
        await world.until(lambda: not world.gateway._plane.calls)
        record = await world.databases[0].run(lambda tx: invocations.get(tx, request_id))
        assert record is not None
        assert record.outcome is not None
        assert record.outcome.status == 504

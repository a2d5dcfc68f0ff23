"""What the controllers leave for people: events, phases, and a clean stop that is recorded as one."""

from __future__ import annotations

import asyncio

import pytest
from control_world import ControlWorld, a_database, a_spec, a_version, control, virtual_now

from gpufn.compute.fake import FailsToLaunch, FakeBackend
from gpufn.controllers.stopping import STOPPED, record_stopped
from gpufn.model.event import Event, EventKind as K
from gpufn.model.instance import InstanceStatus as S
from gpufn.model.startup import StartPhase, spans
from gpufn.settings import ControllerSettings
from gpufn.store import events, instances
from gpufn.store.events import Wanted

pytestmark = [pytest.mark.looptime]


async def history(world: ControlWorld) -> list[Event]:
    wanted = Wanted(world.version.nca_id, version_id=world.version.id)
    return await world.context.db.run(lambda tx: events.latest(tx, wanted, limit=1000))


async def kinds(world: ControlWorld) -> list[str]:
    return [e.kind.value for e in await history(world)]


async def test_a_start_is_told_step_by_step() -> None:
    """Scaling, creation, start and readiness each leave one event, in order, and readiness says where time went."""
    async with control(FakeBackend(prepare=2, ready=1)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ACTIVE")
        await asyncio.sleep(1)
        told = await history(world)

    assert [e.kind for e in told][:4] == [
        K.INSTANCE_CREATED, K.DEPLOYMENT_SCALED, K.INSTANCE_STARTING, K.INSTANCE_READY,
    ]  # fmt: skip
    assert told[1].message.endswith("1 to start, 0 to stop; desired: 1 (minimum)")
    assert told[3].message.startswith("ready after 3.")
    assert "pulling 2." in told[3].message
    assert "loading 1." in told[3].message
    assert told[-1].message == "DEPLOYING → ACTIVE"


async def test_phases_are_stored_with_their_times() -> None:
    """The time of a start is split over its phases, which add up to it."""
    async with control(FakeBackend(prepare=4, ready=2)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ACTIVE")
        (instance,) = await world.live()

    found = {span.phase: span.seconds for span in spans(instance.phases)}
    assert found[StartPhase.PULLING] == pytest.approx(4.0, abs=0.5)
    assert found[StartPhase.LOADING] == pytest.approx(2.0, abs=0.5)
    assert instance.ready_at is not None
    assert sum(s or 0 for s in found.values()) == pytest.approx(
        (instance.ready_at - instance.created_at).total_seconds(), abs=0.01
    )


async def test_a_failure_is_told_once_with_its_cause() -> None:
    """Each failed instance leaves one event with the message; the deployment that gives up leaves one with its own."""
    async with control(FailsToLaunch(), settings=ControllerSettings(attempts=2)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ERROR")
        await world.until_live(0)
        told = await history(world)

    failed = [e for e in told if e.kind is K.INSTANCE_FAILED]
    assert len(failed) == 2
    assert all("out of memory" in e.message for e in failed)
    (gave_up,) = [e for e in told if e.kind is K.DEPLOYMENT_FAILED]
    assert gave_up.is_warning
    assert "2 instances in a row failed" in gave_up.message


async def test_an_instance_that_sickens_and_recovers_is_told() -> None:
    """Health lost and regained are events, and so are the public statuses that follow from them."""
    async with control(FakeBackend(), settings=ControllerSettings(health_interval=1)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ACTIVE")
        (instance,) = await world.live()
        world.backend.sicken(instance.id, "answered 500")
        await world.until_status("DEGRADING")
        world.backend.sicken(instance.id, None)
        await world.until_status("ACTIVE")
        await asyncio.sleep(1)
        told = await history(world)

    texts = [e.message for e in told]
    assert "health check: answered 500" in texts
    assert "its health check answers again" in texts
    assert "ACTIVE → DEGRADING" in " ".join(texts)
    assert "DEGRADING → ACTIVE" in texts


async def test_scaling_down_is_told() -> None:
    """A retired instance is told to drain and to have ended."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy(a_spec(2, 2))
        await world.until_status("ACTIVE")
        await world.undeploy()
        await world.until_live(0)
        found = await kinds(world)

    assert found.count("instance.draining") == found.count("instance.ended") == 2


async def test_old_events_are_reaped() -> None:
    """Events beyond the bound go, the oldest first."""
    settings = ControllerSettings(events_max=3, resync=5)
    async with control(FakeBackend(), settings=settings) as world:
        await world.create(a_version())
        await world.deploy(a_spec(3, 3))
        await world.until_status("ACTIVE")
        await asyncio.sleep(12)
        assert len(await history(world)) == 3


async def test_a_clean_stop_is_recorded_as_one() -> None:
    """After a stop that ended everything nothing is called lost: instances are terminated, stopped with gpufn."""
    db, backend = a_database(), FakeBackend(ready=3)
    async with control(backend, db=db) as world:
        await world.create(a_version())
        await world.deploy(a_spec(2, 2))
        await asyncio.sleep(1)
    await backend.close(terminate=True)
    assert await db.run(lambda tx: record_stopped(tx, virtual_now())) == 2

    ended = await db.run(lambda tx: instances.of_version(tx, world.version.id))
    assert {(i.status, i.detail, i.failure) for i in ended} == {(S.TERMINATED, STOPPED, None)}
    async with control(backend, db=db) as after:
        after.version = world.version
        await after.until_status("ACTIVE")
        assert not [i for i in await after.instances() if i.failure]
    await db.close()

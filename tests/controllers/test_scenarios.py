"""The life of deployments, from the user's point of view, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from control_world import a_database, a_spec, a_version, control

from gpufn.compute.fake import FailsToLaunch, FakeBackend, LosesInstances, NeverHealthy, SlowToStop, UnknownImage
from gpufn.model.deployment import Autoscaling, ScalingRule
from gpufn.model.instance import InstanceStatus as S
from gpufn.runtime.clock import loop_now
from gpufn.settings import ControllerSettings
from gpufn.wire.feed import Known, Route

pytestmark = [
    pytest.mark.looptime,
]


async def test_a_deployment_becomes_active() -> None:
    """A version is ACTIVE as soon as its instance answers its health check, and gateways are told where it is."""
    async with control(FakeBackend(prepare=2, ready=1)) as world:
        await world.create(a_version())
        await world.deploy()

        assert await world.until_status("ACTIVE") == pytest.approx(3.0, abs=0.5)

        await world.until(world.routed)
        route = world.route()
        assert isinstance(route, Route)
        assert (route.status.value, route.starting, route.note) == ("ACTIVE", 0, "")
        assert (await world.deployment()).activated_at is not None


async def test_a_cold_start_is_quick() -> None:
    """The controllers add less than a tenth of a second to an instance that starts at once."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy()
        assert await world.until_status("ACTIVE") < 0.1


async def test_start_up_says_what_it_is_doing() -> None:
    """While an instance starts, its detail and the note to gateways say what it is waiting for."""
    async with control(FakeBackend(prepare=5, ready=5)) as world:
        await world.create(a_version())
        await world.deploy()
        await asyncio.sleep(2)
        route = world.route()
        assert isinstance(route, Route)
        assert (route.status.value, route.starting) == ("DEPLOYING", 1)
        assert route.note == "1 instance starting: fetching the image"
        await asyncio.sleep(5)
        assert [i.detail for i in await world.live()] == ["waiting for the health check: connection refused"]


async def test_an_unknown_image_fails_at_once() -> None:
    """A failure that trying again cannot help ends in ERROR at once, with the cause and the remedy."""
    async with control(UnknownImage()) as world:
        await world.create(a_version("nothing"))
        await world.deploy()
        assert await world.until_status("ERROR") < 1.0
        (wrong,) = (await world.condition()).health
        assert "gpufn image add DIR" in wrong.error
        assert "gpufn image add DIR" in ((await world.deployment()).failure or "")
        assert len(world.backend.launches) == 1


async def test_a_version_without_an_image_fails_with_the_remedy() -> None:
    """A Helm function cannot run here, and its deployment says so instead of waiting."""
    async with control(FakeBackend()) as world:
        await world.create(a_version(None))
        await world.deploy()
        await world.until_status("ERROR", within=5)
        assert "containerImage" in ((await world.deployment()).failure or "")


async def test_a_crash_loop_ends_in_error_and_can_be_deployed_again() -> None:
    """After the allowed attempts the deployment is in ERROR with the last message; DELETE allows a new one."""
    async with control(FailsToLaunch()) as world:
        await world.create(a_version())
        await world.deploy()

        await world.until_status("ERROR")
        assert "out of memory" in ((await world.deployment()).failure or "")
        assert len(world.backend.launches) == 3
        await asyncio.sleep(120)
        assert len(world.backend.launches) == 3

        await world.undeploy()
        assert await world.status() == "INACTIVE"
        await world.until(lambda: isinstance(world.route(), Known))
        await world.deploy()
        assert await world.status() == "DEPLOYING"
        await world.until(lambda: len(world.backend.launches) == 4)


async def test_what_never_gets_healthy_is_given_up() -> None:
    """An instance that runs but never passes its health check fails after the time allowed, and leaves nothing."""
    backend = NeverHealthy()
    async with control(backend, settings=ControllerSettings(ready_timeout=30)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ERROR", within=200)
        assert "answered 503" in ((await world.deployment()).failure or "")
        await world.until_live(0)
        assert list(await backend.list()) == []


async def test_one_hopeless_specification_does_not_fail_the_others() -> None:
    """As long as another specification runs, the deployment stays DEPLOYING and says what is wrong."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        good, bad = a_spec(), a_spec()
        await world.deploy(good, bad)
        for _ in range(6):
            await asyncio.sleep(5)
            for i in await world.live():
                if i.specification_id == bad.id:
                    world.backend.exit(i.id)
                    await asyncio.sleep(2)
        condition = await world.condition()
        assert condition.status.value in ("DEPLOYING", "ACTIVE", "DEGRADING")
        assert (await world.deployment()).failed_at is None


async def test_an_instance_that_dies_is_replaced() -> None:
    """Its end is noticed within about a second, and it is replaced at once: callers queue, they are not refused."""
    async with control(FakeBackend(prepare=2)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ACTIVE")
        (first,) = await world.live()
        await asyncio.sleep(100)

        world.backend.exit(first.id, code=137)

        assert await world.until_status("DEGRADING") < 1.5
        assert "exited with code 137" in (await world.condition()).health[0].error
        await world.until_status("ACTIVE")
        assert len(world.backend.launches) == 2


async def test_one_that_keeps_dying_is_restarted_less_and_less_often() -> None:
    """After activation a crash loop never ends in ERROR: restarts go on, with a growing pause up to the cap."""
    backend = LosesInstances()
    backend.lifetime = 1.0
    async with control(backend) as world:
        await world.create(a_version())
        await world.deploy()
        await asyncio.sleep(600)
        assert (await world.deployment()).failed_at is None
        assert 10 <= len(backend.launches) <= 18
        assert await world.status() in ("ACTIVE", "DEGRADED", "DEGRADING")


async def test_an_unhealthy_instance_gets_no_work_and_recovers() -> None:
    """A failing health check takes an instance off the route; when it passes again the same one is back."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until(world.routed)
        (one,) = await world.live()

        world.backend.sicken(one.id, "answered 503, expected 200")
        assert await world.until(lambda: not world.routed()) <= 11
        assert await world.status() == "DEGRADING"
        assert (await world.live())[0].detail == "health check: answered 503, expected 200"
        world.backend.sicken(one.id, None)
        assert await world.until(world.routed) <= 2
        assert [i.id for i in await world.live()] == [one.id]
        assert await world.status() == "ACTIVE"


async def test_one_that_stays_unhealthy_is_replaced() -> None:
    """After the time allowed an unhealthy instance is terminated and another takes its place."""
    async with control(FakeBackend(), settings=ControllerSettings(unhealthy_timeout=60)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until(world.routed)
        (one,) = await world.live()
        world.backend.sicken(one.id, "answered 503, expected 200")
        await world.until(lambda: len(world.backend.launches) == 2, within=90)
        await world.until_status("ACTIVE")
        assert list(await world.backend.list()) == [i.id for i in await world.live()] != [one.id]


async def test_scale_from_zero_and_back() -> None:
    """With a minimum of 0 nothing runs until the first request; when none has come for the idle time, nothing again."""
    async with control(FakeBackend(prepare=1)) as world:
        await world.create(a_version())
        await world.deploy(a_spec(0, 3))
        assert await world.until_status("ACTIVE") < 0.1
        await asyncio.sleep(30)
        assert world.backend.launches == []

        world.work(queued=1)
        assert await world.until(world.routed) < 1.5
        world.work(queued=0, in_flight=0)
        await asyncio.sleep(280)
        assert len(world.routed()) == 1
        await world.until_live(0, within=40)
        assert await world.status() == "ACTIVE"
        assert "no request" in (await world.deployment()).specifications[0].desired_reason


async def test_more_load_means_more_instances() -> None:
    """Instances follow the load up as soon as it proves to be one, and down again after a quiet minute."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy(a_spec(1, 4))
        await world.until_status("ACTIVE")
        world.work(queued=2, in_flight=1)
        assert await world.until(lambda: len(world.routed()) == 3) < 2.5
        world.work(queued=20, in_flight=3)
        assert await world.until(lambda: len(world.routed()) == 4) < 2
        world.work(in_flight=1)
        await asyncio.sleep(50)
        assert len(world.routed()) == 4
        await world.until_live(1, within=25)
        assert "minimum" in (await world.deployment()).specifications[0].desired_reason


async def test_a_busy_instance_is_never_one_too_many() -> None:
    """When there is less load, idle instances go, whichever they are; one that serves a long request stays with it."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy(a_spec(0, 3))
        world.work(queued=3)
        await world.until(lambda: len(world.routed()) == 3)
        newest = (await world.live())[-1]
        world.work(in_flight=1, **{newest.id: 1})
        await world.until_live(1, within=90)
        assert world.routed() == [newest.id]
        await asyncio.sleep(600)
        assert world.routed() == [newest.id]


async def test_an_instance_that_scaling_gives_up_may_finish() -> None:
    """A request that reaches an instance as it goes is finished, however long that takes."""
    async with control(FakeBackend(), settings=ControllerSettings(drain_timeout=20)) as world:
        await world.create(a_version())
        await world.deploy(a_spec(1, 2))
        await world.until_status("ACTIVE")
        world.work(queued=2)
        await world.until(lambda: len(world.routed()) == 2)
        world.work()
        await world.until(lambda: len(world.routed()) == 1, within=90)
        (last,) = [i for i in await world.instances() if i.id not in world.routed()]
        world.work(in_flight=1, **{last.id: 1})
        await asyncio.sleep(300)
        assert len(await world.live()) == 2
        world.work()
        await world.until_live(1, within=5)


async def test_a_specification_has_its_own_rules() -> None:
    """A custom configuration takes effect as soon as it is written, and is dropped as soon as it is removed."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy(a_spec(1, 9, concurrency=10))
        await world.until_status("ACTIVE")
        (one,) = await world.live()
        world.work(in_flight=3, **{one.id: 3})
        await asyncio.sleep(20)
        assert len(world.routed()) == 1
        await world.scale_by(Autoscaling(ScalingRule(3.0, 25), ScalingRule(0.5, 1)))
        assert await world.until(lambda: len(world.routed()) == 3, within=10) < 2
        assert "utilization was above 25" in (await world.deployment()).specifications[0].desired_reason
        await world.scale_by(None)
        await world.until_live(1, within=80)


async def test_a_deployment_has_its_own_idle_time() -> None:
    """An idle time of its own, written while it runs, decides when the last instance goes."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy(a_spec(0, 1))
        world.work(queued=1)
        await world.until(world.routed)
        world.work()
        await world.scale_by(Autoscaling(idle_timeout=timedelta(seconds=20)))
        assert await world.until_live(0, within=40) == pytest.approx(20, abs=3)


async def test_bounds_can_be_changed() -> None:
    """A raised minimum starts instances, a lowered maximum stops some, without touching the others."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy(a_spec(1, 1))
        await world.until_status("ACTIVE")
        (first,) = await world.live()
        await world.resize(3, 3)
        await world.until(lambda: len(world.routed()) == 3)
        await world.resize(1, 1)
        await world.until_live(1, within=150)
        assert [i.id for i in await world.live()] == [first.id]


async def test_an_instance_is_not_ended_while_it_serves() -> None:
    """A retired instance leaves the route at once and is terminated when its last request has ended."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until(world.routed)
        (one,) = await world.live()
        world.work(in_flight=1, **{one.id: 1})

        await world.undeploy()
        await world.until(lambda: not world.routed())
        await asyncio.sleep(60)
        assert [i.status for i in await world.live()] == [S.DRAINING]
        world.work()
        assert await world.until_live(0) < 2
        assert list(await world.backend.list()) == []


async def test_draining_has_an_end() -> None:
    """A request that never ends keeps an instance no longer than the drain time and the grace."""
    settings = ControllerSettings(drain_timeout=20, stop_grace=5)
    async with control(SlowToStop(), settings=settings) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until(world.routed)
        (one,) = await world.live()
        world.work(in_flight=1, **{one.id: 1})
        await world.undeploy()
        assert await world.until_live(0) == pytest.approx(25, abs=2)


async def test_an_instance_waits_for_gateways_to_learn() -> None:
    """An idle instance is not terminated before every gateway has said that it knows the new route."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until(world.routed)
        world.report()
        world.reporting = False
        await world.undeploy()
        await asyncio.sleep(5)
        assert [i.status for i in await world.live()] == [S.DRAINING]
        world.reporting = True
        assert await world.until_live(0) < 2


async def test_graceful_undeployment_serves_what_is_queued() -> None:
    """The version is INACTIVE at once; its instances stay until the queue is empty, then everything goes."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy(a_spec(1, 2))
        await world.until(world.routed)
        world.work(queued=2, in_flight=1)
        await world.until(lambda: len(world.routed()) == 2)

        await world.undeploy(graceful=True)
        assert await world.status() == "INACTIVE"
        await asyncio.sleep(30)
        route = world.route()
        assert isinstance(route, Route)
        assert route.draining
        assert len(route.instances) == 2
        world.work()
        await world.until_live(0)
        assert not await world.is_deployed()
        await world.until(lambda: isinstance(world.route(), Known))


async def test_deleting_a_version_ends_its_instances() -> None:
    """When version and deployment are gone the instances go too, and gateways hear that it is unknown."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until(world.routed)
        await world.delete_version()
        await world.until(lambda: world.route() is None)
        await world.until_live(0)
        assert list(await world.backend.list()) == []


async def test_a_restarted_control_plane_adopts_what_runs() -> None:
    """New controllers over the same database and backend go on as if nothing had happened."""
    db, backend = a_database(), FakeBackend(prepare=3)
    async with control(backend, db=db) as world:
        version = a_version()
        await world.create(version)
        await world.deploy(a_spec(2, 2))
        await asyncio.sleep(1)
    await asyncio.sleep(30)
    async with control(backend, db=db) as world:
        world.version = version
        await world.until(lambda: len(world.routed()) == 2)
        assert len(backend.launches) == 2
    await db.close()


async def test_an_instance_lost_while_control_was_down_is_replaced() -> None:
    """What vanished meanwhile, as with a reboot, is noticed and replaced."""
    db, backend = a_database(), FakeBackend()
    async with control(backend, db=db) as world:
        version = a_version()
        await world.create(version)
        await world.deploy()
        await world.until_status("ACTIVE")
    await backend.close(terminate=True)
    async with control(backend, db=db) as world:
        world.version = version
        await world.until(lambda: len(backend.launches) == 2)
        await world.until_status("ACTIVE")
        assert "vanished" in next(i.failure.message for i in await world.instances() if i.failure)
    await db.close()


async def test_after_a_restart_scaled_up_instances_stay_for_a_while() -> None:
    """New controllers do not know how high the load was, so nothing goes down in the first minute."""
    db, backend = a_database(), FakeBackend()
    async with control(backend, db=db) as world:
        version = a_version()
        await world.create(version)
        await world.deploy(a_spec(1, 3))
        world.work(queued=3)
        await world.until(lambda: len(world.routed()) == 3)
    async with control(backend, db=db) as world:
        world.version = version
        await asyncio.sleep(50)
        assert len(world.routed()) == 3
        await world.until_live(1, within=30)
    await db.close()


async def test_an_orphan_is_ended() -> None:
    """Something that runs without being recorded is terminated; what is recorded is left alone."""
    db, backend = a_database(), FakeBackend()
    async with control(FakeBackend(), db=a_database()) as other:
        await other.create(a_version())
        await other.deploy()
        await other.until_status("ACTIVE")
        (stray,) = other.backend.launches
    await backend.launch(stray)
    async with control(backend, db=db) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ACTIVE")
        await asyncio.sleep(20)
        assert list(await backend.list()) == [i.id for i in await world.live()]
    await db.close()


async def test_what_ended_long_ago_is_forgotten() -> None:
    """Ended instances are kept for the time set and then deleted, here and in the backend."""
    async with control(FakeBackend(), settings=ControllerSettings(keep_ended=100)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ACTIVE")
        await world.undeploy()
        await world.until_live(0)
        ended = loop_now()
        await asyncio.sleep(90)
        assert len(await world.instances()) == 1

        async def gone() -> bool:
            return not await world.instances()

        await world.until(gone)
        assert 100 <= loop_now() - ended <= 120
        assert world.backend.instances == {}


async def test_the_reasons_of_an_error_are_kept() -> None:
    """As long as a failed deployment exists its healthInfo does too, however old."""
    async with control(UnknownImage(), settings=ControllerSettings(keep_ended=10)) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ERROR")
        await asyncio.sleep(200)
        assert len((await world.condition()).health) == 1

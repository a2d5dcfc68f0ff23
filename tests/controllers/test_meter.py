"""Usage: what is counted, and that a restart of control counts nothing twice."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest
from control_world import BEGIN, H100, ControlWorld, a_database, a_spec, a_version, control
from hypothesis import given, strategies as st

from gpufn.compute.fake import FakeBackend
from gpufn.model.ids import AccountId, DeploymentId, FunctionId, InstanceId, SpecificationId, VersionId
from gpufn.model.instance import Instance, InstanceStatus as S
from gpufn.model.usage import Usage, spent
from gpufn.scaling.load import LoadBoard
from gpufn.store import usage
from gpufn.wire.feed import LoadReport, VersionLoad


async def used(world: ControlWorld) -> Usage:
    found = await world.context.db.run(lambda tx: usage.of_account(tx, world.version.nca_id, since=BEGIN))
    return found.get((world.version.function_id, world.version.id), Usage())


@pytest.mark.looptime
async def test_seconds_are_counted_and_idle_ones_apart() -> None:
    """Two instances for a minute, one of them busy all the time: two minutes of GPU, one of them idle."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy(a_spec(2, 2))
        await world.until_status("ACTIVE")
        busy = (await world.live())[0]
        world.work(in_flight=1, **{busy.id: 1})
        await asyncio.sleep(60)
        found = await used(world)

    assert found.gpu_seconds == found.instance_seconds == pytest.approx(120, abs=12)
    assert found.idle_gpu_seconds == pytest.approx(60, abs=6)


@pytest.mark.looptime
async def test_requests_are_counted_once() -> None:
    """What gateways have served adds up, hour by hour, also when they say it again."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        for served in (3, 3, 10):
            world.gateway_load = {world.version.id: VersionLoad(queued=0, in_flight=0, served=served)}
            world.report()
            await asyncio.sleep(7)
        first = await used(world)
        await asyncio.sleep(3600)
        world.gateway_load = {world.version.id: VersionLoad(queued=0, in_flight=0, served=11)}
        await asyncio.sleep(7)
        later = await world.context.db.run(
            lambda tx: usage.of_account(tx, world.version.nca_id, since=BEGIN + timedelta(hours=1))
        )
        both = await used(world)

    assert first.requests == 10
    assert both.requests == 11
    assert [u.requests for u in later.values()] == [1]


def test_a_gateway_that_is_older_is_not_counted_again() -> None:
    """After a restart of control a gateway's first count is where counting begins; a new gateway's counts whole."""
    board = LoadBoard(started=100.0)
    seven = {"v": VersionLoad(queued=0, in_flight=0, served=7)}
    nine = {"v": VersionLoad(queued=0, in_flight=0, served=9)}
    board.report(LoadReport(gateway="old", seq=1, age=500.0, versions=seven), now=101.0)
    board.report(LoadReport(gateway="old", seq=1, age=501.0, versions=nine), now=102.0)
    board.report(LoadReport(gateway="new", seq=1, age=0.5, versions=seven), now=102.0)

    assert board.load("v", now=102.0).served == 2 + 7


@pytest.mark.looptime
async def test_a_deleted_version_keeps_its_usage_until_it_is_old() -> None:
    """Usage outlives the version, and goes when it is older than it is kept for."""
    db = a_database()
    async with control(FakeBackend(), db=db) as world:
        await world.create(a_version())
        await world.deploy()
        await asyncio.sleep(20)
        await world.delete_version()
        await world.until_live(0)
        await asyncio.sleep(10)
        kept = await used(world)
        await world.context.db.run(lambda tx: usage.forget(tx, before=BEGIN + timedelta(hours=1)))
        gone = await used(world)
    await db.close()

    assert kept.gpu_seconds == pytest.approx(20, abs=6)
    assert gone == Usage()


@given(
    st.lists(st.integers(0, 100), min_size=2, max_size=20).map(sorted),
    st.integers(0, 50),
    st.none() | st.integers(50, 120),
    st.sampled_from([S.STARTING, S.READY, S.DRAINING]),
    st.booleans(),
)
def test_looks_add_up_whenever_they_come(
    looks: list[int], created: int, ended: int | None, status: S, busy: bool
) -> None:
    """However often one looks, the sum is the time the instance lived between the first look and the last."""
    instance = Instance(
        id=InstanceId("i"),
        deployment_id=DeploymentId("d"),
        specification_id=SpecificationId("s"),
        version_id=VersionId("v"),
        function_id=FunctionId("f"),
        nca_id=AccountId("a"),
        gpu="H100",
        instance_type=H100,
        created_at=BEGIN + timedelta(seconds=created),
        updated_at=BEGIN,
        status=status,
        ended_at=None if ended is None else BEGIN + timedelta(seconds=ended),
    )
    moments = [BEGIN + timedelta(seconds=look) for look in looks]
    parts = [spent(instance, a, b, gpus=2, busy=busy) for a, b in itertools.pairwise(moments)]
    total = sum(parts, Usage())

    until = looks[-1] if ended is None else min(looks[-1], ended)
    assert total.instance_seconds == pytest.approx(max(0, until - max(looks[0], created)))
    assert total.gpu_seconds == 2 * total.instance_seconds
    assert total.idle_gpu_seconds == (total.gpu_seconds if status is S.READY and not busy else 0)

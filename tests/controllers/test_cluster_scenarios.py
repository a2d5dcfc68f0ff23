"""Functions and tasks over several clusters, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from control_world import BEGIN, CLUSTER, H100, ControlWorld, a_context, a_spec, a_version
from task_building import a_task

from gpufn.compute.backend import Backend, Files
from gpufn.compute.fake import FakeBackend, GoesSilent
from gpufn.controllers.context import Context
from gpufn.model.cluster import Cluster, ClusterKind, ClusterMode, Connection, Gpu, Health, InstanceType
from gpufn.model.deployment import Placement
from gpufn.model.function import Health as HealthCheck
from gpufn.model.instance import Address
from gpufn.model.why import Backlog, of_version
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ControllerSettings
from gpufn.store import clusters as stored, tasks

pytestmark = pytest.mark.looptime


def a_host(name: str, capacity: int = 1) -> Cluster:
    """A Docker host with real H100."""
    return Cluster(
        id=f"id-{name}",
        name=name,
        group_id="racks",
        group_name="racks",
        region="us-east-1",
        gpus=(Gpu("H100", capacity, (InstanceType(H100, "ON-PREM.GPU.H100", 1, "one H100", gpu_memory="80Gi"),)),),
        kind=ClusterKind.DOCKER,
        connection=Connection("tcp://x:1", "x", "x", shares_files=True),
        health=Health(seen_at=BEGIN),
    )


class Clustered(ControlWorld):
    """Three clusters: the local one, which has no GPU, and the hosts east and west."""

    def __init__(self, context: Context, local: FakeBackend, hosts: dict[str, GoesSilent]) -> None:
        super().__init__(context, local)
        self.hosts = hosts

    async def maintain(self, name: str, mode: ClusterMode) -> None:
        """What the API writes for a change of mode."""
        await self.context.db.run(lambda tx: stored.set_mode(tx, f"id-{name}", mode, self.context.now()))
        self.context.fleet.learn(await self.context.db.run(stored.every))
        self.context.hints.hint("deployment", (await self.deployment()).id)

    async def where(self) -> list[str]:
        """The clusters of the live instances."""
        return sorted(i.cluster_id for i in await self.live())


@asynccontextmanager
async def clustered(capacity: int = 1, settings: ControllerSettings | None = None) -> AsyncIterator[Clustered]:
    hosts = {name: GoesSilent(host=f"10.0.0.{n}", stop=1) for n, name in enumerate(("east", "west"), 1)}
    local = FakeBackend()
    context = a_context(local, settings=settings)

    async def probe(health: HealthCheck, address: Address) -> str | None:
        answers = [await one.probe(health, address) for one in (local, *hosts.values())]
        return None if None in answers else "connection refused"

    context = replace(context, probe=probe)
    known = [replace(CLUSTER, gpus=()), *(a_host(name, capacity) for name in hosts)]
    for cluster in known:
        await context.db.run(lambda tx, one=cluster: stored.insert(tx, one))  # type: ignore[misc]
    context.fleet.learn(known)

    async def connect(cluster: Cluster, secrets: Files) -> Backend:
        return hosts[cluster.name]

    context = replace(context, connect=connect)
    world = Clustered(context, local, hosts)
    async with Supervisor() as running:
        running.start(world.controllers.run(), name="controllers", essential=True)
        running.start(world.gateway(), name="gateway", essential=True)
        await world.create(a_version())
        yield world
    await context.db.close()


async def test_instances_are_spread_and_served_where_they_are() -> None:
    """Each goes where there is room, and gateways are told the address and the group of its own cluster."""
    async with clustered() as world:
        await world.deploy(a_spec(2, 2))
        await world.until_status("ACTIVE")

        assert await world.where() == ["id-east", "id-west"]
        route = world.route()
        assert route is not None
        assert {(i.host, i.backend, i.region) for i in route.instances} == {  # type: ignore[union-attr]
            ("10.0.0.1", "racks", "us-east-1"),
            ("10.0.0.2", "racks", "us-east-1"),
        }


async def test_what_finds_no_room_waits_and_says_for_which_gpu() -> None:
    """No attempt is counted while an instance waits; it is placed as soon as a GPU is free."""
    async with clustered() as world:
        deployment = await world.deploy(a_spec(3, 3))
        await world.until(lambda: sum(len(h.launches) for h in world.hosts.values()) == 2)
        await world.until_live(3)
        await world.until_status("DEPLOYING")

        own = await world.instances()
        told = of_version("echo", deployment, own, Backlog()).sentence
        assert f"waiting for {H100}: east has 0 of 1 free; west has 0 of 1 free; local has no {H100}" in told
        await world.resize(2, 2)
        await world.until_status("ACTIVE")
        await world.until_live(2)


async def test_a_specification_is_placed_by_what_it_names() -> None:
    """A named cluster is the only one that is used, however full."""
    async with clustered(capacity=4) as world:
        await world.deploy(replace(a_spec(3, 3), placement=Placement(clusters=("west",))))
        await world.until_status("ACTIVE")

        assert await world.where() == ["id-west"] * 3


async def test_an_undeployed_function_is_ended_where_it_runs() -> None:
    """Nothing is left on any host."""
    async with clustered() as world:
        await world.deploy(a_spec(2, 2))
        await world.until_status("ACTIVE")
        await world.undeploy()
        await world.until_live(0)

        assert [await host.list() for host in world.hosts.values()] == [[], []]


async def test_what_nobody_wants_is_ended_on_every_host() -> None:
    """An instance that runs in another cluster than the one that is recorded is nobody's."""
    async with clustered() as world:
        await world.deploy(replace(a_spec(), placement=Placement(clusters=("east",))))
        await world.until_status("ACTIVE")
        await world.hosts["west"].launch(world.hosts["east"].launches[0])
        assert len(await world.hosts["west"].list()) == 1

        async def gone() -> bool:
            return not await world.hosts["west"].list()

        await world.until(gone)
        assert len(await world.hosts["east"].list()) == 1


async def test_instances_of_a_lost_cluster_are_replaced_elsewhere_and_never_doubled() -> None:
    """After a minute of silence another instance serves; when the host is back, what ran there is ended before the host
    is used again, and at no moment do gateways know both.
    """
    async with clustered() as world:
        east, west = world.hosts["east"], world.hosts["west"]
        await world.deploy(a_spec(1, 1))
        await world.until_status("ACTIVE")
        assert await world.where() == ["id-east"]
        (before,) = world.routed()

        east.silent = True
        await asyncio.sleep(50)
        assert world.routed() == [before]  # its engine is silent; what it runs may well serve

        async def replaced() -> bool:
            return await world.where() == ["id-west"] and await world.status() == "ACTIVE"

        await world.until(replaced, within=30)
        (lost,) = [i.failure for i in await world.instances() if i.failure is not None]
        assert "its cluster east is lost (nobody answers)" in lost.message
        assert len(await west.list()) == 1
        assert len(east.running()) == 1

        east.silent = False
        (now,) = world.routed()
        assert now != before

        async def fenced() -> bool:
            (known,) = await world.context.db.run(lambda tx: [stored.get(tx, "id-east")])
            return known is not None and known.answers

        await world.until(fenced)
        assert east.running() == []
        assert world.routed() == [now]


async def test_a_short_silence_costs_nothing() -> None:
    """A host that does not answer for half a minute keeps its instances, and gets nothing new meanwhile."""
    async with clustered(capacity=4) as world:
        await world.deploy(replace(a_spec(1, 2), placement=Placement(clusters=("east",))))
        await world.until_status("ACTIVE")
        (before,) = world.routed()
        world.hosts["east"].silent = True
        await asyncio.sleep(20)
        assert world.context.fleet.clusters.get("id-east").is_silent  # type: ignore[union-attr]
        await world.resize(2, 2)
        await asyncio.sleep(10)
        assert len(world.hosts["east"].launches) == 1
        assert "east does not answer" in next(i.detail for i in await world.live() if not i.cluster_id)

        world.hosts["east"].silent = False
        await world.until(lambda: len(world.routed()) == 2)
        assert before in world.routed()


async def test_nothing_new_is_placed_in_a_cluster_under_maintenance() -> None:
    """What runs there stays; a further instance goes elsewhere, or waits and says why."""
    async with clustered() as world:
        await world.deploy(a_spec(1, 1))
        await world.until_status("ACTIVE")
        await world.maintain("west", ClusterMode.CORDON)
        await world.maintain("east", ClusterMode.CORDON)
        await world.resize(2, 2)

        async def waits() -> bool:
            return await world.where() == ["", "id-east"]

        await world.until(waits)
        await asyncio.sleep(1)
        waiting = [i.detail for i in await world.live() if not i.cluster_id]
        assert "east is in maintenance; west is in maintenance" in waiting[0]
        await world.maintain("west", ClusterMode.READY)
        await world.until_status("ACTIVE")
        assert await world.where() == ["id-east", "id-west"]


async def test_a_drained_cluster_is_emptied_without_a_gap() -> None:
    """Another instance is ready elsewhere before the one that has to go leaves its route."""
    async with clustered() as world:
        world.hosts["west"].ready = 20
        await world.deploy(a_spec(1, 1))
        await world.until_status("ACTIVE")
        (before,) = world.routed()
        await world.maintain("east", ClusterMode.CORDON_AND_DRAIN)
        await asyncio.sleep(18)
        assert world.routed() == [before]

        async def moved() -> bool:
            return await world.where() == ["id-west"] and not world.hosts["east"].running()

        await world.until(moved)
        assert await world.status() == "ACTIVE"
        assert len(world.routed()) == 1


async def test_what_finds_no_other_place_is_ended_when_the_drain_is_over() -> None:
    """A cluster that is drained becomes free within its time, even where nobody can take over."""
    async with clustered(settings=ControllerSettings(cluster_drain=60)) as world:
        await world.deploy(replace(a_spec(1, 1), placement=Placement(clusters=("east",))))
        await world.until_status("ACTIVE")
        await world.maintain("east", ClusterMode.CORDON_AND_DRAIN)
        await asyncio.sleep(50)
        assert len(world.routed()) == 1
        await world.until(lambda: not world.hosts["east"].running())
        await world.until_status("DEGRADED")
        assert "east is in maintenance" in (await world.live())[0].detail
        await world.maintain("east", ClusterMode.READY)
        await world.until_status("ACTIVE")


async def test_load_goes_to_the_next_in_preferred_order_where_the_first_has_no_room() -> None:
    """The preferred specification is filled first; what finds no GPU there is started on the next one."""
    async with clustered() as world:
        east = replace(a_spec(1, 4, order=1), placement=Placement(clusters=("east",)))
        west = replace(a_spec(0, 4, order=2), placement=Placement(clusters=("west",)))
        await world.deploy(east, west)
        await world.until_status("ACTIVE")
        assert await world.where() == ["id-east"]
        world.work(queued=4, in_flight=1)

        async def spread() -> bool:
            return await world.where() == ["id-east", "id-west"]

        await world.until(lambda: len(world.routed()) == 2)
        await world.until(spread)


async def test_a_task_of_a_lost_cluster_is_queued_again_and_runs_elsewhere() -> None:
    """It counts as lost, not as failed; the host that comes back ends what it still runs of it."""
    async with clustered() as world:
        world.hosts["west"].silent = True
        await asyncio.sleep(1)
        task = a_task()
        await world.context.db.run(lambda tx: tasks.insert(tx, task))
        world.context.hints.hint("task-queue", "H100")

        async def runs_at(name: str) -> bool:
            found = await world.context.db.run(lambda tx: tasks.get(tx, task.id))
            return found is not None and found.cluster_id == name and found.started_at is not None

        await world.until(lambda: runs_at("id-east"))
        world.hosts["west"].silent, world.hosts["east"].silent = False, True
        await world.until(lambda: runs_at("id-west"), within=120)
        found = await world.context.db.run(lambda tx: tasks.get(tx, task.id))
        assert found is not None
        assert (found.attempt, found.losses, found.failures) == (2, 1, 0)

        world.hosts["east"].silent = False
        await world.until(lambda: not world.hosts["east"].running())
        assert len(world.hosts["west"].running()) == 1

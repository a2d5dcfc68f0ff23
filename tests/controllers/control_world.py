"""A control plane without HTTP for scenarios: real SQLite in memory, a fake backend, virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gpufn.auth.keyring import Keyring
from gpufn.compute.fake import FakeBackend, FakeTaskFiles
from gpufn.compute.fleet import Fleet
from gpufn.controllers.all import Controllers
from gpufn.controllers.context import Context
from gpufn.model.account import Account
from gpufn.model.cluster import Cluster, Gpu, InstanceType
from gpufn.model.deployment import Autoscaling, Deployment, DeploymentWanted, GpuSpecification
from gpufn.model.function import Definition, FunctionVersion, Health
from gpufn.model.ids import DEFAULT_ACCOUNT, DeploymentId, FunctionId, SpecificationId, VersionId, new_id
from gpufn.model.instance import Instance
from gpufn.model.status import Condition, condition
from gpufn.runtime.clock import loop_now
from gpufn.runtime.hub import Hints, Retained
from gpufn.runtime.supervisor import Supervisor
from gpufn.scaling.load import LoadBoard
from gpufn.settings import ControllerSettings, TaskSettings
from gpufn.store import accounts, deployments, functions, instances
from gpufn.store.database import Database, Sqlite, Transaction
from gpufn.store.objects import ObjectFacts, Objects
from gpufn.store.tables import metadata
from gpufn.wire.feed import LoadReport, Message, Route, VersionLoad

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
H100 = "ON-PREM.GPU.H100_1x"
CLUSTER = Cluster(
    id="c1",
    name="local",
    group_id="g1",
    group_name="local",
    region="here",
    gpus=(Gpu("H100", 8, (InstanceType(H100, "ON-PREM.GPU.H100", 1, "one H100"),)),),
)


def virtual_now() -> datetime:
    """The wall clock of a scenario: it goes as the loop's clock does."""
    return BEGIN + timedelta(seconds=loop_now())


def a_version(image: str | None = "echo", **changes: object) -> FunctionVersion:
    """A version with a container image."""
    version = FunctionVersion(
        id=VersionId(new_id()),
        function_id=FunctionId(new_id()),
        nca_id=DEFAULT_ACCOUNT,
        name="echo",
        definition=Definition(inference_url="echo", health=Health(), container_image=image),
        created_at=BEGIN,
    )
    return replace(version, **changes)  # type: ignore[arg-type]


def a_spec(minimum: int = 1, maximum: int = 1, *, concurrency: int = 1, order: int = 1) -> GpuSpecification:
    """A specification on the cluster's only GPU, as the API creates it: what is desired is the minimum."""
    return GpuSpecification(
        id=SpecificationId(new_id()),
        gpu="H100",
        instance_type=H100,
        min_instances=minimum,
        max_instances=maximum,
        max_request_concurrency=concurrency,
        preferred_order=order,
        desired=minimum,
        desired_reason="minimum",
    )


def a_deployment(version: FunctionVersion, *specs: GpuSpecification) -> Deployment:
    """A deployment of ``version``, wanted up."""
    return Deployment(
        id=DeploymentId(new_id()),
        version_id=version.id,
        function_id=version.function_id,
        nca_id=version.nca_id,
        wanted=DeploymentWanted.UP,
        specifications=specs or (a_spec(),),
        created_at=BEGIN,
        updated_at=BEGIN,
    )


def a_database() -> Sqlite:
    """An empty database in memory, with the account."""
    db = Sqlite(None)
    with db.engine.begin() as tx:
        metadata.create_all(tx)
        accounts.ensure(tx, Account(DEFAULT_ACCOUNT, "default", BEGIN))
    return db


class ControlWorld:
    """The control plane and its user: writes what the API would write, and looks at what came of it."""

    def __init__(self, context: Context, backend: FakeBackend) -> None:
        self.context, self.backend = context, backend
        self.controllers = Controllers(context)
        self.version = a_version()
        self.reporting = True
        self.gateway_load: dict[str, VersionLoad] = {}

    async def create(self, version: FunctionVersion) -> None:
        """Register a version and make it the one this world is about."""
        self.version = version
        await self.context.db.run(lambda tx: functions.insert(tx, version))
        self.context.hints.hint("version", version.id)

    async def deploy(self, *specs: GpuSpecification) -> Deployment:
        """What POST deployment writes."""
        deployment = a_deployment(self.version, *specs)
        await self.context.db.run(lambda tx: deployments.insert(tx, deployment))
        self._hint(deployment)
        return deployment

    async def undeploy(self, *, graceful: bool = False) -> None:
        """What DELETE deployment writes."""
        deployment = await self.deployment()
        if graceful:
            drained = replace(deployment, wanted=DeploymentWanted.DRAINED)
            await self.context.db.run(lambda tx: deployments.save(tx, drained))
        else:
            await self.context.db.run(lambda tx: deployments.delete(tx, deployment.id))
        self._hint(deployment)

    async def resize(self, minimum: int, maximum: int) -> None:
        """What PATCH of the first GPU specification writes."""
        deployment = await self.deployment()
        first, *rest = deployment.specifications
        changed = replace(first, min_instances=minimum, max_instances=maximum)
        await self.context.db.run(lambda tx: deployments.save(tx, replace(deployment, specifications=(changed, *rest))))
        self._hint(deployment)

    async def scale_by(self, autoscaling: Autoscaling | None) -> None:
        """What PATCH of the first GPU specification writes, for its rules."""
        deployment = await self.deployment()
        first, *rest = deployment.specifications
        changed = (replace(first, autoscaling=autoscaling), *rest)
        await self.context.db.run(lambda tx: deployments.save(tx, replace(deployment, specifications=changed)))
        self._hint(deployment)

    async def delete_version(self) -> None:
        """What DELETE version writes: the deployment goes first."""
        deployment = await self.deployment()
        await self.context.db.run(lambda tx: deployments.delete(tx, deployment.id))
        await self.context.db.run(lambda tx: functions.delete(tx, self.version.id))
        self._hint(deployment)

    def _hint(self, deployment: Deployment) -> None:
        self.context.hints.hint("deployment", deployment.id)
        self.context.hints.hint("version", deployment.version_id)

    async def deployment(self) -> Deployment:
        """The deployment of the version, which must have one."""
        found = await self.context.db.run(lambda tx: deployments.of_version(tx, self.version.id))
        assert found is not None
        return found

    async def is_deployed(self) -> bool:
        """Whether the version has a deployment."""
        return await self.context.db.run(lambda tx: deployments.of_version(tx, self.version.id)) is not None

    async def instances(self) -> list[Instance]:
        """Every recorded instance of the version."""
        return await self.context.db.run(lambda tx: instances.of_version(tx, self.version.id))

    async def live(self) -> list[Instance]:
        """Those that are live."""
        return [i for i in await self.instances() if i.is_live]

    async def condition(self) -> Condition:
        """The public status and what is wrong."""
        return await self.context.db.run(self._condition)

    def _condition(self, tx: Transaction) -> Condition:
        deployment = deployments.of_version(tx, self.version.id)
        own = instances.of_deployment(tx, deployment.id) if deployment else []
        return condition(deployment, own)

    async def status(self) -> str:
        """The public status."""
        return (await self.condition()).status.value

    def route(self) -> Message | None:
        """What gateways were last told of the version."""
        entry = self.context.feed.latest().get(f"version:{self.version.id}")
        return entry[1] if entry else None

    def routed(self) -> list[str]:
        """The instances that gateways may use."""
        message = self.route()
        return [i.id for i in message.instances] if isinstance(message, Route) else []

    def work(self, queued: int = 0, in_flight: int = 0, **busy: int) -> None:
        """From now on the gateway has that much work of the version; ``busy`` by instance id."""
        self.gateway_load = (
            {self.version.id: VersionLoad(queued=queued, in_flight=in_flight, busy=busy)} if queued or in_flight else {}
        )
        self.report()

    def report(self) -> None:
        """The gateway, which has applied everything published so far, reports."""
        report = LoadReport(gateway="gw", seq=self.context.feed.seq, versions=self.gateway_load)
        for version_id in self.context.load.report(report, now=loop_now()):
            self.context.hints.hint("load", version_id)

    async def gateway(self) -> None:
        """A gateway that reports twice a second."""
        while True:
            if self.reporting:
                self.report()
            await asyncio.sleep(0.5)

    async def until(self, happens: Callable[[], object], within: float = 60.0) -> float:
        """Wait until ``happens()`` (or what it awaits) is true; returns how many seconds that took."""
        began = loop_now()
        while True:
            answer = happens()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return loop_now() - began
            assert loop_now() - began < within, f"not within {within} s: {await self.condition()}"
            await asyncio.sleep(min(0.25, max(0.01, (loop_now() - began) / 20)))

    async def until_status(self, status: str, within: float = 60.0) -> float:
        """Wait until the public status is ``status``."""

        async def reached() -> bool:
            return await self.status() == status

        return await self.until(reached, within)

    async def until_live(self, count: int, within: float = 60.0) -> float:
        """Wait until there are exactly ``count`` live instances."""

        async def reached() -> bool:
            return len(await self.live()) == count

        return await self.until(reached, within)


class ObjectsInMemory(Objects):
    """An object store for virtual time, where no thread may be waited for."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, content: bytes | AsyncIterable[bytes]) -> None:
        """Keep it."""
        self.kept[key] = content if isinstance(content, bytes) else b"".join([piece async for piece in content])

    async def get(self, key: str) -> AsyncIterator[bytes] | None:
        """In one piece."""
        return _piece(self.kept[key]) if key in self.kept else None

    async def delete(self, *keys: str) -> None:
        """Forget them."""
        for key in keys:
            self.kept.pop(key, None)

    async def list(self, prefix: str) -> AsyncIterator[ObjectFacts]:
        """Each is as old as the beginning."""
        for key, content in [(k, c) for k, c in self.kept.items() if k.startswith(f"{prefix}/")]:
            yield ObjectFacts(key, len(content), BEGIN)


async def _piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


def a_context(
    backend: FakeBackend,
    *,
    settings: ControllerSettings | None = None,
    task_settings: TaskSettings | None = None,
    db: Database | None = None,
) -> Context:
    """Surroundings with nothing in them."""
    return Context(
        db=db or a_database(),
        objects=ObjectsInMemory(),
        fleet=Fleet(CLUSTER, backend),
        probe=backend.probe,
        hints=Hints(),
        load=LoadBoard(started=loop_now()),
        feed=Retained(),
        settings=settings or ControllerSettings(),
        keyring=Keyring.load(None, lambda content: None),
        task_files=FakeTaskFiles(),
        tasks=task_settings or TaskSettings(),
        now=virtual_now,
    )


@asynccontextmanager
async def control(
    backend: FakeBackend,
    *,
    settings: ControllerSettings | None = None,
    task_settings: TaskSettings | None = None,
    task_files: FakeTaskFiles | None = None,
    db: Database | None = None,
) -> AsyncIterator[ControlWorld]:
    """A running control plane with one gateway, over ``db`` if given; stopped, not terminated, at the end."""
    context = a_context(backend, settings=settings, task_settings=task_settings, db=db)
    if task_files is not None:
        context = replace(context, task_files=task_files)
    world = ControlWorld(context, backend)
    async with Supervisor() as tasks:
        tasks.start(world.controllers.run(), name="controllers", essential=True)
        tasks.start(world.gateway(), name="gateway", essential=True)
        yield world
    if db is None:
        await context.db.close()

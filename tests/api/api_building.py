"""Builders for the tests of the API: an installation in memory, keys, bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from fastapi import FastAPI
from obstore.store import MemoryStore

from gpufn.api.app import build
from gpufn.api.context import BackendStatus, Context
from gpufn.auth.keyring import Keyring
from gpufn.auth.keys import mint
from gpufn.auth.tokens import Signer, new_keys
from gpufn.compute.backend import ExecResult
from gpufn.compute.fake import FakeBackend
from gpufn.compute.fleet import Fleet
from gpufn.model.access import ADMIN_TOKEN_SCOPES, ALL_RESOURCES, USER_SCOPES, ApiKey, Resource
from gpufn.model.account import Account, Client
from gpufn.model.cluster import Cluster, Gpu, InstanceType
from gpufn.model.deployment import Deployment
from gpufn.model.ids import DEFAULT_ACCOUNT, AccountId, InstanceId, new_id
from gpufn.model.instance import Failure, Instance, InstanceStatus
from gpufn.runtime.clock import loop_now
from gpufn.runtime.hub import Hints
from gpufn.scaling.load import LoadBoard
from gpufn.settings import AssetSettings
from gpufn.store import accounts, deployments, instances, keys
from gpufn.store.database import Sqlite
from gpufn.store.objects import Objects
from gpufn.store.tables import metadata
from gpufn.wire.feed import LoadReport, VersionLoad

PEPPER = b"p" * 32
SIGNING = new_keys()
FREE_APPS: list[FastAPI] = []
"""Applications that no installation uses now: making one takes longer than most tests."""
NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
OTHER_ACCOUNT = AccountId("other-account")
RANDOM_ID = "6f1c0000-0000-4000-8000-000000000001"


def a_cluster() -> Cluster:
    """One cluster with H100 in two sizes and T10."""
    h100 = tuple(
        InstanceType(
            f"ON-PREM.GPU.H100_{n}x", "ON-PREM.GPU.H100", n, f"{n} H100", default=n == 1, cpu_arch="amd64", os="linux"
        )
        for n in (1, 2)
    )
    t10 = (InstanceType("ON-PREM.GPU.T10_1x", "ON-PREM.GPU.T10", 1, "1 T10", default=True),)
    gpus = (Gpu("H100", 8, h100, emulated=True), Gpu("T10", 8, t10, emulated=True))
    return Cluster("c-1", "local", "g-1", "local", "local", gpus)


@dataclass(frozen=True)
class TextLine:
    text: str
    at: datetime | None = None


@dataclass
class FakeLogs:
    """Lines per instance; following ends when they are read."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    since: datetime | None = None
    """What the last reader asked for."""
    result: ExecResult | None = None
    """What came of any command."""
    commands: list[tuple[tuple[str, ...], float]] = field(default_factory=list)

    async def exec(self, instance_id: InstanceId, command: Sequence[str], *, seconds: float) -> ExecResult | None:
        self.commands.append((tuple(command), seconds))
        return self.result

    async def logs(
        self, instance_id: InstanceId, *, follow: bool, tail: int | None, since: datetime | None = None
    ) -> AsyncIterator[TextLine]:
        self.since = since
        kept = self.lines.get(instance_id, [])
        for text in kept if tail is None else kept[len(kept) - min(tail, len(kept)) :]:
            yield TextLine(text)


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Installation:
    """An API over a database in memory, and a client that holds a key with every scope."""

    context: Context
    client: httpx.AsyncClient
    clock: Clock
    logs: FakeLogs
    hints: list[tuple[str, str]]
    key: ApiKey

    async def a_key(
        self,
        *,
        scopes: Sequence[str] = USER_SCOPES,
        resources: Sequence[Resource] = ALL_RESOURCES,
        nca_id: AccountId = DEFAULT_ACCOUNT,
        expires_at: datetime | None = None,
    ) -> str:
        """The value of a new key."""
        key, value = mint(
            pepper=PEPPER,
            nca_id=nca_id,
            owner="someone",
            scopes=scopes,
            resources=resources,
            now=self.clock(),
            expires_at=expires_at,
        )
        await self.context.db.run(lambda tx: keys.insert(tx, key))
        return value

    def a_token(
        self, client: str = "ncp", *, scopes: Sequence[str] = ADMIN_TOKEN_SCOPES, ttl: float = 3600.0, **given: Any
    ) -> str:
        """A token of ``client``."""
        now = self.clock().timestamp()
        return self.context.signer.issue(client, scopes=scopes, now=now, ttl=ttl, **given)

    async def a_function(self, **changes: Any) -> tuple[str, str]:
        """A registered function: its id and its version id."""
        answer = await self.client.post("/v2/nvcf/functions", json=a_body(**changes))
        assert answer.status_code == 200, answer.text
        made = answer.json()["function"]
        return made["id"], made["versionId"]

    async def a_deployment(self, *specs: dict[str, Any], **changes: Any) -> tuple[str, str, dict[str, Any]]:
        """A deployed function: its ids, and the deployment as it was answered."""
        fid, vid = await self.a_function(**changes)
        answer = await self.client.post(deployment_path(fid, vid), json=specs_body(*(specs or (a_spec(),))))
        assert answer.status_code == 200, answer.text
        return fid, vid, answer.json()["deployment"]

    async def observe(self, deployment_id: str, **changes: Any) -> None:
        """Write what a controller would have observed of a deployment."""
        from dataclasses import replace

        def write(tx: Any) -> None:
            found = deployments.get(tx, deployment_id)
            assert found is not None
            deployments.save(tx, replace(found, **changes))

        await self.context.db.run(write)

    async def an_instance(
        self, deployment_id: str, *, status: InstanceStatus = InstanceStatus.READY, failure: Failure | None = None
    ) -> Instance:
        """A recorded instance of the deployment's first specification."""
        found: Deployment | None = await self.context.db.run(lambda tx: deployments.get(tx, deployment_id))
        assert found is not None
        spec = found.specifications[0]
        instance = Instance(
            id=InstanceId(new_id()),
            deployment_id=found.id,
            specification_id=spec.id,
            version_id=found.version_id,
            function_id=found.function_id,
            nca_id=found.nca_id,
            gpu=spec.gpu,
            instance_type=spec.instance_type,
            created_at=NOW,
            updated_at=NOW,
            status=status,
            failure=failure,
        )
        await self.context.db.run(lambda tx: instances.insert(tx, instance))
        return instance

    def a_load(self, version_id: str, *, queued: int = 0, in_flight: int = 0) -> None:
        """A gateway reports work for a version."""
        load = VersionLoad(queued=queued, in_flight=in_flight)
        self.context.load.report(LoadReport(gateway="g", seq=0, versions={version_id: load}), now=loop_now())


@asynccontextmanager
async def an_installation(
    *, max_functions: int | None = None, assets: AssetSettings | None = None
) -> AsyncIterator[Installation]:
    """An installation with the default account, and another one."""
    db = Sqlite(None)
    metadata.create_all(db.engine)
    clock, logs, hinted = Clock(), FakeLogs(), list[tuple[str, str]]()
    hints = Hints()
    for topic in ("version", "deployment", "key", "load", "secret", "task", "task-queue", "task-secret", "cluster"):
        hints.on(topic, lambda key, topic=topic: hinted.append((topic, key)))  # type: ignore[misc]

    async def backends() -> Sequence[BackendStatus]:
        return (BackendStatus("process", True), BackendStatus("docker", False, "no socket answers"))

    context = Context(
        db=db,
        hints=hints,
        load=LoadBoard(started=loop_now()),
        fleet=Fleet(a_cluster(), FakeBackend()),
        pepper=PEPPER,
        keyring=Keyring.load(None, lambda content: None),
        signer=Signer(SIGNING, name="http://api.test"),
        logs=logs,
        objects=Objects(MemoryStore()),
        assets=assets or AssetSettings(),
        started_at=NOW - timedelta(minutes=1),
        backends=backends,
        now=clock,
    )
    key, value = mint(pepper=PEPPER, nca_id=DEFAULT_ACCOUNT, owner="admin", scopes=USER_SCOPES, now=NOW)

    def prepare(tx: Any) -> None:
        accounts.ensure(tx, Account(DEFAULT_ACCOUNT, "default", NOW, max_functions))
        accounts.ensure(tx, Account(OTHER_ACCOUNT, "other", NOW))
        accounts.add_client(tx, Client("ncp", DEFAULT_ACCOUNT, NOW))
        keys.insert(tx, key)

    await db.run(prepare)
    app = FREE_APPS.pop() if FREE_APPS else build(context)
    app.state.context = context
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=bearer(value)) as client:
        yield Installation(context, client, clock, logs, hinted, key)
    await db.close()
    FREE_APPS.append(app)


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def a_body(**changes: Any) -> dict[str, Any]:
    """The smallest container function; a change to None leaves the member out."""
    body: dict[str, Any] = {"name": "echo", "inferenceUrl": "/echo", "containerImage": "nvcr.io/acme/echo:1"}
    return {k: v for k, v in (body | changes).items() if v is not None}


def a_spec(**changes: Any) -> dict[str, Any]:
    """A specification of one H100; a change to None leaves the member out."""
    spec: dict[str, Any] = {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x", "minInstances": 1, "maxInstances": 2}
    return {k: v for k, v in (spec | changes).items() if v is not None}


def specs_body(*specs: dict[str, Any]) -> dict[str, Any]:
    return {"deploymentSpecifications": list(specs)}


def version_path(fid: str, vid: str) -> str:
    return f"/v2/nvcf/functions/{fid}/versions/{vid}"


def deployment_path(fid: str, vid: str) -> str:
    return f"/v2/nvcf/deployments/functions/{fid}/versions/{vid}"


AUTOSCALING: dict[str, Any] = {
    "scaleUpDetails": {
        "metric": "worker_utilization",
        "factor": 1.5,
        "threshold": 80,
        "stickiness": {"size": "PT30M", "threshold": "PT5M"},
    },
    "scaleDownDetails": {"factor": 0.5, "threshold": 20},
}
T10 = {"gpu": "T10", "instanceType": "ON-PREM.GPU.T10_1x"}


def spec_path(deployment: dict[str, Any], position: int = 0) -> str:
    spec = deployment["deploymentSpecifications"][position]["gpuSpecificationId"]
    return f"/v2/nvcf/deployments/{deployment['deploymentId']}/gpu-specifications/{spec}"


def an_update(deployment: dict[str, Any], position: int = 0, **changes: Any) -> dict[str, Any]:
    """A PUT element: the specification as it was read, changed; a change to None leaves the member out."""
    update = deployment["deploymentSpecifications"][position] | changes
    return {k: v for k, v in update.items() if v is not None}


async def put(it: Installation, deployment: dict[str, Any], *updates: dict[str, Any]) -> Any:
    path = deployment_path(deployment["functionId"], deployment["functionVersionId"])
    return await it.client.put(path, json=specs_body(*updates))

"""A gateway between a fake control, small instances and a client that reads responses with h11."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
from gateway_fakes import FakeControl, Handler, Server, echo

from gpufn.auth.keys import digest
from gpufn.gateway.server import Gateway, Sockets
from gpufn.model.status import FunctionStatus
from gpufn.settings import DatabaseSettings, GatewaySettings
from gpufn.store import migrate
from gpufn.store.database import Database, Sqlite
from gpufn.store.objects import Objects, open_objects
from gpufn.store.opening import open_database
from gpufn.store.tables import metadata
from gpufn.store.threaded import ThreadedSqlite
from gpufn.wire.feed import (
    KeyGone,
    KeyGrant,
    Known,
    Route,
    RouteGone,
    RouteInstance,
)

PEPPER = b"p" * 32
KEY = "nvapi-test-key"
ACCOUNT = "nvcf-default"
F = "11111111-1111-4111-8111-111111111111"
V = "22222222-2222-4222-8222-222222222222"
V2 = "33333333-3333-4333-8333-333333333333"
ABSENT = "99999999-9999-4999-8999-999999999999"
PEXEC = f"/v2/nvcf/pexec/functions/{F}"
PINNED = f"{PEXEC}/versions/{V}"
SCOPES = ("invoke_function", "queue_details")
EVERYTHING = (("account-functions", "*"),)


@dataclass
class Answer:
    """A response as the client saw it."""

    status: int
    lines: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))


class Client:
    """One connection to the gateway; responses are judged by h11."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._h11 = h11.Connection(h11.CLIENT)

    async def send(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Send a request with KEY, unless ``headers`` say otherwise (an empty value leaves a header out)."""
        fields = {"Host": "127.0.0.1", "Authorization": f"Bearer {KEY}", "Content-Length": str(len(body))}
        given = headers or {}
        fields = {k: v for k, v in fields.items() if k.lower() not in {g.lower() for g in given}} | given
        head = "".join(f"{k}: {v}\r\n" for k, v in fields.items() if v)
        self.writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await self.writer.drain()

    async def head(self, method: str = "POST") -> Answer:
        """The next response head."""
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        if self._h11.our_state is h11.IDLE:
            self._h11.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
            self._h11.send(h11.EndOfMessage())
        while isinstance(event := await self._event(), h11.InformationalResponse):
            pass
        assert isinstance(event, h11.Response), event
        return Answer(event.status_code, [(k.decode(), v.decode("latin-1")) for k, v in event.headers])

    async def data(self) -> bytes | None:
        """The next piece of the body, or None at its end."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        return None

    async def answer(self, method: str = "POST") -> Answer:
        """The next whole response."""
        found = await self.head(method)
        pieces = []
        while (piece := await self.data()) is not None:
            pieces.append(piece)
        found.body = b"".join(pieces)
        return found

    async def call(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a request and wait for the whole response."""
        await self.send(method, target, headers, body)
        return await self.answer(method)

    async def closed(self) -> bool:
        """Whether the gateway ends the connection, and sends nothing before."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def _event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self.reader.read(65536))
        return event

    def close(self) -> None:
        self.writer.close()


DATABASE = DatabaseSettings()
"""Where worlds keep what they accept; a test that wants another database puts it here."""


@dataclass
class World:
    """Everything, running."""

    control: FakeControl
    directory: Path
    settings: GatewaySettings
    gateway: Gateway = field(init=False)
    port: int = field(init=False)
    grpc_port: int = field(init=False)
    gateways: list[Gateway] = field(default_factory=list)
    databases: list[Database] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)

    @property
    def objects(self) -> Objects:
        """The object store."""
        return open_objects("", self.directory / "objects")

    @property
    def instances(self) -> Path:
        """Where the directories of instances are."""
        return self.directory / "instances"

    def another(self, name: str) -> Gateway:
        """One more gateway of this installation, not started."""
        opened = open_database(DATABASE, self.directory / "gpufn.db")
        db = ThreadedSqlite(opened) if isinstance(opened, Sqlite) else opened
        gateway = Gateway(
            self.settings,
            Sockets(self.control.socket, self.control.feed),
            db=db,
            objects=self.objects,
            instances=self.instances,
            pepper=PEPPER,
            name=name,
        )
        self.databases.append(db)
        self.gateways.append(gateway)
        return gateway

    async def move_to(self, gateway: Gateway) -> None:
        """Start ``gateway``; from now on it is the one that is called."""
        self.gateway = gateway
        self.port, grpc_port = await gateway.start("127.0.0.1", 0, 0)
        self.grpc_port = grpc_port or 0
        await self.settled()

    async def kill(self) -> None:
        """The gateway ends as after ``kill -9``: it writes nothing more and every connection breaks."""
        gateway = self.gateway
        await gateway._tasks.close()
        for edge in list(gateway._service.edges):
            edge.cut()
        for call in list(gateway._plane.calls.values()):
            call.version.slots.update(())
        gateway._plane.deadlines.stop()

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def call(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        client = await self.client()
        try:
            return await client.call(method, target, headers, body)
        finally:
            client.close()

    async def instance(self, handler: Handler = echo) -> Server:
        """A running instance."""
        server = Server(handler)
        await server.start()
        self.servers.append(server)
        return server

    async def deploy(self, *servers: Server, slots: int = 1, version: str = V, **facts: Any) -> None:
        """Publish a route to ``servers``."""
        self.control.publish(f"version:{version}", a_route(*servers, slots=slots, version=version, **facts))
        await self.settled()

    async def undeploy(self, version: str = V) -> None:
        self.control.publish(f"version:{version}", a_known(version))
        await self.settled()

    async def settled(self) -> None:
        """Wait until the gateway has applied what was published."""
        async with asyncio.timeout(5):
            while self.gateway.seq < self.control.seq or not self.gateway.synced:  # noqa: ASYNC110 -- looks from outside
                await asyncio.sleep(0.002)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that happens soon."""
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 -- looks from outside
                await asyncio.sleep(0.002)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is queued and no slot is taken."""
        return " queued=0 in_flight=0 " in repr(self.gateway)


def a_route(*servers: Server, slots: int = 1, version: str = V, **facts: Any) -> Route:
    instances = tuple(
        RouteInstance(
            id=f"i-{server.port}", host="127.0.0.1", port=server.port, slots=slots, gpu="H100",
            instance_type="ON-PREM.GPU.H100_1x", shared_dir="/var/inf",
        )
        for server in servers
    )  # fmt: skip
    fields: dict[str, Any] = {
        "version_id": version, "function_id": F, "function_name": "echo", "nca_id": ACCOUNT,
        "status": FunctionStatus.ACTIVE, "inference_path": "/infer", "backend": "local", "region": "here",
        "instances": instances,
    }  # fmt: skip
    return Route(**(fields | facts))


def a_known(version: str = V, status: FunctionStatus = FunctionStatus.INACTIVE) -> Known:
    return Known(version_id=version, function_id=F, function_name="echo", nca_id=ACCOUNT, status=status)


def a_key(key: str = KEY, **facts: Any) -> KeyGrant:
    fields: dict[str, Any] = {
        "key_id": f"id-{key}", "digest": digest(PEPPER, key.encode()).hex(), "nca_id": ACCOUNT, "owner": "tester",
        "scopes": SCOPES, "resources": EVERYTHING,
    }  # fmt: skip
    return KeyGrant(**(fields | facts))


def gone(version: str = V) -> RouteGone:
    return RouteGone(version_id=version)


def revoked(key: str = KEY) -> KeyGone:
    return KeyGone(key_id=f"id-{key}")


def _create_tables(path: Path) -> None:
    """A database with every table, as control leaves it."""
    if DATABASE.url:
        migrate.upgrade(open_database(DATABASE, path))
        return
    database = Sqlite(path)  # much faster than migrations
    metadata.create_all(database.engine)
    database.engine.dispose()


@contextlib.asynccontextmanager
async def a_world(**settings: Any) -> AsyncIterator[World]:
    """A gateway with one key and no version, in sync with control. Ends with nothing left behind."""
    with tempfile.TemporaryDirectory() as directory:
        control = FakeControl(Path(directory))
        await control.start()
        control.publish("key", a_key())
        _create_tables(Path(directory) / "gpufn.db")
        world = World(control, Path(directory), GatewaySettings(**settings))
        try:
            await world.move_to(world.another("gw-test"))
            yield world
        finally:
            await _end(world)


async def _end(world: World) -> None:
    for client in world.clients:
        client.close()
    for gateway in world.gateways:
        await gateway.close()
    for db in world.databases:
        await db.close()
    for server in world.servers:
        await server.stop()
    await world.control.stop()
    await asyncio.sleep(0.01)

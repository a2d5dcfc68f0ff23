"""The gateway: one listening port, what control feeds it, and the calls under way."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpufn.gateway.accepted import Accepted
from gpufn.gateway.assets import Assets
from gpufn.gateway.budget import Budget
from gpufn.gateway.control import Control
from gpufn.gateway.edge import Connection
from gpufn.gateway.feed import follow
from gpufn.gateway.grpc_edge import GrpcEdges
from gpufn.gateway.journal import Journal
from gpufn.gateway.links import Links
from gpufn.gateway.listening import BACKLOG, Listening, listen
from gpufn.gateway.load import Load
from gpufn.gateway.looking import look
from gpufn.gateway.ownership import Ownership
from gpufn.gateway.plane import Plane
from gpufn.gateway.proxy import Proxy
from gpufn.gateway.service import Service
from gpufn.gateway.snapshot import Snapshot
from gpufn.gateway.spool import Stores
from gpufn.gateway.upstream import Pool
from gpufn.gateway.version import Version
from gpufn.runtime.clock import monotonic
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import GatewaySettings
from gpufn.store.database import Database
from gpufn.store.objects import Objects
from gpufn.wire.feed import Known, LoadReport, Route

DRAIN_LOOK = 0.02
"""Seconds between two looks at whether everything has ended, while draining."""


@dataclass(frozen=True)
class Sockets:
    """Where control answers."""

    control: Path
    feed: Path


READY_WAIT = 5.0
"""Seconds that a gateway waits for control to tell it everything, before it takes requests anyway."""
LAST_REQUESTS = 2.0
"""Seconds in which clients may still send on connections that are kept alive, before idle ones are closed."""


class Gateway:
    """Serves invocations and relays the rest. ``start``, then ``drain`` (optional), then ``close``."""

    def __init__(
        self,
        settings: GatewaySettings,
        sockets: Sockets,
        *,
        db: Database,
        objects: Objects,
        instances: Path,
        pepper: bytes,
        name: str,
        public_url: str = "",
    ) -> None:
        """``instances``: where the directories of the instances on this machine are. ``public_url``: how URLs begin
        that are handed out; empty: with the address that the client calls.
        """
        self._settings = settings
        self._name = name
        self._began = monotonic()
        self._tasks = Supervisor()
        self._plane = Plane(
            settings=settings,
            load=Load(),
            memory=Budget(each_max=settings.envelope_max_bytes, total_max=settings.envelopes_total_bytes),
            tasks=self._tasks,
            journal=Journal(db),
            stores=Stores(objects, self._tasks),
            assets=Assets(objects, self._tasks, instances),
            links=Links(objects, pepper, public_url),
        )
        self._snapshot = Snapshot(self._version)
        self._ownership = Ownership(self._plane, self._snapshot, name=name, unknown=self._version)
        self._relay = Pool(settings, self._tasks, path=sockets.control, patience=settings.control_patience)
        self._control = Control(sockets.feed, timeout=settings.connect_timeout)
        self._service = Service(self._plane, self._snapshot, control=self._relay, pepper=pepper)
        self._served: dict[str, int] = {}
        self._grpc = GrpcEdges(self._plane, self._service)
        self._servers: list[asyncio.Server] = []

    def __repr__(self) -> str:
        versions = list(self._snapshot.versions())
        queued = sum(len(v.queue) for v in versions)
        in_flight = sum(v.slots.busy for v in versions)
        free = sum(v.slots.free for v in versions)
        return f"<Gateway {self._name} queued={queued} in_flight={in_flight} free={free}>"

    @property
    def synced(self) -> bool:
        """Whether the present connection to control has sent everything."""
        return self._snapshot.synced

    @property
    def seq(self) -> int:
        """The last feed sequence number applied."""
        return self._snapshot.seq

    async def start(self, host: str, port: int, grpc_port: int | None = None) -> tuple[int, int | None]:
        """Listen, and follow control. Returns both ports (0 picks one). Raises Fatal when one is taken."""
        listening = listen(host, port)
        grpc = listen(host, grpc_port) if grpc_port is not None else None
        await self.serve(Listening(listening, grpc))
        return int(listening.getsockname()[1]), int(grpc.getsockname()[1]) if grpc is not None else None

    async def serve(self, listening: Listening, *, certificates: ssl.SSLContext | None = None) -> None:
        """Serve on sockets that listen already, and follow control. ``certificates``: for TLS and the proxy."""
        self._plane.deadlines.start()
        self._tasks.start(self._plane.journal.run(), name="gateway:journal")
        self._tasks.start(self._ownership.run(), name="gateway:ownership")
        self._tasks.start(look(self._plane), name="gateway:progress")
        self._tasks.start(follow(self._snapshot, self._control), name="gateway:feed")
        self._tasks.start(self._plane.load.report(self._control, self._report), name="gateway:load")
        await self._wait_ready()
        await self._listen(listening.http, lambda: Connection(self._service))
        if listening.grpc is not None:
            await self._listen(listening.grpc, self._grpc.connection)
        if certificates is not None and listening.tls is not None:
            await self._listen(listening.tls, self._grpc.connection, certificates)
        if certificates is not None and listening.proxy is not None:
            context, tasks, deadlines = certificates, self._tasks, self._plane.deadlines
            own = int(listening.tls.getsockname()[1]) if listening.tls is not None else None
            await self._listen(
                listening.proxy,
                lambda: Proxy(self._grpc.connection, context, own_port=own, tasks=tasks, deadlines=deadlines),
            )

    async def _wait_ready(self) -> None:
        """Clients had better wait in the backlog than be told that we know nothing yet; but not for long."""
        try:
            async with asyncio.timeout(READY_WAIT):
                while not self._snapshot.ready:  # noqa: ASYNC110 -- once per process, bounded by the timeout
                    await asyncio.sleep(DRAIN_LOOK)
        except TimeoutError:
            return

    async def _listen(
        self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(protocol, sock=listening, backlog=BACKLOG, ssl=tls))

    async def drain(self, grace: float, *, succeeded: bool = False) -> None:
        """Take nothing new and let what runs end for ``grace`` seconds. The rest is answered 503, or, if it was
        accepted, left to the next gateway; who polls is told at once to come again.

        ``succeeded``: another gateway takes new connections already. What comes on the present ones is still served,
        and they are closed after it.
        """
        self._service.stopping = True
        self._service.refusing = not succeeded
        self._plane.is_replaced = succeeded
        for server in self._servers:
            server.close()
        self._grpc.shut()
        if succeeded:
            await asyncio.sleep(LAST_REQUESTS)
        for edge in list(self._service.edges):
            edge.close_if_idle()
        for accepted in self._accepted():
            accepted.come_again()
        await self._until_quiet(grace)
        for call in list(self._plane.calls.values()):
            call.shut_down()
        for ticket in list(self._plane.tickets):
            ticket.shut_down()
        await self._ownership.release()

    async def _until_quiet(self, grace: float) -> None:
        try:
            async with asyncio.timeout(grace):
                while not self._is_quiet():  # noqa: ASYNC110 -- once per process, bounded by the timeout
                    await asyncio.sleep(DRAIN_LOOK)
        except TimeoutError:
            return

    async def close(self) -> None:
        """End everything now."""
        await self.drain(0)
        await self._tasks.close()
        for edge in list(self._service.edges):
            edge.cut()
        for version in self._snapshot.versions():
            version.withdraw()
        self._grpc.cut()
        self._relay.close()
        self._plane.deadlines.stop()
        for server in self._servers:
            await server.wait_closed()
        await asyncio.sleep(0)  # transports end in the next turn of the loop

    def _is_quiet(self) -> bool:
        """No client waits for anything, and nothing that was accepted runs."""
        return self._grpc.are_idle and all(edge.is_idle for edge in self._service.edges) and not self._plane.calls

    def _accepted(self) -> list[Accepted]:
        return [call for call in self._plane.calls.values() if isinstance(call, Accepted)]

    def _version(self, facts: Route | Known) -> Version:
        return Version(facts, depth=self._settings.queue_depth, pools=self._pool)

    def _pool(self, host: str, port: int) -> Pool:
        return Pool(self._settings, self._tasks, host=host, port=port)

    def _report(self) -> LoadReport:
        loads = {version.id: version.load() for version in self._snapshot.versions()}
        before, self._served = self._served, {name: load.served for name, load in loads.items() if load.served}
        busy = {
            name: load
            for name, load in loads.items()
            if load.queued or load.in_flight or load.served != before.get(name, 0)
        }
        age = monotonic() - self._began
        return LoadReport(gateway=self._name, seq=self._snapshot.seq, age=age, versions=busy)

"""The control role: database, controllers, compute backends, and the two HTTP APIs on their Unix sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from gpufn.api import app, internal
from gpufn.api.context import BackendStatus, Context as ApiContext
from gpufn.api.throttle import Throttle
from gpufn.auth.tokens import Signer
from gpufn.compute import gpus
from gpufn.compute.backend import BackendError
from gpufn.compute.catalog import Catalog
from gpufn.compute.docker import DockerBackend, this_machine
from gpufn.compute.fleet import Fleet
from gpufn.compute.local import LocalBackend
from gpufn.compute.probes import probe
from gpufn.compute.process import ProcessBackend
from gpufn.compute.task_files import LocalTaskFiles
from gpufn.controllers.all import Controllers
from gpufn.controllers.context import Context as ControllersContext
from gpufn.controllers.stopping import record_stopped
from gpufn.model.cluster import ClusterKind
from gpufn.model.errors import Fatal, Unavailable
from gpufn.model.ids import InstanceId
from gpufn.model.registry import with_custom
from gpufn.runtime.clock import loop_now, utc_now
from gpufn.runtime.hub import Hints, Retained
from gpufn.runtime.log import get_logger
from gpufn.runtime.supervisor import Supervisor
from gpufn.scaling.load import LoadBoard
from gpufn.server import bootstrap
from gpufn.server.data import DataDirectory
from gpufn.server.inside import Inside
from gpufn.server.places import Places
from gpufn.settings import Settings, load_issuers
from gpufn.store import clusters, migrate
from gpufn.store.database import Database, Sqlite
from gpufn.store.objects import open_objects
from gpufn.store.opening import OpenDatabase, open_database
from gpufn.store.wal import is_missing
from gpufn.store.watched import Watched
from gpufn.wire.feed import Message

log = get_logger("control")


@dataclass
class Control:
    """The role while it runs. ``tasks.wait_failed`` raises when an essential part of it has failed."""

    first_boot: bool
    """Whether it made the admin key."""
    tasks: Supervisor
    hands_over: bool = False
    """Set before the end: a successor takes the instances over, so they are left running."""


@asynccontextmanager
async def running(settings: Settings, *, succeeded: bool = False) -> AsyncIterator[Control]:
    """The control role, serving. On exit instances are ended and nothing is left running; only when it fails and will
    be ``succeeded`` by another one are they left for that to take over.

    The data directory is locked already. Raises Fatal when it cannot start.
    """
    leave = succeeded
    data = DataDirectory(settings.data)
    opened = open_database(settings.database, data.database)
    first_boot = await _prepare(opened, data, settings)
    db = Watched(opened)
    keyring, signer = data.keyring(), _signer(settings, data)
    hints, load, feed = Hints(), LoadBoard(started=loop_now()), Retained[Message]()
    objects = open_objects(settings.objects.url, data.objects)
    async with Supervisor() as outer:
        computing = await _computing(settings, data, db, outer, tell=partial(hints.hint, "seen"))
        shared = ControllersContext(
            db,
            computing.fleet,
            probe,
            hints,
            load,
            feed,
            settings.controllers,
            keyring,
            objects,
            task_files=LocalTaskFiles(data.tasks),
            tasks=settings.tasks,
            own_issuer=signer.issuer,
            external_issuers=load_issuers(settings),
            connect=computing.places.connect,
        )
        controllers = Controllers(shared)
        context = _api_context(settings, data, shared, signer=signer, db=db, backend=computing.local)
        await _open(computing.local)
        try:
            async with Supervisor() as tasks:
                tasks.start(controllers.run(), name="controllers", essential=True)
                await _serve(tasks, "api", data.control_socket, app.build(context))
                await _serve(tasks, "feed", data.feed_socket, internal.build(feed, load, hints))
                role = Control(first_boot, tasks)
                yield role
            leave = role.hands_over
        finally:
            await computing.fleet.close(terminate=not leave)
            if not leave:
                await _record_stopped(db)
            await db.close()


@dataclass(frozen=True)
class Computing:
    """What runs instances: all clusters, this machine's backend, and the way to the others."""

    fleet: Fleet
    local: LocalBackend
    places: Places


async def _computing(
    settings: Settings, data: DataDirectory, db: Database, tasks: Supervisor, *, tell: Callable[[InstanceId], None]
) -> Computing:
    """The clusters that are registered, with this machine as it is now."""
    devices = gpus.detect()
    local = gpus.local_cluster(settings.cluster, devices)
    held = gpus.Devices(devices)
    process = ProcessBackend(
        settings.process, data=data.root, catalog=Catalog(data.images), supervisor=tasks, devices=held, tell=tell
    )
    backend = _backend(settings, data, process, held, tasks)
    await db.run(lambda tx: clusters.ensure_local(tx, local))
    fleet = Fleet(local, backend, owns=backend.owns)
    fleet.learn(await db.run(clusters.every))
    return Computing(fleet, backend, Places(settings.docker, data.root, process.installation, tasks))


def _api_context(
    settings: Settings,
    data: DataDirectory,
    shared: ControllersContext,
    *,
    signer: Signer,
    db: Watched,
    backend: LocalBackend,
) -> ApiContext:
    return ApiContext(
        db,
        shared.hints,
        shared.load,
        shared.fleet,
        data.pepper(),
        shared.keyring,
        signer,
        Inside(db, shared.fleet),
        shared.objects,
        started_at=utc_now(),
        registries=with_custom(settings.registries.custom),
        backends=lambda: _report(backend, shared.fleet),
        database_problem=db.problem,
        assets=settings.assets,
        public_url=settings.server.public_url,
        identity=settings.identity,
        issuers=shared.issuers,
        task_rate=Throttle(settings.tasks.rate),
    )


async def _record_stopped(db: Database) -> None:
    try:
        await db.run(lambda tx: record_stopped(tx, utc_now()))
    except Unavailable as error:  # the next start then calls them lost, and replaces them all the same
        log.warning("the end of the instances could not be recorded", error=error.message)


async def _open(backend: LocalBackend) -> None:
    try:
        await backend.open()
    except BackendError as error:
        raise Fatal(f"no functions can run: {error}") from error


async def _serve(tasks: Supervisor, name: str, path: Path, application: Any) -> None:
    """Have ``application`` answer on a Unix socket; returns once it does."""
    server = _Server(application)
    tasks.start(server.serve([listen(path)]), name=name, essential=True)
    await server.wait_started()


async def _prepare(db: OpenDatabase, data: DataDirectory, settings: Settings) -> bool:
    """Bring the database up to date and see that there is an admin key; whether that is new."""
    if isinstance(db, Sqlite) and db.path is not None and data.admin_key.exists() and is_missing(db.path):
        raise Fatal(  # the key is made when there is a database, so there was one
            f"the database {db.path} is gone; put it back, restore a backup with `gpufn restore`, or remove "
            f"{data.admin_key} to begin anew with an empty one",
            exit_code=4,
        )
    backup = migrate.upgrade(db)
    if backup is not None:
        log.info("the database was migrated", former_state=str(backup))
    return await bootstrap.ensure_admin(db, data, client=settings.identity.admin_client)


def _signer(settings: Settings, data: DataDirectory) -> Signer:
    try:
        return Signer(data.signing_keys(), name=settings.identity.issuer)
    except ValueError as error:
        raise Fatal(f"signing.json in {data.root} is damaged: {error}; delete it, and a new one is made") from error


def _backend(
    settings: Settings, data: DataDirectory, process: ProcessBackend, devices: gpus.Devices, tasks: Supervisor
) -> LocalBackend:
    if settings.docker.enabled not in ("auto", "yes", "no"):
        raise Fatal(f"docker.enabled = {settings.docker.enabled!r}: use auto, yes or no", exit_code=2)
    docker = None
    if settings.docker.enabled != "no":
        site = this_machine(settings.docker, installation=process.installation, data=data.root)
        docker = DockerBackend(settings.docker, site, supervisor=tasks, data=data.root, devices=devices)
    return LocalBackend(process, docker, docker_required=settings.docker.enabled == "yes")


async def _report(backend: LocalBackend, fleet: Fleet) -> Sequence[BackendStatus]:
    """The backends of this machine, then the other clusters."""
    local = [BackendStatus(name, not problem, problem) for name, problem in (await backend.health()).items()]
    others = [c for c in fleet.clusters.all if c.kind is ClusterKind.DOCKER]
    return [*local, *(BackendStatus(f"cluster {c.name}", c.answers, c.health.problem) for c in others)]


def _is_no_stop(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn is about something else than streams that end because this process does."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: when to stop is not for it to say."""

    def __init__(self, application: Any) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        logging.getLogger("uvicorn.error").addFilter(_is_no_stop)  # once, however many servers: it is one function

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def wait_started(self) -> None:
        while not self.started:  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.005)


def listen(path: Path) -> socket.socket:
    """A Unix socket that only this user can connect to, in place of one that a dead process left."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(2048)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise Fatal(f"cannot listen on {path}: {error}") from error
    return listening

"""The verbs of ``compute.backend`` on a container engine.

What the engine holds is the record: containers carry their installation and instance as labels, so a later process of
ours finds them again. Only what has no container yet lives here: a launch under way, or one that failed. A task per
launch fetches the image, creates the container and starts it; a task per terminate ends it and keeps its last lines.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gpufn.compute.backend import BackendError, ExecResult, Files, LaunchRequest, Login, LogLine, Observation, Phase
from gpufn.compute.docker import credentials, errors, output, reference, seen, spec
from gpufn.compute.docker.delivery import Delivery, Mounted
from gpufn.compute.docker.engine import Engine, Refused
from gpufn.compute.docker.progress import Progress
from gpufn.compute.gpus import Devices
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Failure, FailureKind
from gpufn.runtime.backoff import Backoff
from gpufn.runtime.log import get_logger
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import DockerSettings

log = get_logger("docker")

ATTEMPTS = 6
"""How often a launch is tried while the engine does not answer."""
RETRY = Backoff(base=0.5, cap=10.0)
STARTING = "starting the container"
TAIL_LINES = 20
_BEING_REMOVED = 409
"""Lines shown in the failure of a container that ended."""


@dataclass
class _Launch:
    """A launch that has led to no running container, yet or ever."""

    task: asyncio.Task[None] | None = None
    detail: str = "waiting for the engine"
    failure: Failure | None = None


class _Fails(Exception):
    """The launch cannot succeed; carries the failure to report."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class Site:
    """Which engine, and how what it runs is reached. ``installation`` marks its containers as ours."""

    connect: Callable[[], Awaitable[Engine]]
    installation: str
    delivery: Delivery
    host: str = "127.0.0.1"
    """Where published ports of its machine are reached from here."""
    publish: str = "127.0.0.1"
    """On which address of its machine ports are published."""
    needs_gpus: bool = False
    """Whether it is to run real GPUs, so that one without NVIDIA's runtime is of no use."""


def this_machine(settings: DockerSettings, *, installation: str, data: Path, docker_host: str = "") -> Site:
    """The engine of this machine; ``docker_host`` is the value of DOCKER_HOST."""
    return Site(lambda: Engine.connect(settings.socket, docker_host), installation, Mounted(data))


class DockerBackend:
    """Runs instances as containers of the engine at ``site``. ``data`` is where logs are kept."""

    name = "docker"

    def __init__(
        self,
        settings: DockerSettings,
        site: Site,
        *,
        supervisor: Supervisor,
        data: Path,
        devices: Devices | None = None,
    ) -> None:
        self._settings, self._site, self._supervisor = settings, site, supervisor
        self._limits = spec.limits(settings)
        self._data, self._devices = data, devices or Devices()
        self._connected: Engine | None = None
        self._launches: dict[InstanceId, _Launch] = {}
        self._endings: dict[InstanceId, asyncio.Task[None]] = {}
        self._ended: dict[InstanceId, Failure] = {}

    def __repr__(self) -> str:
        return f"<DockerBackend {self._connected!r} launching={len(self._launches)} ending={len(self._endings)}>"

    async def available(self) -> str:
        """Why no engine can be used; empty when one answers."""
        try:
            await (await self._site.connect()).close()
        except BackendError as error:
            return str(error)
        return ""

    async def open(self) -> None:
        """Connect; adopt the containers of an earlier process, and start those it had only created."""
        self._connected = await self._site.connect()
        if self._site.needs_gpus and not await self._connected.runs_gpus():
            await self._connected.close()
            self._connected = None
            raise BackendError(
                "it is registered with GPUs, but its engine has neither NVIDIA's runtime nor NVIDIA's devices; install "
                "the NVIDIA Container Toolkit there, or register the GPUs as emulated"
            )
        for instance_id, container in (await self._containers()).items():
            self._devices.adopt(instance_id, container.devices)
            if container.state == "created" and not self._site.delivery.fills:
                self._begin(instance_id, None)

    async def close(self, *, terminate: bool) -> None:
        """Let go of the engine; with ``terminate`` end every container of this installation first."""
        if self._connected is None:
            return
        try:
            for launch in list(self._launches.values()):
                await _cancel(launch.task)
            if terminate:
                for instance_id in await self.list():
                    await self.terminate(instance_id, grace=self._close_grace)
                await asyncio.gather(*self._endings.values(), return_exceptions=True)
        finally:
            for task in list(self._endings.values()):
                await _cancel(task)
            await self._connected.close()
            self._connected = None

    _close_grace = 5.0

    async def provides(self, image: str) -> bool:
        """Whether it is an image reference: the engine may have it, or fetch it."""
        return reference.parse(image) is not None

    async def launch(self, request: LaunchRequest) -> None:
        """Begin to fetch and start it, unless there is a launch, a failure or a container of that id already."""
        if request.instance_id in self._launches or request.instance_id in self._endings:
            return
        existing = (await self._containers()).get(request.instance_id)
        if existing is None or existing.state == "created":
            self._ended.pop(request.instance_id, None)
            fresh = existing is None or self._site.delivery.fills
            self._begin(request.instance_id, request if fresh else None)

    def _begin(self, instance_id: InstanceId, request: LaunchRequest | None) -> None:
        if instance_id in self._launches:  # begun by another call while we looked
            return
        launch = self._launches[instance_id] = _Launch()
        launch.task = self._supervisor.start(self._launch(instance_id, request, launch), name=f"docker:{instance_id}")

    async def _launch(self, instance_id: InstanceId, request: LaunchRequest | None, launch: _Launch) -> None:
        for attempt in itertools.count(1):
            try:
                if request is not None:
                    await self._create(request, launch)
                await self._start(instance_id, launch)
            except _Fails as error:
                launch.failure = error.failure
            except BackendError as error:
                if attempt < ATTEMPTS:
                    launch.detail = f"trying again: {error}"
                    await asyncio.sleep(RETRY.delay(attempt))
                    continue
                launch.failure = Failure(FailureKind.START, f"{error}; check the container engine")
            else:
                self._launches.pop(instance_id, None)
            return

    async def _create(self, request: LaunchRequest, launch: _Launch) -> None:
        found = reference.parse(request.image)
        if found is None:
            raise _Fails(errors.unusable_reference(request.image))
        devices = self._reserve(request)
        if not await self._engine.has_image(str(found)):
            await self._pull(found, launch, request.logins)
        launch.detail = "creating the container"
        mounts = await self._site.delivery.prepare(request)
        try:
            body = spec.container(
                request,
                image=str(found),
                installation=self._site.installation,
                limits=self._limits,
                mounts=mounts,
                devices=devices,
                publish=self._site.publish,
            )
            await self._engine.create(spec.container_name(request.instance_id), body)
            await self._site.delivery.fill(self._engine, request)
        except ValueError as error:
            raise _Fails(
                Failure(FailureKind.START, f"containerArgs cannot be split: {error}; close the quote", permanent=True)
            ) from error
        except Refused as error:
            raise _Fails(errors.start_failure(error.words)) from error

    def _reserve(self, request: LaunchRequest) -> tuple[int, ...]:
        if request.emulated or request.gpu_count == 0:
            return ()
        reserved = self._devices.reserve(request.instance_id, request.gpu, request.gpu_count)
        if isinstance(reserved, Failure):
            raise _Fails(reserved)
        return reserved

    async def _pull(self, found: reference.Reference, launch: _Launch, logins: Sequence[Login]) -> None:
        """Try the account's credentials for the registry in turn, then what this machine knows."""
        known = await asyncio.to_thread(credentials.load, self._settings.auth_file)
        own = [{"username": one.user, "password": one.password} for one in logins if one.host == found.registry]
        for last, auth in credentials.in_turn(own, known.of(found.registry)):
            try:
                await self._fetch(found, launch, auth)
            except Refused as error:
                if last or not errors.is_refusal(error.words):
                    raise _Fails(errors.pull_failure(found, error.words, known, tried=len(own))) from error
            else:
                break
        if not await self._engine.has_image(str(found)):  # the stream ends silently when the engine goes away
            raise BackendError(f"pulling {found} was cut short")

    async def _fetch(self, found: reference.Reference, launch: _Launch, auth: Mapping[str, str] | None) -> None:
        progress = Progress()
        launch.detail = str(progress)
        async with aclosing(self._engine.pull(found, auth)) as events:
            async for event in events:
                progress.saw(event)
                launch.detail = str(progress)

    async def _start(self, instance_id: InstanceId, launch: _Launch) -> None:
        launch.detail = STARTING
        try:
            await self._engine.start(spec.container_name(instance_id))
        except Refused as error:
            raise _Fails(errors.start_failure(error.words)) from error

    async def refresh(self, instance_id: InstanceId, secrets: Files) -> None:
        """Any user of the container may read them there."""
        if instance_id not in self._endings:
            await self._site.delivery.refresh(self._engine, instance_id, secrets)

    async def observe(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Observation]:
        """One look at the engine for all, and one more at each that ended since the last look."""
        containers = await self._containers()
        return {instance_id: await self._observe(instance_id, containers.get(instance_id)) for instance_id in ids}

    async def _observe(self, instance_id: InstanceId, container: seen.Container | None) -> Observation:
        launch = self._launches.get(instance_id)
        if launch is not None and launch.failure is not None:
            return Observation(Phase.EXITED, failure=launch.failure)
        if container is not None and container.has_ended:
            self._devices.release(instance_id)  # what has ended uses no GPU, whether it is removed or not
            return Observation(Phase.EXITED, failure=await self._why_ended(instance_id))
        address = container.address(self._site.host) if container is not None and container.is_running else None
        if address is not None:
            return Observation(Phase.RUNNING, address=address)
        if launch is None and container is not None and self._is_unfilled(container):
            return Observation(Phase.ABSENT)  # so that it is launched again, with all that belongs into it
        if launch is not None or container is not None:
            detail = launch.detail if launch else STARTING
            return Observation(Phase.STARTING if detail == STARTING else Phase.PREPARING, detail=detail)
        return Observation(Phase.ABSENT)

    def _is_unfilled(self, container: seen.Container) -> bool:
        return container.state == "created" and self._site.delivery.fills

    async def _why_ended(self, instance_id: InstanceId) -> Failure:
        known = self._ended.get(instance_id)
        if known is not None:
            return known
        state = await self._engine.state(spec.container_name(instance_id)) or {}
        try:
            tail = [line.text async for line in self._lines(instance_id, follow=False, tail=TAIL_LINES)]
        except Refused:  # it is being removed at this moment
            tail = []
        failure = errors.exit_failure(int(state.get("ExitCode", 0)), oom_killed=bool(state.get("OOMKilled")), tail=tail)
        self._ended[instance_id] = failure
        return failure

    async def terminate(self, instance_id: InstanceId, *, grace: float) -> None:
        """Begin to end it; a second call while it ends changes nothing. Raises when the engine does not answer."""
        if instance_id in self._endings:
            return
        await self._engine.ping()
        if instance_id not in self._endings:
            self._endings[instance_id] = self._supervisor.start(
                self._end(instance_id, grace), name=f"docker:{instance_id}:end"
            )

    async def _end(self, instance_id: InstanceId, grace: float) -> None:
        name = spec.container_name(instance_id)
        try:
            launch = self._launches.get(instance_id)
            await _cancel(launch.task if launch else None)
            await self._engine.stop(name, grace=grace)
            lines = [line async for line in self._lines(instance_id, follow=False, tail=output.KEPT_LINES)]
            if lines:
                await asyncio.to_thread(output.keep, self._kept(instance_id), lines)
            await self._engine.remove(name)
            await self._site.delivery.wipe(instance_id)
            self._launches.pop(instance_id, None)
            self._ended.pop(instance_id, None)
            self._devices.release(instance_id)
        except (BackendError, OSError) as error:  # the controller asks again until it is gone
            log.warning("could not end a container yet", instance=instance_id, error=str(error))
        finally:
            self._endings.pop(instance_id, None)

    async def list(self) -> Sequence[InstanceId]:
        """Every instance with a container, and those being launched."""
        launching = [instance_id for instance_id, launch in self._launches.items() if launch.failure is None]
        return list(dict.fromkeys([*await self._containers(), *launching]))

    async def forget(self, instance_id: InstanceId) -> None:
        """Delete its container, its kept log and its shared directory."""
        launch = self._launches.pop(instance_id, None)
        await _cancel(launch.task if launch else None)
        await _cancel(self._endings.get(instance_id))
        await self._engine.remove(spec.container_name(instance_id))
        self._ended.pop(instance_id, None)
        self._devices.release(instance_id)
        await asyncio.to_thread(self._kept(instance_id).unlink, missing_ok=True)
        await self._site.delivery.delete(instance_id)

    async def exec(self, instance_id: InstanceId, command: Sequence[str], *, seconds: float) -> ExecResult | None:
        """In its container, as its user. One that takes too long is left: engines cannot end it."""
        container = (await self._containers()).get(instance_id)
        if container is None or not container.is_running:
            return None
        try:
            return await self._engine.execute(spec.container_name(instance_id), command, seconds=seconds)
        except Refused as error:
            if error.status in (404, 409):  # it has ended meanwhile, or is paused
                return None
            raise

    async def logs(
        self, instance_id: InstanceId, *, follow: bool, tail: int | None, since: datetime | None = None
    ) -> AsyncGenerator[LogLine, None]:
        """From the engine while there is a container, afterwards what was kept of it."""
        launch = self._launches.get(instance_id)
        if follow and launch is not None and launch.task is not None:
            await asyncio.wait([launch.task])
        if instance_id in await self._containers():
            try:
                async with aclosing(self._lines(instance_id, follow=follow, tail=tail)) as lines:
                    async for line in lines:
                        if output.is_after(line, since):
                            yield line
                return
            except Refused as error:
                if error.status != _BEING_REMOVED:
                    raise
        kept = await asyncio.to_thread(output.kept, self._kept(instance_id))
        for line in deque((line for line in kept if output.is_after(line, since)), maxlen=tail):
            yield line

    async def _lines(self, instance_id: InstanceId, *, follow: bool, tail: int | None) -> AsyncGenerator[LogLine, None]:
        lines = output.Lines()
        async with aclosing(self._engine.output(spec.container_name(instance_id), follow=follow, tail=tail)) as chunks:
            async for chunk in chunks:
                for line in lines.feed(chunk):
                    yield line
        for line in lines.end():
            yield line

    @property
    def _engine(self) -> Engine:
        if self._connected is None:
            raise BackendError("the docker backend is not open")
        return self._connected

    async def _containers(self) -> dict[InstanceId, seen.Container]:
        return seen.containers(await self._engine.containers(self._site.installation))

    def _kept(self, instance_id: InstanceId) -> Path:
        return output.kept_file(self._data, instance_id)


async def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])

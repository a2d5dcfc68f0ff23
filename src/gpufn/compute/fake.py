"""A backend without machines, for scenarios: what happens is arithmetic on the loop's clock, so virtual time works.

It starts no task and opens no socket: an instance is a few points in time, and ``observe`` compares them with now.
Failure is a subclass named for it: ``FailsToLaunch``, ``NeverHealthy``, ``LosesInstances``, ``SlowToStop``,
``UnknownImage``. ``probe`` answers for its instances in place of ``probes.probe``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gpufn.compute.backend import BackendError, ExecResult, Files, LaunchRequest, LogLine, Observation, Phase, nobody
from gpufn.compute.task_files import FoundFile
from gpufn.model.function import Health
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Address, Failure, FailureKind
from gpufn.runtime.clock import loop_now

FIRST_PORT = 20_000


@dataclass
class FakeInstance:
    """One pretended instance: the moments of its life on the loop's clock, in seconds."""

    request: LaunchRequest
    address: Address
    runs_at: float
    ready_at: float
    stops_at: float = math.inf
    """When a terminated instance is gone."""
    lost_at: float = math.inf
    """When it vanishes without a trace."""
    failure: Failure | None = None
    unhealthy: str | None = None
    """What its probe says from now on instead of success."""

    def seen(self, now: float) -> Observation:
        """What there is to see of it at ``now``."""
        if now >= self.stops_at or now >= self.lost_at:
            return Observation(Phase.ABSENT)
        if self.failure is not None:
            return Observation(Phase.EXITED, failure=self.failure)
        if now < self.runs_at:
            return Observation(Phase.PREPARING, "fetching the image")
        stopping = "stopping" if self.stops_at < math.inf else ""
        return Observation(Phase.RUNNING, stopping, address=self.address)


@dataclass
class _Log:
    lines: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class FakeBackend:
    """Pretends to run everything. Times are seconds: to prepare, then to become ready, and to stop when asked to."""

    name = "fake"

    def __init__(self, *, prepare: float = 0.0, ready: float = 0.0, stop: float = 0.0, host: str = "127.0.0.1") -> None:
        self.prepare, self.ready, self.stop, self.host = prepare, ready, stop, host
        self.launches: list[LaunchRequest] = []
        """Every launch that started something, in order."""
        self.instances: dict[InstanceId, FakeInstance] = {}
        self.secrets: dict[InstanceId, Files] = {}
        """What each finds in /var/secrets."""
        self._logs: dict[InstanceId, _Log] = {}
        self.tell: Callable[[InstanceId], None] = nobody
        """Called with each instance of which something can be seen anew."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} instances={len(self.instances)} launches={len(self.launches)}>"

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self, *, terminate: bool) -> None:
        """With ``terminate`` everything is gone at once."""
        if terminate:
            for instance_id in list(self.instances):
                self.lose(instance_id)

    async def provides(self, image: str) -> bool:
        """Every image."""
        return True

    async def launch(self, request: LaunchRequest) -> None:
        """Pretend to start it; an id that is already here stays as it is."""
        present = self.instances.get(request.instance_id)
        if present is not None and present.seen(loop_now()).phase is not Phase.ABSENT:
            return
        runs_at = loop_now() + self.prepare
        port = FIRST_PORT + len(self.launches)
        instance = FakeInstance(
            request, Address(self.host, port, port, "/var/inf"), runs_at=runs_at, ready_at=runs_at + self.ready
        )
        self.launches.append(request)
        self.instances[request.instance_id] = instance
        self.secrets[request.instance_id] = dict(request.secrets)
        self._logs[request.instance_id] = _Log()
        self._started(instance)

    def _started(self, instance: FakeInstance) -> None:
        """What a failing backend overrides: bend the life of an instance that was just launched."""

    async def refresh(self, instance_id: InstanceId, secrets: Files) -> None:
        """Kept in ``secrets``."""
        if self._seen(instance_id).phase in (Phase.PREPARING, Phase.RUNNING):
            self.secrets[instance_id] = dict(secrets)

    async def observe(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Observation]:
        """Compare the moments of each with now."""
        return {instance_id: self._seen(instance_id) for instance_id in ids}

    def _seen(self, instance_id: InstanceId) -> Observation:
        instance = self.instances.get(instance_id)
        return instance.seen(loop_now()) if instance else Observation(Phase.ABSENT)

    async def terminate(self, instance_id: InstanceId, *, grace: float) -> None:
        """It is gone after its stop time or ``grace``, whichever is first; what never ran or has ended, at once."""
        instance = self.instances.get(instance_id)
        if instance is None:
            return
        runs = self._seen(instance_id).phase is Phase.RUNNING
        delay = min(self.stop, grace) if runs else 0.0
        instance.stops_at = min(instance.stops_at, loop_now() + delay)
        self._changed(instance_id)

    async def list(self) -> Sequence[InstanceId]:
        """Those that are being prepared or run."""
        return self.running()

    def running(self) -> Sequence[InstanceId]:
        """The same, for who looks from outside: whether it answers or not."""
        return [i for i in self.instances if self._seen(i).phase in (Phase.PREPARING, Phase.RUNNING)]

    async def forget(self, instance_id: InstanceId) -> None:
        """Drop the log, and an instance that has ended; one that runs stays."""
        if self._seen(instance_id).phase in (Phase.ABSENT, Phase.EXITED):
            self.instances.pop(instance_id, None)
            self._changed(instance_id)
            self._logs.pop(instance_id, None)

    async def exec(self, instance_id: InstanceId, command: Sequence[str], *, seconds: float) -> ExecResult | None:
        """Pretends that every program exists, and echoes its arguments."""
        if self._seen(instance_id).phase is not Phase.RUNNING:
            return None
        return ExecResult(" ".join(command[1:]) + "\n", 0)

    async def logs(
        self, instance_id: InstanceId, *, follow: bool, tail: int | None, since: datetime | None = None
    ) -> AsyncIterator[LogLine]:
        """What ``write`` was given; it keeps no times."""
        log = self._logs.get(instance_id)
        if log is None:
            return
        position = 0 if tail is None else max(0, len(log.lines) - tail)
        while True:
            for text in log.lines[position:]:
                yield LogLine(text)
            position = len(log.lines)
            if not follow or self._seen(instance_id).phase in (Phase.ABSENT, Phase.EXITED):
                return
            log.changed.clear()
            await self._wait(instance_id, log)

    async def _wait(self, instance_id: InstanceId, log: _Log) -> None:
        instance = self.instances[instance_id]
        end = min(instance.stops_at, instance.lost_at)
        try:
            async with asyncio.timeout(None if math.isinf(end) else max(0.0, end - loop_now())):
                await log.changed.wait()
        except TimeoutError:
            pass  # it has ended; the caller looks again

    async def probe(self, health: Health, address: Address) -> str | None:
        """Stands in for ``probes.probe``: None when the instance at ``address`` is ready, else the reason."""
        now = loop_now()
        for instance in self.instances.values():
            if instance.address == address and instance.seen(now).phase is Phase.RUNNING:
                if instance.unhealthy is not None:
                    return instance.unhealthy
                return None if now >= instance.ready_at else "connection refused"
        return "connection refused"

    def write(self, instance_id: InstanceId, text: str) -> None:
        """The instance writes one line to its log."""
        self._logs[instance_id].lines.append(text)
        self._changed(instance_id)

    def exit(self, instance_id: InstanceId, code: int = 1) -> None:
        """The instance ends by itself; the failure repeats what it wrote last."""
        last = "; last lines: " + " | ".join(lines) if (lines := self._logs[instance_id].lines[-8:]) else ""
        self.fail(instance_id, Failure(FailureKind.EXIT, f"exited with code {code}{last}", exit_code=code))

    def fail(self, instance_id: InstanceId, failure: Failure) -> None:
        """The instance ends, and ``failure`` is why."""
        self.instances[instance_id].failure = failure
        self._changed(instance_id)

    def lose(self, instance_id: InstanceId) -> None:
        """The instance vanishes without a trace."""
        self.instances[instance_id].lost_at = loop_now()
        self._changed(instance_id)

    def sicken(self, instance_id: InstanceId, reason: str | None) -> None:
        """Its probe answers ``reason`` from now on; None makes it well again."""
        self.instances[instance_id].unhealthy = reason

    def _changed(self, instance_id: InstanceId) -> None:
        self.tell(instance_id)
        log = self._logs.get(instance_id)
        if log is not None:
            log.changed.set()


class FailsToLaunch(FakeBackend):
    """Everything ends before it runs."""

    failure = Failure(FailureKind.START, "the program could not be started: out of memory")

    def _started(self, instance: FakeInstance) -> None:
        instance.failure = self.failure


class UnknownImage(FailsToLaunch):
    """Knows no image."""

    failure = Failure(FailureKind.IMAGE, "no image of that name; add it with `gpufn image add DIR`", permanent=True)

    async def provides(self, image: str) -> bool:
        """None."""
        return False


class NeverHealthy(FakeBackend):
    """Everything runs and answers its health check with 503."""

    def _started(self, instance: FakeInstance) -> None:
        instance.unhealthy = "answered 503, expected 200"


class LosesInstances(FakeBackend):
    """Everything vanishes ``lifetime`` seconds after it started to run."""

    lifetime = 30.0

    def _started(self, instance: FakeInstance) -> None:
        instance.lost_at = instance.runs_at + self.lifetime


class SlowToStop(FakeBackend):
    """Nothing stops when asked to: all of the grace passes, then it is killed."""

    def __init__(self, *, prepare: float = 0.0, ready: float = 0.0) -> None:
        super().__init__(prepare=prepare, ready=ready, stop=math.inf)


class GoesSilent(FakeBackend):
    """While ``silent`` nobody answers, and what runs there runs on."""

    silent = False

    def _answer(self) -> None:
        if self.silent:
            raise BackendError("nobody answers")

    async def launch(self, request: LaunchRequest) -> None:
        """Unless it is silent."""
        self._answer()
        await super().launch(request)

    async def observe(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Observation]:
        """Unless it is silent."""
        self._answer()
        return await super().observe(ids)

    async def terminate(self, instance_id: InstanceId, *, grace: float) -> None:
        """Unless it is silent."""
        self._answer()
        await super().terminate(instance_id, grace=grace)

    async def list(self) -> Sequence[InstanceId]:
        """Unless it is silent."""
        self._answer()
        return await super().list()


class FakeTaskFiles:
    """Directories of tasks in memory. A scenario writes progress and files as a task would."""

    def __init__(self) -> None:
        self.reports: dict[str, bytes] = {}
        """The progress file of each task."""
        self.left: dict[str, dict[str, bytes]] = {}
        """Of each task the files below its results directory, by path."""
        self.prepared: list[str] = []

    async def prepare(self, task_id: str) -> str:
        """Forget the progress file of an earlier attempt."""
        self.prepared.append(task_id)
        self.reports.pop(task_id, None)
        return f"/nowhere/{task_id}"

    async def progress(self, task_id: str) -> bytes | None:
        """What the scenario has written."""
        return self.reports.get(task_id)

    async def files(self, task_id: str, name: str) -> Sequence[FoundFile] | None:
        """Those below ``name``."""
        prefix = f"{name}/" if name else ""
        found = {p: c for p, c in self.left.get(task_id, {}).items() if p.startswith(prefix)}
        if name and not found:
            return None
        return [FoundFile(path.removeprefix(prefix), len(content)) for path, content in sorted(found.items())]

    async def read(self, task_id: str, name: str, path: str) -> AsyncIterator[bytes]:
        """All of it at once."""
        yield self.left[task_id][f"{name}/{path}" if name else path]

    async def remove(self, task_id: str) -> None:
        """Everything of the task."""
        self.reports.pop(task_id, None)
        self.left.pop(task_id, None)

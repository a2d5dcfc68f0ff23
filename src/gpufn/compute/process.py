"""The backend that runs images of the local catalog as processes of this machine. No security boundary.

What is to happen is written to ``instances/<id>/launch.json`` first, and every process carries a mark in its
environment. So instances outlive us: whatever moment we are killed at, the next ``open`` finds them again, goes on
with what was begun, and leaks nothing.

One task per instance prepares it, starts it and waits for its end; another, when it is terminated, ends its
processes. ``observe`` only looks at the records, which belong to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from gpufn.compute import process_exec, process_record, process_tree, secret_files
from gpufn.compute.backend import BackendError, ExecResult, Files, LaunchRequest, LogLine, Observation, Phase, nobody
from gpufn.compute.catalog import Catalog
from gpufn.compute.gpus import Devices
from gpufn.compute.images import BrokenImage
from gpufn.compute.isolation import Isolation
from gpufn.compute.process_log import LogFile, stream
from gpufn.compute.process_record import Record, Stage
from gpufn.compute.process_recover import epitaph, found, recover
from gpufn.compute.process_spawn import CannotStart, Directories, exit_code
from gpufn.compute.process_start import Start, Starter
from gpufn.compute.process_tree import Leader, Marked
from gpufn.compute.venvs import Venvs
from gpufn.compute.warm import WarmPool
from gpufn.model.ids import InstanceId, is_uuid
from gpufn.model.instance import Failure, FailureKind
from gpufn.runtime.clock import utc_now
from gpufn.runtime.log import get_logger
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ProcessSettings

log = get_logger("process")

TRIM_INTERVAL, LAST_LINES = 1.0, 8
INSTALLING = "installing requirements"


class ProcessBackend:
    """See the module. ``supervisor`` must outlive it: ``close`` before the supervisor closes."""

    name = "process"
    close_grace = 10.0  # seconds that instances are given to end when the backend closes

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        data: Path,
        catalog: Catalog,
        supervisor: Supervisor,
        devices: Devices | None = None,
        tell: Callable[[InstanceId], None] = nobody,
    ) -> None:
        """``tell`` is called with each instance that has begun to run, or has ended, as soon as that is known."""
        data = data.resolve()
        self.installation = hashlib.sha256(str(data).encode()).hexdigest()[:32]
        """The mark of everything that this data directory started."""
        self._settings, self._catalog, self._supervisor = settings, catalog, supervisor
        self.tell = tell
        self._data, self._instances, self._logs = data, data / "instances", data / "logs"
        self._devices = Devices() if devices is None else devices
        self._records: dict[InstanceId, Record] = {}
        self._details: dict[InstanceId, str] = {}
        self._files: dict[InstanceId, LogFile] = {}
        self._lives: dict[InstanceId, asyncio.Task[None]] = {}
        self._stops: dict[InstanceId, asyncio.Task[None]] = {}
        self._isolation = Isolation(settings.isolation, data)
        size = settings.warm if settings.enabled else 0
        self._pool = WarmPool(data / "warm", size=size, installation=self.installation, isolation=self._isolation)
        self._starter = Starter(
            catalog=catalog,
            venvs=Venvs(data / "venvs", self.installation),
            devices=self._devices,
            isolation=self._isolation,
            pool=self._pool,
            mark=self.installation,
        )
        self._chores: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<ProcessBackend records={len(self._records)} stopping={len(self._stops)}>"

    async def open(self) -> None:
        """Read what is recorded, look at the processes, and go on from there."""
        try:
            for directory in (self._data, self._instances, self._logs):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._isolation.open()
            records = process_record.read_all(self._instances)
            await asyncio.to_thread(self._end_leftovers, {record.pid for record in records})
            processes = await asyncio.to_thread(process_tree.by_instance, self.installation)
            for record in records:
                self._resume(record, processes.pop(record.id, []))
        except OSError as error:
            raise BackendError(f"{self._data} cannot be used: {error}") from error
        self._adopt(processes)
        self._chores = [
            self._supervisor.start(self._trim(), name="process:trim"),
            self._supervisor.start(self._pool.run(), name="process:warm"),
        ]

    def _end_leftovers(self, instances: Collection[int]) -> None:
        """What an earlier gpufn began that is no instance: builds, and interpreters that wait."""
        process_tree.send(process_tree.builders(self.installation), signal.SIGKILL)
        process_tree.send(process_tree.waiting(self.installation, besides=instances), signal.SIGKILL)

    def _resume(self, record: Record, processes: Sequence[Marked]) -> None:
        leader = process_tree.leader(record.pid, record.created, processes)
        code = exit_code(self._directory(record.id), None)
        record = recover(record, leader, booted=psutil.boot_time(), exit_code=code)
        self._devices.adopt(record.id, record.devices)
        self._save(record)
        if record.stopping:
            self._begin_stop(record)
        elif record.stage is Stage.PREPARING:
            self._begin(record.id, self._live(record.id))
        elif record.stage is Stage.RUNNING:
            self._begin(record.id, self._watch(record.id, adopted=True))
        elif processes:
            self._begin(record.id, self._sweep(record.id))

    def _adopt(self, processes: Mapping[InstanceId, Sequence[Marked]]) -> None:
        """Take up processes that nothing is written about, so that they can be seen and ended."""
        for instance_id, marked in processes.items():
            alive = [each for each in marked if not process_tree.gone(each.process)]
            if instance_id in self._records or not alive or not is_uuid(instance_id):
                continue
            try:
                record = found(instance_id, alive)
            except psutil.Error:
                continue
            log.warning("found processes without a record", instance=instance_id, pid=record.pid)
            self._devices.adopt(instance_id, record.devices)
            self._save(record)
            self._begin(instance_id, self._watch(instance_id, adopted=True))

    async def close(self, *, terminate: bool) -> None:
        """Let go of the processes, or with ``terminate`` end them all."""
        if terminate:
            for instance_id in await self.list():
                await self.terminate(instance_id, grace=self.close_grace)
            await self._hurry()
        tasks = [*self._lives.values(), *self._stops.values(), *self._chores]
        for task in tasks:
            task.cancel()
        await _wait(tasks)

    async def _hurry(self) -> None:
        """What was told to stop stops now, however long it was given."""
        if self._stops:
            await asyncio.wait(self._stops.values(), timeout=self.close_grace)
        await _wait([t for t in self._stops.values() if t.cancel()])
        for record in [replace(r, grace=0.0) for r in self._records.values() if r.stopping]:
            self._records[record.id] = record
            await self._stop(record)

    async def provides(self, image: str) -> bool:
        """Whether the catalog has it, usable or not: a broken one is ours to complain about."""
        if not self._settings.enabled:
            return False
        try:
            return self._catalog.find(image) is not None
        except BrokenImage:
            return True

    async def launch(self, request: LaunchRequest) -> None:
        """Write down that it is wanted, and begin."""
        if request.instance_id in self._records:
            return
        self._write_secrets(request.instance_id, request.secrets)
        self._save(Record(request.instance_id, Stage.PREPARING, request))
        self._begin(request.instance_id, self._live(request.instance_id))

    async def refresh(self, instance_id: InstanceId, secrets: Files) -> None:
        """Into its own directory."""
        if instance_id in self._records and instance_id not in self._stops:
            self._write_secrets(instance_id, secrets)

    def _write_secrets(self, instance_id: InstanceId, secrets: Files) -> None:
        directories = Directories(self._directory(instance_id))
        try:
            directories.create()
        except OSError as error:
            raise BackendError(f"{directories.root} cannot be made: {error.strerror}") from error
        secret_files.write(directories.secrets, secrets, mode=0o600)

    async def observe(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Observation]:
        """From the records."""
        return {instance_id: self._seen(instance_id) for instance_id in ids}

    def _seen(self, instance_id: InstanceId) -> Observation:
        record = self._records.get(instance_id)
        if record is None:
            return Observation(Phase.ABSENT)
        match record.stage:
            case Stage.PREPARING | Stage.STARTING:
                detail = self._details.get(instance_id, "")
                return Observation(Phase.PREPARING if detail == INSTALLING else Phase.STARTING, detail)
            case Stage.RUNNING:
                return Observation(Phase.RUNNING, "stopping" if record.stopping else "", address=record.address)
            case Stage.ENDED:
                return Observation(Phase.EXITED, failure=record.failure)

    async def terminate(self, instance_id: InstanceId, *, grace: float) -> None:
        """Write down that it is to end, and begin to end it."""
        record = self._records.get(instance_id)
        if record is None or instance_id in self._stops:
            return
        record = replace(record, stopping=True, grace=grace)
        self._save(record)
        self._begin_stop(record)

    async def list(self) -> Sequence[InstanceId]:
        """Those whose records say so, and every process tree that carries our mark."""
        self._adopt(await asyncio.to_thread(process_tree.by_instance, self.installation))
        return [r.id for r in self._records.values() if r.stopping or r.stage is not Stage.ENDED]

    async def forget(self, instance_id: InstanceId) -> None:
        """Delete its directories and its log, if it has ended."""
        record = self._records.get(instance_id)
        if record is not None and (instance_id in self._stops or record.stage is not Stage.ENDED):
            return
        if instance_id in self._stops:  # it is gone, and about to be done with
            await _wait([self._stops[instance_id]])
        self._records.pop(instance_id, None)
        self._file(instance_id).delete()
        self._files.pop(instance_id, None)
        await asyncio.to_thread(shutil.rmtree, self._directory(instance_id), ignore_errors=True)

    async def exec(self, instance_id: InstanceId, command: Sequence[str], *, seconds: float) -> ExecResult | None:
        """With the variables and in the directory that it was started with; isolated as it is."""
        record = self._records.get(instance_id)
        if record is None or record.stage is not Stage.RUNNING or record.stopping:
            return None
        place = process_exec.place(record)
        if place is None:
            return None
        environment, cwd = place
        python = Path(environment.get("PATH", "").partition(":")[0]) / "python"
        wrap = self._isolation.wrap(Directories(self._directory(instance_id)), cwd=cwd, python=python)
        return await process_exec.run([*wrap, *command], environment=environment, cwd=cwd, seconds=seconds)

    async def logs(
        self, instance_id: InstanceId, *, follow: bool, tail: int | None, since: datetime | None = None
    ) -> AsyncIterator[LogLine]:
        """From its log file."""

        def over() -> bool:
            return not follow or self._seen(instance_id).phase in (Phase.ABSENT, Phase.EXITED)

        async for text in stream(self._file(instance_id), over=over, tail=tail, since=since):
            yield LogLine(text)

    async def _live(self, instance_id: InstanceId) -> None:
        """Prepare it, start it, wait for its end."""
        try:
            await self._start(self._records[instance_id])
        except CannotStart as error:
            self._end(instance_id, error.failure)
            return
        except (OSError, BackendError) as error:
            self._end(instance_id, Failure(FailureKind.START, f"it could not be started: {error}"))
            return
        await self._watch(instance_id)

    async def _start(self, record: Record) -> None:
        request, image = self._starter.image(record)
        self._details[record.id] = INSTALLING if image.requirements else "starting"
        python = await self._starter.python(image)
        directories = Directories(self._directory(record.id), Path(request.task.directory) if request.task else None)
        taken = {port for r in self._records.values() for port in (r.port, r.health_port)}
        self._spawn(self._starter.prepare(record, python, directories=directories, taken=taken))

    def _spawn(self, start: Start) -> None:
        """Nothing here waits, so that no cancellation falls between the record and the process."""
        try:
            self._save(start.record)
            descriptor = self._file(start.record.id).create()
        except (OSError, BackendError):
            if start.warm is not None:
                start.warm.end()
            raise
        try:
            record = self._starter.start(start, log=descriptor)
        finally:
            os.close(descriptor)
        self._note(record)
        self.tell(record.id)

    async def _watch(self, instance_id: InstanceId, *, adopted: bool = False) -> None:
        """Wait for the end of its first process, then end what it left behind."""
        record = self._records[instance_id]
        await process_tree.ended(record.pid, record.created)
        after = max(0.0, utc_now().timestamp() - (record.started or record.created))
        code = exit_code(self._directory(record.id), process_tree.reap(record.pid))
        await self._sweep(instance_id)
        lines = self._file(instance_id).last_lines(LAST_LINES)
        self._end(instance_id, Failure(FailureKind.EXIT, epitaph(code, after, lines, adopted=adopted), exit_code=code))

    async def _sweep(self, instance_id: InstanceId) -> None:
        record = self._records[instance_id]
        leader = Leader(record.pid, record.created)
        await process_tree.stop(self.installation, instance_id, leader=leader, grace=0.0)

    def _end(self, instance_id: InstanceId, failure: Failure) -> None:
        self._devices.release(instance_id)
        self._details.pop(instance_id, None)
        self._note(self._records[instance_id].ended(failure))
        self.tell(instance_id)
        log.info("instance ended", instance=instance_id, reason=failure.message)

    async def _stop(self, record: Record) -> None:
        life = self._lives.get(record.id)
        if life is not None:
            life.cancel()
            await _wait([life])
        record = self._records[record.id]  # it may have been started until now
        leader = Leader(record.pid, record.created)
        await process_tree.stop(self.installation, record.id, leader=leader, grace=record.grace)
        directory = self._directory(record.id)
        secret_files.wipe(Directories(directory).secrets)
        (directory / process_record.FILE).unlink(missing_ok=True)
        self._devices.release(record.id)
        self._details.pop(record.id, None)
        self._records.pop(record.id, None)

    def _begin(self, instance_id: InstanceId, work: Coroutine[Any, Any, None]) -> None:
        task = self._supervisor.start(work, name=f"process:{instance_id}")
        self._lives[instance_id] = task
        task.add_done_callback(lambda _: self._lives.pop(instance_id, None))

    def _begin_stop(self, record: Record) -> None:
        task = self._supervisor.start(self._stop(record), name=f"process:stop:{record.id}")
        self._stops[record.id] = task
        task.add_done_callback(lambda _: self._stops.pop(record.id, None))

    def _save(self, record: Record) -> None:
        """On disk first, then in memory."""
        record = self._still_stopping(record)
        try:
            process_record.save(self._directory(record.id), record)
        except OSError as error:
            raise BackendError(f"instance {record.id} cannot be recorded in {self._instances}: {error}") from error
        self._records[record.id] = record

    def _note(self, record: Record) -> None:
        """As ``_save``, for what has already happened: a full disk does not undo it, and the marks tell it again."""
        self._records[record.id] = self._still_stopping(record)
        try:
            self._save(record)
        except BackendError as error:
            log.warning("not recorded", instance=record.id, error=str(error))

    def _still_stopping(self, record: Record) -> Record:
        """A stop that was asked for while the instance was being started stays asked for."""
        present = self._records.get(record.id)
        if present is None or not present.stopping:
            return record
        return replace(record, stopping=True, grace=present.grace)

    def _directory(self, instance_id: InstanceId) -> Path:
        if not is_uuid(instance_id):
            raise BackendError(f"{instance_id!r} is not an instance id")
        return self._instances / instance_id

    def _file(self, instance_id: InstanceId) -> LogFile:
        path = self._logs / f"{self._directory(instance_id).name}.log"
        return self._files.setdefault(instance_id, LogFile(path, self._settings.log_max_bytes))

    async def _trim(self) -> None:
        while True:
            for instance_id in tuple(self._records):
                with contextlib.suppress(OSError):  # it is tried again in a second
                    self._file(instance_id).trim()
                    self._file(instance_id).mark()
            await asyncio.sleep(TRIM_INTERVAL)


async def _wait(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Until all have ended, well or not; the supervisor reports what failed."""
    await asyncio.gather(*tasks, return_exceptions=True)

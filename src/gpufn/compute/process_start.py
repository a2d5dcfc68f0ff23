"""From what is recorded of an instance to its process: image, interpreter, devices, ports, program, and its start."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpufn.compute import process_spawn, process_tree, secret_files
from gpufn.compute.backend import LaunchRequest
from gpufn.compute.catalog import Catalog
from gpufn.compute.gpus import Devices
from gpufn.compute.images import Image
from gpufn.compute.isolation import Isolation
from gpufn.compute.process_record import Record, Stage
from gpufn.compute.process_spawn import CannotStart, Directories
from gpufn.compute.venvs import BuildFailed, Venvs
from gpufn.compute.warm import Order, Warm, WarmPool
from gpufn.model.instance import Failure, FailureKind
from gpufn.runtime.clock import utc_now


@dataclass(frozen=True)
class Start:
    """Everything that is decided about a start. ``record`` says already what is about to happen."""

    record: Record
    order: Order
    wrap: Sequence[str]
    directories: Directories
    warm: Warm | None = None
    """Who becomes it; None: a new process."""


class Starter:
    """Decides, and starts, for one backend. ``mark`` is the installation's."""

    def __init__(
        self, *, catalog: Catalog, venvs: Venvs, devices: Devices, isolation: Isolation, pool: WarmPool, mark: str
    ) -> None:
        self._catalog, self._venvs, self._devices = catalog, venvs, devices
        self._isolation, self._pool, self._mark = isolation, pool, mark

    def image(self, record: Record) -> tuple[LaunchRequest, Image]:
        """What it is to run. Raises CannotStart."""
        if record.request is None:
            raise CannotStart(Failure(FailureKind.START, "what to start is not recorded; deploy again"))
        return record.request, process_spawn.find_image(self._catalog, record.request.image)

    async def python(self, image: Image) -> Path:
        """The interpreter for the image, which may have to be made first. Raises CannotStart."""
        try:
            return await self._venvs.python(image)
        except BuildFailed as error:
            raise CannotStart(Failure(FailureKind.IMAGE, str(error))) from error

    def prepare(self, record: Record, python: Path, *, directories: Directories, taken: Collection[int]) -> Start:
        """Decide. ``taken`` are the ports of other instances. Raises CannotStart and OSError."""
        request, image = self.image(record)
        directories.create()
        record = self._placed(record, request, directories=directories, taken=taken)
        program = process_spawn.command(image, request, python=python, record=record)
        environment = process_spawn.environment(image, record, python=python, directories=directories, mark=self._mark)
        environment[secret_files.VARIABLE] = self._isolation.secrets(directories)
        process_spawn.check_program(program[0], path=environment["PATH"], cwd=image.directory)
        record = replace(
            record,
            stage=Stage.STARTING,
            pid=0,
            created=0.0,
            started=utc_now().timestamp(),
            environment=tuple(environment.items()),
            directory=str(image.directory),
        )
        order = Order(program, environment, image.directory)
        wrap = self._isolation.wrap(directories, cwd=image.directory, python=python)
        warm = self._pool.take(order) if directories.task is None else None
        if warm is not None:  # whoever finds the record finds it, whatever moment we are killed at
            record = replace(record, pid=warm.pid, created=warm.created)
        return Start(record, order, wrap, directories, warm)

    def start(self, start: Start, *, log: int) -> Record:
        """Start it with its output to ``log``; returns the record that says so. Raises CannotStart and OSError."""
        record, order, warm = start.record, start.order, start.warm
        if warm is not None and warm.be(order, log=log, directories=start.directories):
            return replace(record, stage=Stage.RUNNING)
        whole = process_spawn.whole([*start.wrap, *order.arguments], start.directories)
        pid = process_spawn.spawn(whole, environment=order.environment, cwd=order.directory, log=log)
        return replace(record, stage=Stage.RUNNING, pid=pid, created=process_tree.created(pid))

    def _placed(
        self, record: Record, request: LaunchRequest, *, directories: Directories, taken: Collection[int]
    ) -> Record:
        """The record with its devices and ports."""
        if request.gpu_count and not request.emulated:
            held = self._devices.reserve(record.id, request.gpu, request.gpu_count)
            if isinstance(held, Failure):
                raise CannotStart(held)
            record = replace(record, devices=held)
        ports = process_spawn.free_ports(1 if request.health_port == request.inference_port else 2, taken=taken)
        shared = self._isolation.shared(directories)
        return replace(record, port=ports[0], health_port=ports[-1], shared_dir=shared)

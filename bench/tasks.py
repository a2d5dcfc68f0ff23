"""How well tasks keep GPUs busy, and what their queue costs: ``python bench/tasks.py``.

**Busy**: 1,000 queued tasks of 100 ms each on 8 emulated GPUs, with everything of the control plane real (a SQLite
file, synced at every commit; controllers, object store) but the processes: a backend that only waits stands for them,
so that what is measured is the time for which nobody uses a GPU that somebody waits for. ``--processes`` runs real
ones (``sleep``), whose start is then part of it. **Pass**: what one pass over the queue costs while 100, and 10,000,
tasks wait: CPU time, and the steps of SQLite's machine, which do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import uvloop
from obstore.store import MemoryStore

from gpufn.auth.keyring import Keyring
from gpufn.compute.backend import Backend
from gpufn.compute.catalog import Catalog
from gpufn.compute.fake import FakeBackend, FakeInstance, FakeTaskFiles
from gpufn.compute.fleet import Fleet
from gpufn.compute.process import ProcessBackend
from gpufn.compute.task_files import LocalTaskFiles, TaskFiles
from gpufn.controllers.all import Controllers
from gpufn.controllers.context import Context
from gpufn.model.account import Account
from gpufn.model.cluster import Cluster, Gpu, InstanceType
from gpufn.model.function import Health
from gpufn.model.ids import DEFAULT_ACCOUNT, InstanceId, TaskId, new_id
from gpufn.model.instance import Address, Failure, FailureKind
from gpufn.model.task import ResultStrategy, Task, TaskDefinition
from gpufn.runtime.clock import loop_now, utc_now
from gpufn.runtime.hub import Hints, Retained
from gpufn.runtime.supervisor import Supervisor
from gpufn.scaling.load import LoadBoard
from gpufn.settings import ControllerSettings, DatabaseSettings, ProcessSettings, TaskSettings
from gpufn.store import accounts, migrate, tasks
from gpufn.store.database import Sqlite, Transaction
from gpufn.store.objects import Objects
from gpufn.store.opening import open_database

GPUS, KIND = 8, "ON-PREM.GPU.H100_1x"
CLUSTER = Cluster(
    id="c1",
    name="local",
    group_id="g1",
    group_name="local",
    region="here",
    gpus=(Gpu("H100", GPUS, (InstanceType(KIND, "ON-PREM.GPU.H100", 1, "one H100"),), emulated=True),),
)


class Waiting(FakeBackend):
    """Everything runs for ``length`` seconds and ends well; tells when."""

    def __init__(self, length: float) -> None:
        super().__init__()
        self.length, self.busy, self.first, self.last = length, 0.0, 0.0, 0.0

    def _started(self, instance: FakeInstance) -> None:
        began = loop_now()
        self.first = self.first or began
        asyncio.get_running_loop().call_later(self.length, self._over, instance.request.instance_id, began)

    def _over(self, instance_id: InstanceId, began: float) -> None:
        self.last = loop_now()
        self.busy += self.last - began
        self.fail(instance_id, Failure(FailureKind.EXIT, "exited with code 0", exit_code=0))


async def _healthy(_: Health, __: Address) -> None:
    return None


def a_task(number: int, image: str = "job") -> Task:
    """The ``number``-th in the queue."""
    definition = TaskDefinition(
        "H100",
        KIND,
        1,
        container_image=image,
        result_strategy=ResultStrategy.NONE,
        termination_grace=timedelta(seconds=1),
    )
    now = utc_now() + timedelta(microseconds=number)
    task_id = TaskId(new_id())
    return Task(task_id, DEFAULT_ACCOUNT, f"t{number}", definition, now, now, now, now + timedelta(days=3))


@contextlib.asynccontextmanager
async def a_database(root: Path, count: int) -> AsyncIterator[Sqlite]:
    """A file with ``count`` queued tasks."""
    db = open_database(DatabaseSettings(), root / "gpufn.db")
    assert isinstance(db, Sqlite)
    migrate.upgrade(db)

    def fill(tx: Transaction) -> None:
        accounts.ensure(tx, Account(DEFAULT_ACCOUNT, "default", utc_now()))
        for number in range(count):
            tasks.insert(tx, a_task(number))

    await db.run(fill)
    yield db
    await db.close()


def a_context(db: Sqlite, backend: Backend, files: TaskFiles, hints: Hints) -> Context:
    """Surroundings with nothing else in them."""
    return Context(
        db=db,
        objects=Objects(MemoryStore()),
        fleet=Fleet(CLUSTER, backend),
        probe=_healthy,
        hints=hints,
        load=LoadBoard(started=loop_now()),
        feed=Retained(),
        settings=ControllerSettings(),
        keyring=Keyring.load(None, lambda content: None),
        task_files=files,
        tasks=TaskSettings(),
    )


async def run_all(context: Context, count: int) -> float:
    """Run the controllers until every task has ended; how many seconds that took."""
    began = loop_now()
    async with Supervisor() as supervisor:
        supervisor.start(Controllers(context).run(), name="controllers", essential=True)
        while await context.db.run(_left):
            if loop_now() - began > 300:
                raise SystemExit("it takes longer than 300 s")
            await asyncio.sleep(0.2)
        return loop_now() - began


def _left(tx: Transaction) -> bool:
    return bool(tasks.busy_gpus(tx))


async def busy(count: int, length: float) -> None:
    """How busy the GPUs are with a backend that only waits."""
    with tempfile.TemporaryDirectory() as root:
        async with a_database(Path(root), count) as db:
            hints, backend = Hints(), Waiting(length)
            backend.tell = lambda instance_id: hints.hint("seen", instance_id)
            used = psutil.Process().cpu_times()
            await run_all(a_context(db, backend, FakeTaskFiles(), hints), count)
            spent = psutil.Process().cpu_times()
    whole = GPUS * (backend.last - backend.first)
    cpu = spent.user + spent.system - used.user - used.system
    assert len(backend.launches) == count, "each ran once"
    print(
        f"busy: {count} tasks of {1000 * length:.0f} ms on {GPUS} GPUs: {100 * backend.busy / whole:.1f} % "
        f"({backend.last - backend.first:.1f} s, {1000 * cpu / count:.1f} ms CPU each)"
    )


async def busy_processes(count: int, length: float) -> None:
    """The same with processes."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = root / "job"
        source.mkdir()
        (source / "function.toml").write_text(f'name = "job"\ncommand = ["/bin/sleep", "{length}"]\n')
        Catalog(root / "images").add(source)
        async with a_database(root, count) as db, Supervisor() as supervisor:
            hints = Hints()
            backend = ProcessBackend(
                ProcessSettings(),
                data=root,
                catalog=Catalog(root / "images"),
                supervisor=supervisor,
                tell=lambda instance_id: hints.hint("seen", instance_id),
            )
            await backend.open()
            took = await run_all(a_context(db, backend, LocalTaskFiles(root / "tasks"), hints), count)
            await backend.close(terminate=True)
    print(
        f"busy: {count} processes of {1000 * length:.0f} ms: {100 * count * length / GPUS / took:.1f} % ({took:.1f} s)"
    )


async def passes(count: int, rounds: int) -> tuple[float, int]:
    """The median CPU time in ms, and the steps of SQLite, of a pass that places one task of so many."""
    with tempfile.TemporaryDirectory() as root:
        async with a_database(Path(root), count) as db:
            backend = FakeBackend()
            queue = Controllers(a_context(db, backend, FakeTaskFiles(), Hints())).task_queue
            await queue.reconcile("H100")
            times, steps = [], 0
            for _ in range(rounds):
                await db.run(_end_one)
                with counted(db) as counter:
                    before = time.process_time()
                    await queue.reconcile("H100")
                    times.append(1000 * (time.process_time() - before))
                steps = counter[0]
    return statistics.median(times), steps


def _end_one(tx: Transaction) -> None:
    task = tasks.placed(tx, "H100")[0]
    tasks.save(tx, task, replace(task, phase=task.phase.ENDED, ended_at=utc_now()))


@contextlib.contextmanager
def counted(db: Sqlite):  # type: ignore[no-untyped-def]
    """Count the steps of SQLite's machine, by hundreds."""
    counter = [0]

    def step() -> int:
        counter[0] += 1
        return 0

    connection = db.engine.raw_connection()
    driver = connection.driver_connection
    assert driver is not None
    driver.set_progress_handler(step, 1)
    try:
        yield counter
    finally:
        driver.set_progress_handler(None, 1)
        connection.close()


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tasks", type=int, default=1000)
    options.add_argument("--length", type=float, default=0.1, metavar="SECONDS")
    options.add_argument("--processes", action="store_true", help="run real processes")
    given = options.parse_args()
    run = busy_processes if given.processes else busy
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(given.tasks, given.length))
        for count in (100, 10_000):
            milliseconds, steps = runner.run(passes(count, 20))
            print(f"pass: {count:6} queued: {milliseconds:.2f} ms CPU, {steps} steps of SQLite")


if __name__ == "__main__":
    main()

"""Tasks, with the control plane killed at any call it makes, and what may never happen to a task.

As ``test_crashes`` does it for functions: controllers are driven pass by pass, in random order, on a clock that only
this test moves; a crash is an exception that nothing in the code can catch, and after it new controllers start over
the same database, backend, directories and objects.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias

import pytest
from control_world import CLUSTER, ControlWorld, ObjectsInMemory, a_context, virtual_now
from hypothesis import HealthCheck, example, given, settings, strategies as st
from task_building import a_task
from test_crashes import QUICK, Crash, HandLoop, Trap, TrappedBackend, TrappedDatabase

from gpufn.compute.backend import BackendError
from gpufn.compute.fake import FakeTaskFiles
from gpufn.model.errors import Unavailable
from gpufn.model.ids import InstanceId, TaskId
from gpufn.model.task import ResultStrategy, Task, TaskPhase, TaskStatus, TaskWanted
from gpufn.settings import TaskSettings
from gpufn.store import tasks
from gpufn.store.task_tables import tasks as table

LIMITS = TaskSettings(silence_timeout=1_000_000, ready_timeout=0, keep_ended=1_000_000)
CAPACITY = CLUSTER.gpus[0].capacity
MOMENT = 0.001
"""Seconds between any two passes or events: what happened first is recorded as earlier."""
PATIENCE = 120
"""Rounds after the last event within which every task must have ended."""
CHANGE = re.compile(r"Changing status from '(\w+)' to '(\w+)'")
AGAIN = "Starting the instance again"


@dataclass(frozen=True)
class Launch:
    """POST of a task."""

    units: int
    retries: int
    strategy: ResultStrategy


@dataclass(frozen=True)
class Ask:
    """Cancel or DELETE of the ``which``-th task."""

    wanted: TaskWanted
    which: int


@dataclass(frozen=True)
class Report:
    """The ``which``-th running task writes its progress file, and with it a folder of results."""

    which: int
    percent: int


@dataclass(frozen=True)
class Harm:
    """What runs as the ``which``-th instance ends, well or not, or vanishes."""

    how: str
    which: int


Event: TypeAlias = Launch | Ask | Report | Harm


@dataclass(frozen=True)
class Fault:
    """Strikes the ``at``-th call of verb ``of`` (empty: any). ``event``: what others do before it, in a race."""

    of: str
    at: int
    kind: str
    event: Event | None = None


@dataclass(frozen=True)
class Step:
    """Something happens, time goes by, and every controller passes over each of its keys, shuffled by ``order``."""

    event: Event | None
    pause: float
    order: int
    fault: Fault | None


class TrappedObjects(ObjectsInMemory):
    """A store that may be the last thing a control plane wrote to."""

    def __init__(self, trap: Trap) -> None:
        super().__init__()
        self._trap = trap

    async def put(self, key: str, content: bytes | AsyncIterable[bytes]) -> None:
        plain = super().put
        await self._trap.around("put", lambda: plain(key, content), Unavailable("the bucket is away"))

    async def delete(self, *keys: str) -> None:
        plain = super().delete
        await self._trap.around("delete", lambda: plain(*keys), Unavailable("the bucket is away"))


class Drill:
    """A control plane with tasks under attack, and what is known of them."""

    def __init__(self, loop: HandLoop) -> None:
        self.loop, self.trap = loop, Trap()
        self.trap.race = self.happen  # type: ignore[assignment]  # its events are others than those of functions
        self.db, self.backend = TrappedDatabase(self.trap), TrappedBackend(self.trap)
        self.files, self.objects = FakeTaskFiles(), TrappedObjects(self.trap)
        self.world = self._a_world()
        self.launched: list[str] = []
        self.deleted: set[str] = set()
        self.outcomes: dict[str, TaskStatus] = {}
        self.lost: Counter[InstanceId] = Counter()
        self.named = 0

    def _a_world(self) -> ControlWorld:
        context = a_context(self.backend, settings=QUICK, task_settings=LIMITS, db=self.db)
        return ControlWorld(replace(context, task_files=self.files, objects=self.objects), self.backend)

    async def take(self, step: Step) -> None:
        """A step. Its fault waits for its call, in later steps too if need be."""
        self.trap.fault, waiting = None, self.trap.fault
        if step.event is not None:
            await self.happen(step.event)
        self.loop.hand += step.pause
        self.trap.fault = waiting
        if step.fault is not None:
            self.trap.arm(step.fault)  # type: ignore[arg-type]
        try:
            await self.round(step.order)
        except Crash:
            self.world = self._a_world()
        self.check()

    async def round(self, order: int) -> None:
        """Every controller over all its keys; a refused call ends one pass, as the control loop has it."""
        passes: list[tuple[Callable[[str], Awaitable[float | None]], str]] = []
        for one in (self.world.controllers.tasks, self.world.controllers.task_queue, self.world.controllers.reaper):
            try:
                passes += [(one.reconcile, key) for key in sorted(await one.keys())]
            except (BackendError, Unavailable):
                continue
        Random(order).shuffle(passes)
        for reconcile, key in passes:
            self.loop.hand += MOMENT
            with contextlib.suppress(BackendError, Unavailable):
                await reconcile(key)
            self.check()

    async def happen(self, event: Event) -> None:
        """What users, tasks and machines do; nothing where it makes no sense now."""
        self.loop.hand += MOMENT
        match event:
            case Launch(units, retries, strategy):
                task = a_task(now=virtual_now(), units=units, retries=retries, result_strategy=strategy)
                self.launched.append(task.id)
                with self.db.engine.begin() as tx:
                    tasks.insert(tx, task)
            case Ask(wanted, which):
                self._ask(wanted, which)
            case Report(which, percent):
                self._report(which, percent)
            case Harm(how, which):
                await self._harm(how, which)

    def _ask(self, wanted: TaskWanted, which: int) -> None:
        with self.db.engine.begin() as tx:
            there = [t for i in self.launched if (t := tasks.get(tx, i)) is not None]
            if not there or (wanted is TaskWanted.CANCELED and there[which % len(there)].status.is_terminal):
                return
            task = there[which % len(there)]
            if wanted is TaskWanted.DELETED:
                self.deleted.add(task.id)
            tasks.save(tx, task, replace(task, wanted=wanted, updated_at=virtual_now()))

    def _report(self, which: int, percent: int) -> None:
        running = [t for t in self.rows() if t.instance_id in self.running()]
        if not running:
            return
        task = running[which % len(running)]
        self.named += 1
        name = f"r{self.named}"
        self.files.left.setdefault(task.id, {})[f"{name}/a"] = b"a"
        self.files.left[task.id][f"{name}/b"] = b"b"
        moment = virtual_now().isoformat()
        text = f'{{"percentComplete": {percent}, "name": "{name}", "lastUpdatedAt": "{moment}"}}'
        self.files.reports[task.id] = text.encode()

    async def _harm(self, how: str, which: int) -> None:
        running = sorted(self.running())
        if not running:
            return
        victim = InstanceId(running[which % len(running)])
        if how == "lose":
            self.lost[victim] += 1
            self.backend.lose(victim)
        else:
            self.backend.exit(victim, 0 if how == "end" else 3)

    def rows(self) -> list[Task]:
        """Every recorded task, read past the trap."""
        with self.db.engine.begin() as tx:
            ids = tx.execute(table.select().with_only_columns(table.c.id)).scalars().all()
            return [t for i in ids if (t := tasks.get(tx, i)) is not None]

    def events(self, task_id: str) -> list[str]:
        """What a task was told to have gone through."""
        with self.db.engine.begin() as tx:
            return [e.message for e in tasks.events_page(tx, task_id, limit=1000, after=None)]

    def running(self) -> set[str]:
        """What has something running, seen past the trap."""
        now = self.loop.time()
        return {i for i, one in self.backend.instances.items() if one.seen(now).phase in ("preparing", "running")}

    def check(self) -> None:
        """What holds after every pass, every crash and every event."""
        rows = {t.id: t for t in self.rows()}
        placed = [t for t in rows.values() if t.phase is TaskPhase.PLACED]
        assert sum(t.definition.units for t in placed) <= CAPACITY, "more GPUs given than there are"
        assert self.running() <= {str(t.instance_id) for t in placed}, "something runs that no placed task accounts for"
        assert {i for i in self.launched if i not in self.deleted} <= rows.keys(), "a task was lost"
        for task in rows.values():
            self._check(task)

    def _check(self, task: Task) -> None:
        told = self.events(task.id)
        steps = [match.groups() for e in told if (match := CHANGE.match(e))]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(steps)), f"its events do not follow: {told}"
        reached = steps[-1][1] if steps else "QUEUED"
        assert reached == task.status, f"its events end with {reached}, but it is {task.status}"
        ran = [r.instance_id for r in self.backend.launches if r.task is not None and r.task.id == task.id]
        said = sum("to 'QUEUED'" in e or e.startswith(AGAIN) for e in told)
        vanished = sum(self.lost[i] for i in ran)
        assert len(ran) - 1 <= said + vanished, f"run {len(ran)} times, and said {said} times: {told}"
        assert all(count <= 1 + self.lost[i] for i, count in Counter(ran).items()), "started twice as one instance"
        assert task.failures <= task.definition.retries, "repeated more often than was asked for"
        if task.id in self.outcomes and task.wanted is not TaskWanted.DELETED:
            assert self.outcomes[task.id] == task.status, "an outcome was changed"
        if task.status.is_terminal:
            self.outcomes.setdefault(task.id, task.status)

    async def settle(self) -> None:
        """Whatever runs ends well: every task ends, with results that are there, and nothing is left behind."""
        self.trap.arm(None)
        for n in range(PATIENCE):
            for instance_id in self.running():
                self.backend.exit(InstanceId(instance_id), 0)
            self.loop.hand += 2.0
            await self.round(n)
            if all(t.phase is TaskPhase.ENDED and t.wanted is not TaskWanted.DELETED for t in self.rows()):
                break
        rows = {t.id: t for t in self.rows()}
        assert rows.keys() == {i for i in self.launched if i not in self.deleted}, "not all that was deleted is gone"
        assert all(t.status.is_terminal and t.ended_at is not None for t in rows.values()), "a task never ended"
        assert not self.running(), "something still runs"
        await self._check_results(rows)

    async def _check_results(self, rows: Mapping[TaskId, Task]) -> None:
        kept = set(self.objects.kept)
        for task in rows.values():
            with self.db.engine.begin() as tx:
                results = tasks.results_page(tx, task.id, limit=100, after=None)
            assert len({r.name for r in results}) == len(results), "a result is listed twice"
            assert {f.key for r in results for f in r.files} <= kept, "a listed file is not in the store"
        assert all(key.split("/")[1] in rows for key in kept), "a deleted task left objects"


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Launch, st.sampled_from([1, 2, 5, 8]), st.integers(0, 2), st.sampled_from(ResultStrategy)),
    st.builds(Ask, st.sampled_from([TaskWanted.CANCELED, TaskWanted.DELETED]), st.integers(0, 5)),
    st.builds(Report, st.integers(0, 3), st.sampled_from([10, 50, 50, 100])),
    st.builds(Harm, st.sampled_from(["end", "fail", "lose"]), st.integers(0, 3)),
)
VERBS = st.sampled_from(["", "run", "launch", "terminate", "observe", "put", "delete", "forget"])
FAULTS = st.one_of(
    st.builds(
        Fault, VERBS, st.just(1) | st.integers(1, 15), st.sampled_from(["crash before", "crash after", "refused"])
    ),
    st.builds(Fault, VERBS, st.just(1) | st.integers(1, 15), st.just("race"), EVENTS),
)
STEPS = st.lists(
    st.builds(
        Step,
        st.none() | EVENTS,
        st.sampled_from([0.0, 1.0, 3.0, 12.0]),
        st.integers(0, 999),
        st.none() | FAULTS,
    ),
    min_size=4,
    max_size=14,
)
UPLOADS = ResultStrategy.UPLOAD
LAUNCHED_AND_FORGOTTEN = [
    Step(Launch(1, 0, UPLOADS), 0.0, 0, None),
    Step(None, 0.0, 0, Fault("launch", 1, "crash after")),
    Step(None, 3.0, 0, None),
]
"""Launched, and not recorded as such when control is back."""
HALF_UPLOADED = [
    Step(Launch(1, 1, UPLOADS), 0.0, 0, None),
    Step(None, 3.0, 0, None),
    Step(None, 3.0, 0, None),
    Step(None, 3.0, 0, None),
    Step(Report(0, 50), 0.0, 0, None),
    Step(None, 1.0, 0, Fault("put", 2, "crash before")),
    Step(Harm("lose", 0), 1.0, 0, Fault("put", 2, "crash after")),
]
"""One file of a result is in the store, and the other is not; then all is lost."""
HALF_FORGOTTEN = [
    *HALF_UPLOADED[:5],
    Step(None, 1.0, 0, None),
    Step(Ask(TaskWanted.DELETED, 0), 3.0, 0, None),
    Step(None, 3.0, 0, Fault("delete", 1, "crash before")),
]
"""To be forgotten with its results, and control dies before the store was told."""


@pytest.mark.timeout(240)  # a machine with other things to do
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@example(steps=LAUNCHED_AND_FORGOTTEN)
@example(steps=HALF_UPLOADED)
@example(steps=HALF_FORGOTTEN)
@given(steps=STEPS)
def test_no_task_is_lost_or_run_twice_in_silence(steps: Sequence[Step]) -> None:
    """Whatever crashes, is refused or races: every task ends once, tells of every attempt, and leaves nothing."""
    loop = HandLoop()

    async def drill() -> None:
        one = Drill(loop)
        for step in steps:
            await one.take(step)
        await one.settle()
        await one.db.close()

    try:
        loop.run_until_complete(drill())
    finally:
        loop.close()

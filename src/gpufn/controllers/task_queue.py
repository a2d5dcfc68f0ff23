"""The queue of tasks: who gets GPUs next, who has waited too long, who gives way to a function.

A pass is one transaction over one kind of GPU. It reads as many tasks as fit and no more, so its cost does not depend
on how many wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gpufn.controllers import capacity
from gpufn.controllers.context import Context
from gpufn.model.cluster import Gpu
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.task import TaskPhase, TaskStatus
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.store import deployments, instances, tasks
from gpufn.store.database import Transaction

log = get_logger("task queue")

BATCH = 100
"""Tasks placed or given up in one pass."""
WAITED = "it waited longer than maxQueuedDuration for free GPUs"


@dataclass(frozen=True)
class Outcome:
    """What a pass changed, and when time alone makes another one necessary."""

    placed: tuple[str, ...] = ()
    evicted: tuple[str, ...] = ()
    expired: int = 0
    again: float | None = None


class TaskQueue:
    """Key: the name of a GPU that tasks hold or wait for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._busy: set[str] = set()
        self.controller: Controller[str] = Controller(
            "task queue", self.reconcile, self.keys, workers=1, resync=context.settings.resync
        )

    async def keys(self) -> Sequence[str]:
        """The GPUs that tasks hold or wait for."""
        found = await self._context.db.run(tasks.busy_gpus)
        self._busy = set(found)
        return found

    def hint_gpu(self, gpu: str) -> None:
        """A task came, or one has ended."""
        self._busy.add(gpu)
        self.controller.hint(gpu)

    def hint_functions(self, _: str) -> None:
        """What functions need may have changed."""
        for gpu in self._busy:
            self.controller.hint(gpu)

    async def reconcile(self, gpu: str) -> float | None:
        """One pass."""
        now = self._context.now()
        outcome = await self._context.db.run(lambda tx: self._pass(tx, gpu, now))
        for task_id in (*outcome.placed, *outcome.evicted):
            self._context.hints.hint("task", task_id)
        if outcome.evicted:
            log.info("tasks give way to functions", gpu=gpu, tasks=len(outcome.evicted))
        if outcome.expired:
            log.info("tasks waited too long", gpu=gpu, tasks=outcome.expired)
        return outcome.again

    def _pass(self, tx: Transaction, name: str, now: datetime) -> Outcome:
        expired = tasks.waited_too_long(tx, name, now, limit=BATCH)
        for task in expired:
            ended = task.ended(TaskStatus.EXCEEDED_MAX_QUEUED_DURATION, now, f"{WAITED}: {task.detail or name}")
            tasks.save(tx, task, replace(ended, phase=TaskPhase.ENDED, ended_at=now))
        gpu = self._context.cluster.gpu(name)
        if gpu is None:  # the machine has lost it: what waits for it waits until its time is over
            return Outcome(expired=len(expired), again=_until(tasks.next_deadline(tx, name), now))
        placed = tasks.placed(tx, gpu.name)
        there = capacity.room(gpu.capacity, claims(tx, gpu), sum(t.definition.units for t in placed))
        victims = capacity.to_give_way(placed, there.short)
        for task in victims:
            reason = f"a function needs {gpu.name} for its minimum of instances"
            tasks.save(tx, task, replace(task, requeue=reason, updated_at=now))
        queue = tasks.waiting(tx, gpu.name, limit=min(BATCH, there.free)) if there.free else []
        chosen = capacity.first_that_fit(queue, there.free)
        for task in chosen:
            tasks.save(tx, task, task.placed(InstanceId(new_id()), now))
        again = 0.0 if len(expired) == BATCH or len(chosen) == BATCH else _until(tasks.next_deadline(tx, name), now)
        return Outcome(tuple(t.id for t in chosen), tuple(t.id for t in victims), len(expired), again)


def _until(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def claims(tx: Transaction, gpu: Gpu) -> list[capacity.Claim]:
    """What functions need of one GPU."""
    minimums = deployments.minimums(tx, gpu.name)
    running = instances.live_counts(tx, gpu.name)
    found = []
    for spec_id in {**minimums, **running}:
        instance_type, minimum = minimums.get(spec_id, ("", 0))
        there = running.get(spec_id, instances.Counts(instance_type))
        shape = gpu.instance_type(there.instance_type)
        units = shape.gpu_count if shape else 1
        found.append(capacity.Claim(units, minimum, there.wanted, there.serving, there.leaving))
    return found

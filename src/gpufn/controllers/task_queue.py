"""The queue of tasks: who gets GPUs next, who has waited too long, who gives way to a function.

A pass is one transaction over one kind of GPU. It reads as many tasks as fit and no more, so its cost does not depend
on how many wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from gpufn.controllers import capacity
from gpufn.controllers.context import Context
from gpufn.controllers.placing import wish_of_task
from gpufn.model.cluster import Cluster, ClusterMode, Clusters
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.placement import Use, Waits, choose, unfit
from gpufn.model.task import Task, TaskPhase, TaskStatus
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.store import clusters as stored, deployments, instances, tasks
from gpufn.store.database import Transaction

log = get_logger("task queue")

BATCH = 100
"""Tasks placed or given up in one pass."""
Holders: TypeAlias = Mapping[str, frozenset[str] | None]
"""Of images the clusters that alone have them; None where any may fetch it."""
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
        only = await self._holders(gpu)
        outcome = await self._context.db.run(lambda tx: self._pass(tx, gpu, only, now))
        for task_id in (*outcome.placed, *outcome.evicted):
            self._context.hints.hint("task", task_id)
        if outcome.evicted:
            log.info("tasks give way to functions", gpu=gpu, tasks=len(outcome.evicted))
        if outcome.expired:
            log.info("tasks waited too long", gpu=gpu, tasks=outcome.expired)
        return outcome.again

    async def _holders(self, gpu: str) -> Holders:
        """Who has the images of those that may be placed next; where there is one cluster, nobody asks."""
        clusters = self._context.fleet.clusters.all
        if len(clusters) == 1:
            return {}
        most = min(BATCH, sum(found.capacity for c in clusters if (found := c.gpu(gpu)) is not None))
        now = self._context.now()
        images = await self._context.db.run(lambda tx: {_image(t) for t in tasks.waiting(tx, gpu, now, limit=most)})
        return {image: await self._context.fleet.holders(image) for image in images}

    def _pass(self, tx: Transaction, name: str, only: Holders, now: datetime) -> Outcome:
        expired = tasks.waited_too_long(tx, name, now, limit=BATCH)
        for task in expired:
            ended = task.ended(TaskStatus.EXCEEDED_MAX_QUEUED_DURATION, now, f"{WAITED}: {task.detail or name}")
            tasks.save(tx, task, replace(ended, phase=TaskPhase.ENDED, ended_at=now))
        clusters = self._context.fleet.clusters
        offers = {c.id: gpu for c in clusters.all if _takes_tasks(c) and (gpu := c.gpu(name)) is not None}
        if not offers:  # nobody has it: what waits for it waits until somebody does, or its time is over
            return Outcome(expired=len(expired), again=_next(tx, name, now))
        devices = sum(gpu.capacity for gpu in offers.values())
        used = sum(units for c, gpu, units, _ in tasks.held(tx) if gpu == name and (c or clusters.local.id) in offers)
        there = capacity.room(devices, claims(tx, name, clusters, offers), used)
        victims = self._evict(tx, name, there.short, offers, now) if there.short else ()
        queue = tasks.waiting(tx, name, now, limit=min(BATCH, there.free)) if there.free else []
        chosen = self._place(tx, capacity.first_that_fit(queue, there.free), only, now)
        again = 0.0 if len(expired) == BATCH or len(chosen) == BATCH else _next(tx, name, now)
        return Outcome(tuple(chosen), tuple(victims), len(expired), again)

    def _evict(self, tx: Transaction, name: str, short: int, offers: Collection[str], now: datetime) -> Sequence[str]:
        """Mark those that give up their GPUs."""
        local = self._context.fleet.clusters.local.id
        placed = [t for t in tasks.placed(tx, name) if (t.cluster_id or local) in offers]
        victims = capacity.to_give_way(placed, short)
        for task in victims:
            reason = f"a function needs {name} for its minimum of instances"
            tasks.save(tx, task, replace(task, requeue=reason, updated_at=now))
        return [task.id for task in victims]

    def _place(self, tx: Transaction, queue: Sequence[Task], only: Holders, now: datetime) -> list[str]:
        """Each in its cluster. Where one has to wait for room nobody behind it is placed, which would starve it."""
        if not queue:
            return []
        clusters, chosen, blocked = self._context.fleet.clusters, list[str](), set[str]()
        held = stored.held(tx, clusters)
        local_only = frozenset({clusters.local.id})
        for task in queue:
            wish = wish_of_task(task, only.get(_image(task), local_only))
            fitting = {c.id for c in clusters.all if unfit(c, wish, alone=len(clusters.all) == 1) is None}
            if fitting and fitting <= blocked:
                continue
            wish = replace(wish, only=frozenset(fitting - blocked)) if fitting else wish
            found = choose(clusters, wish, {c.id: Use(held.get(c.id, {})) for c in clusters.all})
            if isinstance(found, Waits):
                blocked |= fitting
                if task.detail != found.reason:
                    tasks.save(tx, task, replace(task, detail=found.reason))
                continue
            held.setdefault(found.cluster.id, Counter())[found.gpu.name] += task.definition.units
            tasks.save(tx, task, task.placed(InstanceId(new_id()), found.cluster.id, now))
            chosen.append(task.id)
        return chosen


def _next(tx: Transaction, gpu: str, now: datetime) -> float | None:
    """Seconds until time alone changes something: a task has waited too long, or may be tried again."""
    moments = (tasks.next_deadline(tx, gpu), tasks.next_turn(tx, gpu, now))
    first = min((moment for moment in moments if moment is not None), default=None)
    return None if first is None else max(0.0, (first - now).total_seconds())


def _image(task: Task) -> str:
    return task.definition.container_image or ""


def _takes_tasks(cluster: Cluster) -> bool:
    return cluster.answers and cluster.mode is ClusterMode.READY and cluster.shares_files


def claims(tx: Transaction, gpu: str, clusters: Clusters, offers: Collection[str]) -> list[capacity.Claim]:
    """What functions need of one GPU in some of the clusters; what serves elsewhere counts towards the minimum."""
    minimums = deployments.minimums(tx, gpu)
    running = instances.live_counts(tx, gpu)
    found = []
    for spec_id in dict.fromkeys([*minimums, *(spec for spec, _ in running)]):
        instance_type, minimum = minimums.get(spec_id, ("", 0))
        here, elsewhere = instances.Counts(instance_type), 0
        for (spec, cluster_id), counts in running.items():
            if spec != spec_id:
                continue
            if (cluster_id or clusters.local.id) in offers:
                here = here.plus(counts)
            else:
                elsewhere += counts.serving
        shape = clusters.shape(gpu, here.instance_type)
        units = shape[1].gpu_count if shape is not None else 1
        least = max(0, minimum - elsewhere)
        found.append(capacity.Claim(units, least, here.wanted, here.serving, here.leaving))
    return found

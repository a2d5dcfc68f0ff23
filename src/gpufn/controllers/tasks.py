"""Tasks: from placement to their end, and away with what is old.

A pass is load, look, decide, do, save, as for instances; ``task_plan`` decides. Waiting for GPUs is ``task_queue``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from gpufn.compute.backend import Backend, BackendError, Observation, Phase
from gpufn.controllers import task_progress
from gpufn.controllers.context import Context
from gpufn.controllers.launching import task_launch_request, telemetry_variables
from gpufn.controllers.placing import is_overdue, lost_with, silence
from gpufn.controllers.plan import FASTEST_POLL, Terminate, Wait
from gpufn.controllers.secrets import files_of, logins_of, of_task
from gpufn.controllers.task_plan import (
    Beat,
    End,
    Evict,
    Free,
    Keep,
    QueueAgain,
    Report,
    Start,
    TaskLimits,
    TaskSight,
    TaskStep,
    failed,
    grace,
    retry_delay,
    task_step,
)
from gpufn.controllers.task_progress import BadProgress, Progress, Unreadable
from gpufn.controllers.task_results import ResultKeeper
from gpufn.controllers.task_upload import HEARTBEAT, Upload
from gpufn.model.cluster import Cluster
from gpufn.model.errors import Stale
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Failure, FailureKind
from gpufn.model.secret import task_place
from gpufn.model.task import Task, TaskPhase, TaskResult, TaskStatus, TaskWanted
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.settings import TaskSettings
from gpufn.store import secrets, tasks, telemetries
from gpufn.store.database import Transaction

log = get_logger("tasks")

WORKERS = 64
"""Passes at once: one may keep a large result meanwhile."""
BATCH = 100
"""Canceled, deleted and old tasks taken up at once."""
READ_TRIES, READ_PAUSE = 10, 0.05
"""How often a progress file that cannot be understood is read again, and after how many seconds."""
SILENT_LOOK = 5.0
"""Seconds until the next look at a task whose cluster does not answer; it is hinted when that changes."""
DETAIL_MAX = 500
SOON = 0.1
"""Seconds from the moment a task was seen to run to the next look at it."""


@dataclass(frozen=True)
class Done:
    """What a step makes of a task. ``why`` goes into the event, ``result`` and ``note`` beside it."""

    task: Task
    again: float | None = 0.0
    before: Task | None = None
    """The task as it was written last, where the step itself wrote it."""
    why: str | None = None
    result: TaskResult | None = None
    note: str | None = None


class Tasks:
    """Key: the id of a task that is placed, canceled, deleted or old."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limits = limits(context.tasks, context.settings.stop_grace)
        self._keeper = ResultKeeper(context.task_files, context.objects)
        self._placed: dict[str, str] = {}
        """Tasks by their instances."""
        self.controller: Controller[str] = Controller(
            "tasks", self.reconcile, self.keys, workers=WORKERS, resync=context.settings.resync
        )

    async def keys(self) -> Sequence[str]:
        """Every task there is something to do for, beyond waiting."""
        before = self._context.now() - timedelta(seconds=self._context.tasks.keep_ended)
        return await self._context.db.run(lambda tx: tasks.unsettled(tx, before, limit=BATCH))

    async def reconcile(self, task_id: str) -> float | None:
        """One pass; returns the seconds until the next, None when nothing is to be done any more."""
        task = await self._context.db.run(lambda tx: tasks.get(tx, task_id))
        if task is None:
            return None
        if task.phase is not TaskPhase.PLACED:
            return await self._settle(task)
        if task.instance_id is not None:
            self._placed[task.instance_id] = task.id
        try:
            silent = silence(self._context.fleet.clusters, task.cluster_id)
            if silent:
                await self._note(task, silent)
                return SILENT_LOOK
            if self._is_to_move(task):
                reason = "its cluster is drained for maintenance"
                return await self._save(task, Done(replace(task, requeue=reason, updated_at=self._context.now())))
            return await self._pass(task)
        except Stale:  # somebody wrote it while we looked: look again
            return 0.0
        except BackendError as error:
            await self._note(task, str(error))
            raise

    async def _pass(self, task: Task) -> float | None:
        sight = await self._look(task)
        step = task_step(task, sight, self._context.now(), self._limits)
        if step is None:
            return None
        done = await self._do(task, step)
        if sight.observation.phase is Phase.EXITED:
            done = freed(done, self._context.now())
        again = await self._save(task, done)
        if done.task.phase is not TaskPhase.PLACED and task.instance_id is not None:
            self._placed.pop(task.instance_id, None)
            if sight.observation.phase is Phase.EXITED:
                await self._clear(task, task.instance_id)
        return again

    async def _clear(self, task: Task, instance_id: InstanceId) -> None:
        """What is left of an instance that has ended. What fails here is done when the task is forgotten."""
        try:
            await self._backend(task).terminate(instance_id, grace=0.0)
        except BackendError as error:
            log.warning("an instance that has ended is not cleared away yet", instance=instance_id, error=str(error))

    def hint_instance(self, instance_id: str) -> None:
        """Something is seen anew of an instance: if it is a task's, look at that task now."""
        task_id = self._placed.get(instance_id)
        if task_id is not None:
            self.controller.hint(task_id)

    async def _settle(self, task: Task) -> float | None:
        """A task without an instance: it ends when it was canceled, and is forgotten when its time came."""
        now = self._context.now()
        old = now - timedelta(seconds=self._context.tasks.keep_ended)
        if task.wanted is TaskWanted.DELETED or (task.ended_at is not None and task.ended_at < old):
            await self._forget(task)
        elif task.wanted is TaskWanted.CANCELED and task.phase is TaskPhase.QUEUED:
            return await self._save(task, Done(replace(task, phase=TaskPhase.ENDED, ended_at=now), again=None))
        return None

    async def _forget(self, task: Task) -> None:
        """The row goes last: a crash leaves something to find."""
        for instance_id in task.instances:
            for _, backend in self._context.fleet.everywhere():  # of a past attempt nobody knows where it was
                await backend.forget(instance_id)
        await self._keeper.forget(task.id)
        await self._context.task_files.remove(task.id)
        await self._context.db.run(lambda tx: _delete(tx, task))
        log.info("task forgotten", task=task.id)

    def _is_to_move(self, task: Task) -> bool:
        """Whether it could not finish in the time that a cluster under maintenance leaves it."""
        if task.status.is_terminal or task.requeue is not None:
            return False
        cluster = self._context.fleet.clusters.get(task.cluster_id)
        return is_overdue(cluster, self._context.now(), self._context.settings.cluster_drain)

    async def _look(self, task: Task) -> TaskSight:
        if task.instance_id is None:
            return TaskSight(Observation(Phase.ABSENT))
        cluster = self._context.fleet.clusters.get(task.cluster_id)
        if cluster is None or cluster.is_lost:
            return TaskSight(_with_its_cluster(task, cluster))
        seen = (await self._backend(task).observe([task.instance_id]))[task.instance_id]
        if seen.phase not in (Phase.RUNNING, Phase.EXITED) or task.status.is_terminal or task.requeue is not None:
            return TaskSight(seen)
        try:
            progress = await self._progress(task.id)
            news = progress is not None and task_progress.is_news(progress, task)
        except BadProgress as error:
            return TaskSight(seen, problem=str(error))
        return TaskSight(seen, progress, news)

    async def _progress(self, task_id: str) -> Progress | None:
        for attempt in range(READ_TRIES):
            content = await self._context.task_files.progress(task_id)
            try:
                return None if content is None else task_progress.parse(content)
            except Unreadable:  # perhaps it is being written
                if attempt == READ_TRIES - 1:
                    raise
            await asyncio.sleep(READ_PAUSE)
        raise AssertionError("unreachable")

    async def _do(self, task: Task, step: TaskStep) -> Done:
        now = self._context.now()
        match step:
            case Start():
                return await self._start(task, step, now)
            case Report():
                return await self._report(task, step.progress, now)
            case Keep():
                return await self._keep_all(task, now)
            case Terminate():
                if task.instance_id is not None:
                    await self._backend(task).terminate(task.instance_id, grace=grace(task, self._limits))
                return Done(task, again=step.wait)
            case Wait():
                return Done(replace(task, detail=step.detail[:DETAIL_MAX]), again=step.seconds)
            case _:
                return recorded(task, step, now)

    def _backend(self, task: Task) -> Backend:
        return self._context.fleet.backend(task.cluster_id)

    async def _start(self, task: Task, step: Start, now: datetime) -> Done:
        cluster = self._context.fleet.clusters.get(task.cluster_id)
        if cluster is None:
            return Done(task)
        sealed, used = await self._context.db.run(
            lambda tx: (of_task(tx, task), telemetries.chosen(tx, task.nca_id, task.definition.telemetries))
        )
        files = files_of(self._context.keyring, sealed)
        directory = await self._context.task_files.prepare(task.id)
        request = task_launch_request(task, cluster, directory, files, telemetry_variables(used))
        if isinstance(request, Failure):
            return Done(task.ended(TaskStatus.ERRORED, now, request.message))
        await self._backend(task).launch(replace(request, logins=logins_of(self._context.keyring, sealed)))
        note = "Starting the instance again, which was gone before it was seen to run" if step.again else None
        after = replace(task, launched_at=task.launched_at or now, updated_at=now)
        return Done(after, again=FASTEST_POLL, note=note)

    async def _keep_all(self, task: Task, now: datetime) -> Done:
        upload = Upload(self._context, task)
        result = await self._keeper.all_of(task, now, upload.check)
        task = upload.task
        if isinstance(result, str):
            return replace(recorded(task, failed(task, result), now), before=task)
        return Done(task.ended(TaskStatus.COMPLETED, now), before=task, result=result)

    async def _report(self, task: Task, progress: Progress, now: datetime) -> Done:
        upload = Upload(self._context, task)
        result = await self._keeper.named(task, progress, now, upload.check)
        task = upload.task
        if isinstance(result, str):
            return replace(recorded(task, failed(task, result), now), before=task)
        after = replace(_alive(task, now, running=True), percent=progress.percent, result_name=progress.name, detail="")
        if progress.percent == 100:
            after = after.ended(TaskStatus.COMPLETED, now)
        return Done(after, before=task, result=result if isinstance(result, TaskResult) else None)

    async def _save(self, before: Task, done: Done) -> float | None:
        before, after = done.before or before, done.task
        if after == before and done.note is None:
            return done.again

        def write(tx: Transaction) -> None:
            if done.result is not None:
                tasks.add_result(tx, done.result)
            if done.note is not None:
                tasks.add_event(tx, before.id, done.note, after.updated_at)
            tasks.save(tx, before, after, why=done.why)

        await self._context.db.run(write)
        if before.status is not after.status:
            log.info("task", task=before.id, status=after.status.value, error=after.error, why=done.why)
        if before.phase is not after.phase:
            self._context.hints.hint("task-queue", after.definition.gpu)
        return done.again

    async def _note(self, task: Task, detail: str) -> None:
        after = replace(task, detail=detail[:DETAIL_MAX])
        if after.detail != task.detail:
            await self._context.db.run(lambda tx: tasks.save(tx, task, after))


def _with_its_cluster(task: Task, cluster: Cluster | None) -> Observation:
    """What counts as seen of a task whose cluster is lost: first that it is lost, then that nothing is left to end."""
    if task.status.is_terminal or task.requeue is not None:
        return Observation(Phase.ABSENT)
    return Observation(Phase.EXITED, failure=Failure(FailureKind.LOST, lost_with(cluster)))


def _delete(tx: Transaction, task: Task) -> None:
    secrets.delete(tx, task_place(task.nca_id, task.id))
    telemetries.release(tx, task.id)
    tasks.delete(tx, task.id)


def recorded(task: Task, step: Beat | End | Evict | QueueAgain | Free, now: datetime) -> Done:
    """What the steps that touch nothing outside make of a task."""
    match step:
        case Beat():
            return Done(_alive(task, now, running=step.running), again=SOON)
        case End():
            return Done(task.ended(step.outcome, now, step.error))
        case Evict():
            counted = replace(task, failures=task.failures + step.failed, losses=task.losses + step.lost)
            if step.failed:
                counted = replace(counted, queued_at=now + retry_delay(counted.failures))
            return Done(replace(counted, requeue=step.reason, detail="ending", updated_at=now))
        case QueueAgain():
            why = f"{task.requeue}; attempt {task.attempt} ended, it is queued again"
            return Done(task.queued_again(now), why=why)
        case Free():
            return Done(replace(task, phase=TaskPhase.ENDED, ended_at=now))
        case _ as never:
            assert_never(never)


def freed(done: Done, now: datetime) -> Done:
    """An instance that has ended holds no GPU any more: a task that has its outcome is free of it."""
    task = done.task
    if task.phase is not TaskPhase.PLACED or not task.status.is_terminal:
        return done
    return replace(done, task=replace(task, phase=TaskPhase.ENDED, ended_at=now), again=None)


def limits(settings: TaskSettings, stop_grace: float) -> TaskLimits:
    """The settings that bound a task's life."""
    return TaskLimits(
        ready=timedelta(seconds=settings.ready_timeout),
        silence=timedelta(seconds=settings.silence_timeout),
        heartbeat=HEARTBEAT,
        delete_grace=stop_grace,
    )


def _alive(task: Task, now: datetime, *, running: bool) -> Task:
    """The task as it is after it was seen to run, or to report."""
    after = replace(task, started_at=task.started_at or now, updated_at=now)
    return replace(after, running_at=task.running_at or now, heartbeat_at=now) if running else after

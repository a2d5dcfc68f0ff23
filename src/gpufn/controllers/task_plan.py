"""The next step of one placed task, decided from what is wanted, recorded and seen. Pure.

An outcome is recorded first, then the instance is ended, then the GPUs are free: whichever of the three a crash falls
between, the outcome is not lost and nothing is left running. Where the instance has ended by itself its GPUs are free
with the outcome. What is to be queued again is marked first (``Evict``) in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from gpufn.compute.backend import Observation, Phase
from gpufn.controllers.plan import Terminate, Wait, poll
from gpufn.controllers.task_progress import Progress
from gpufn.model.instance import Failure, FailureKind
from gpufn.model.task import Task, TaskPhase, TaskStatus, TaskWanted
from gpufn.runtime.backoff import Backoff

NOT_READY = "task container is not ready as progress file is not created"
TOO_LONG = "task execution time exceeds the limit"
SILENT = "no update for 'lastUpdatedAt' field in progress file"
WATCH = 1.0
"""Seconds between two looks at a task that runs."""
LINGER = timedelta(seconds=5)
"""How long a task that has reported 100 % may take to end by itself before it is told to."""
RETRY = Backoff(base=1.0, cap=300.0)
"""How long a task that failed waits before it is run again."""
LOSSES_MAX = 5
"""How often a task whose instance vanished is run again."""


@dataclass(frozen=True)
class TaskLimits:
    """How long what may take."""

    ready: timedelta
    """Until the progress file is there; zero: without limit."""
    silence: timedelta
    """Between two ``lastUpdatedAt``."""
    heartbeat: timedelta
    """Between two records that it is alive."""
    delete_grace: float
    """Seconds a deleted task is given to end."""


@dataclass(frozen=True)
class TaskSight:
    """What is seen of a placed task now, the progress file after the instance."""

    observation: Observation
    progress: Progress | None = None
    news: bool = False
    """The progress says something new."""
    problem: str | None = None
    """What is wrong with the progress file, and ends the task."""


@dataclass(frozen=True)
class Start:
    """Ask the backend to run it. ``again``: it had been asked, and has lost it before it ran."""

    again: bool = False


@dataclass(frozen=True)
class Beat:
    """Record that it was seen to run, or its progress file, or that both are still there."""

    running: bool


@dataclass(frozen=True)
class Report:
    """Keep what the progress report stands for; it may be the last."""

    progress: Progress


@dataclass(frozen=True)
class End:
    """Record how it ended."""

    outcome: TaskStatus
    error: str | None = None


@dataclass(frozen=True)
class Keep:
    """It succeeded without ever reporting a result: keep everything it left, then it is complete."""


@dataclass(frozen=True)
class Evict:
    """Record that it is to be queued again, and why: it ``failed`` by its own doing, or its instance was ``lost``."""

    reason: str
    failed: bool = False
    lost: bool = False


@dataclass(frozen=True)
class QueueAgain:
    """Nothing of its instance runs: back into the queue."""


@dataclass(frozen=True)
class Free:
    """Nothing of its instance runs, and it has its outcome: it holds nothing any more."""


TaskStep: TypeAlias = Start | Beat | Report | End | Keep | Evict | QueueAgain | Free | Terminate | Wait


def task_step(task: Task, sight: TaskSight, now: datetime, limits: TaskLimits) -> TaskStep | None:
    """The next step; None when the task is not placed."""
    if task.phase is not TaskPhase.PLACED:
        return None
    if task.status.is_terminal or task.requeue is not None:
        return _finish(task, sight, now)
    match sight.observation.phase:
        case Phase.ABSENT:
            return _absent(task)
        case Phase.EXITED:
            return _exited(task, sight)
        case Phase.RUNNING:
            return _running(task, sight, now, limits)
        case _:
            return Wait(poll(task.updated_at, now), sight.observation.detail)


def grace(task: Task, limits: TaskLimits) -> float:
    """Seconds its instance is given to end."""
    whole = task.definition.termination_grace.total_seconds()
    return min(whole, limits.delete_grace) if task.wanted is TaskWanted.DELETED else whole


def retry_delay(failures: int) -> timedelta:
    """How long the attempt after so many failed ones waits: others go first meanwhile."""
    return timedelta(seconds=RETRY.delay(failures))


def _finish(task: Task, sight: TaskSight, now: datetime) -> TaskStep:
    if sight.observation.phase in (Phase.ABSENT, Phase.EXITED):
        return Free() if task.status.is_terminal else QueueAgain()
    has_run = sight.observation.phase is Phase.RUNNING
    if task.outcome is TaskStatus.COMPLETED and has_run and now - task.updated_at < LINGER:
        return Wait(poll(task.updated_at, now))
    return Terminate(wait=poll(task.updated_at, now))


def _absent(task: Task) -> TaskStep:
    if task.started_at is None:  # it never was seen to run, so the launch itself got lost
        return Start(again=task.launched_at is not None)
    lost = "its instance vanished without a trace, as after a restart of gpufn or of the machine"
    return _lost(task, lost)


def _lost(task: Task, reason: str) -> TaskStep:
    """Run it again, but not for ever: perhaps it is what takes the machine down."""
    if task.losses >= LOSSES_MAX:
        return End(TaskStatus.ERRORED, f"{reason}, for the {task.losses + 1}th time; see its log, then launch it anew")
    return Evict(reason, lost=True)


def _exited(task: Task, sight: TaskSight) -> TaskStep:
    failure = sight.observation.failure or Failure(FailureKind.EXIT, "it ended and left no reason; see its log")
    if sight.news and sight.progress is not None and sight.problem is None:
        return Report(sight.progress)
    if failure.kind is FailureKind.CAPACITY and not failure.permanent:
        return Evict(failure.message)
    if failure.kind is FailureKind.LOST:
        return _lost(task, failure.message)
    if failure.exit_code == 0 and sight.problem is None:
        return End(TaskStatus.COMPLETED) if task.percent is not None else Keep()
    return failed(task, sight.problem or failure.message, permanent=failure.permanent)


def failed(task: Task, error: str, *, permanent: bool = False) -> End | Evict:
    """What follows a failure of its own: another attempt, if that was asked for and can help, or the end."""
    if permanent or task.failures >= task.definition.retries:
        return End(TaskStatus.ERRORED, error)
    return Evict(error, failed=True)


def _running(task: Task, sight: TaskSight, now: datetime, limits: TaskLimits) -> TaskStep:
    if task.started_at is None:
        return Beat(running=False)
    if sight.problem is not None:
        return failed(task, sight.problem)
    if task.running_at is None:
        return _getting_ready(task, task.started_at, sight, now, limits)
    if sight.news and sight.progress is not None:
        return Report(sight.progress)
    return _at_work(task, task.running_at, sight.progress, now, limits)


def _getting_ready(task: Task, since: datetime, sight: TaskSight, now: datetime, limits: TaskLimits) -> TaskStep:
    """Without progress file so far."""
    if sight.progress is not None:
        return Beat(running=True)
    if limits.ready and now - since >= limits.ready:
        return failed(task, NOT_READY)
    return Wait(_watch(since, now), task.detail)


def _at_work(task: Task, since: datetime, progress: Progress | None, now: datetime, limits: TaskLimits) -> TaskStep:
    """Running, with nothing new to report."""
    limit = task.definition.max_runtime
    if limit is not None and now - since >= limit:
        return End(TaskStatus.EXCEEDED_MAX_RUNTIME_DURATION, TOO_LONG)
    if progress is not None and now - max(progress.updated_at, since) >= limits.silence:
        return failed(task, SILENT)
    if task.heartbeat_at is None or now - task.heartbeat_at >= limits.heartbeat:
        return Beat(running=True)
    left = WATCH if limit is None else max(0.0, (since + limit - now).total_seconds())
    return Wait(min(left, _watch(since, now)), task.detail)


def _watch(since: datetime, now: datetime) -> float:
    """A quick look at what is young."""
    return min(WATCH, poll(since, now) * 2)

"""The answer to "why" about a task: what it waits for, how far it is, how it ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gpufn.model.task import Task, TaskEvent, TaskStatus as S
from gpufn.model.why import Explanation, passed


def of_task(task: Task, ahead: int, told: Sequence[TaskEvent], now: datetime) -> Explanation:
    """Why a task is as it is. ``ahead``: how many tasks wait for the same GPU before it; ``told``: its last events."""
    definition = task.definition
    facts = [("status", task.status.value), ("needs", f"{definition.units} x {definition.gpu}")]
    if task.attempt:
        before = f", {task.failures} failed before, {task.losses} lost" if task.failures or task.losses else ""
        facts.append(("attempt", f"{task.attempt}{before}"))
    if task.percent is not None:
        facts.append(("progress", f"{task.percent} %"))
    facts += [("event", f"{e.created_at:%Y-%m-%dT%H:%M:%SZ}  {e.message}") for e in told]
    return Explanation(f"the task {task.name} {_doing(task, ahead, now)}", tuple(facts))


def ails(task: Task) -> bool:
    """Whether the end of its log may tell what is wrong: it failed, it took too long, or an attempt before did."""
    wrong = (S.ERRORED, S.EXCEEDED_MAX_RUNTIME_DURATION, S.EXCEEDED_MAX_QUEUED_DURATION)
    return task.status in wrong or (not task.status.is_terminal and task.failures > 0)


def _doing(task: Task, ahead: int, now: datetime) -> str:
    detail = f": {task.detail}" if task.detail else ""
    match task.status:
        case S.QUEUED if task.instance_id is not None:
            return f"has its GPUs and is about to be launched{detail}"
        case S.QUEUED if task.queued_at > now:
            return f"failed and is tried again in {passed(now, task.queued_at)}{detail}"
        case S.QUEUED:
            waits = f"waits for {task.definition.units} x {task.definition.gpu} since {passed(task.queued_at, now)}"
            return f"{waits}, {_behind(ahead)}{detail}"
        case S.LAUNCHED:
            return f"was launched {passed(task.launched_at or task.updated_at, now)} ago and has not reported{detail}"
        case S.RUNNING:
            percent = "" if task.percent is None else f", {task.percent} % done"
            return f"runs since {passed(task.running_at or task.updated_at, now)}{percent}{detail}"
        case _:
            return _ended(task, now)


def _ended(task: Task, now: datetime) -> str:
    cause = f": {task.error}" if task.error else ""
    match task.status:
        case S.COMPLETED:
            return f"completed {passed(task.ended_at or task.updated_at, now)} ago"
        case S.EXCEEDED_MAX_RUNTIME_DURATION:
            return f"ran longer than maxRuntimeDuration allows{cause}"
        case S.EXCEEDED_MAX_QUEUED_DURATION:
            return f"waited longer than maxQueuedDuration allows{cause}"
        case S.CANCELED:
            return "was canceled" if task.ended_at is not None else "was canceled and is being ended"
        case _:
            return f"failed{cause or ': no reason is recorded'}"


def _behind(ahead: int) -> str:
    if ahead == 0:
        return "first in the queue"
    return f"behind {ahead} other{'s' if ahead != 1 else ''}"

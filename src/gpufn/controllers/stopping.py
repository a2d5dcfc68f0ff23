"""The end of every instance with a clean stop of gpufn: recorded once the backend has ended them.

Without it the next start would find instances that are recorded as running and are not, and call them lost.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from gpufn.model import event
from gpufn.model.event import EventKind
from gpufn.model.instance import InstanceStatus as S
from gpufn.model.task import TaskPhase
from gpufn.store import events, instances, tasks
from gpufn.store.database import Transaction

STOPPED = "stopped with gpufn"


def record_stopped(tx: Transaction, now: datetime) -> int:
    """Record that every live instance has ended, each as ``stopped with gpufn``, or as failed if it had failed before;
    returns how many. Tasks that ran are queued again. Nothing may run any more, and no controller either.
    """
    for task_id in tasks.placed_ids(tx):
        task = tasks.get(tx, task_id)
        if task is None:
            continue
        if task.status.is_terminal:
            tasks.save(tx, task, replace(task, phase=TaskPhase.ENDED, ended_at=now))
        else:
            tasks.save(tx, task, task.queued_again(now), why="gpufn was stopped; it is queued again")
    live = instances.live_ids(tx)
    for instance_id in live:
        instance = instances.get(tx, instance_id)
        if instance is None:
            continue
        if instance.failure is not None:
            after = instance.to(S.ERRORED, now=now, failure=instance.failure)
        else:
            ending = instance if instance.status in (S.PENDING, S.DRAINING) else instance.to(S.DRAINING, now=now)
            after = ending.to(S.TERMINATED, now=now)
        instances.save(tx, replace(after, wanted=False, detail=STOPPED))
        events.insert(tx, (event.of_instance(instance, EventKind.INSTANCE_ENDED, STOPPED, now=now),))
    return len(live)

"""Tasks, their events and their results.

Whoever writes a task compares its revision. A change of the public status and the event that tells of it are one
transaction, so neither is ever without the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from gpufn.model.errors import Stale
from gpufn.model.ids import InstanceId, TaskId, new_id
from gpufn.model.task import Task, TaskEvent, TaskPhase, TaskResult, TaskWanted, changing
from gpufn.store.task_tables import task_events as events, task_results as results, tasks as table

T = TypeVar("T")
Cursor = tuple[datetime, str]
"""The last row of a page: when it was made, and its id."""

# Statements that a pass over a task or a queue runs are made once: making one costs more than running it.
_FIELDS = tuple(f.name for f in fields(Task))
_GET = table.select().where(table.c.id == sa.bindparam("task_id"))
_SAVE = table.update().where(table.c.id == sa.bindparam("task_id"), table.c.revision == sa.bindparam("seen"))
"""Sets whatever columns it is given."""
_QUEUED = (
    table.select()
    .where(table.c.phase == TaskPhase.QUEUED, table.c.gpu == sa.bindparam("name"), table.c.wanted == TaskWanted.RUN)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_WAITING = _QUEUED.where(table.c.queued_at <= sa.bindparam("now")).order_by(table.c.queued_at, table.c.id)
_OVERDUE = _QUEUED.where(table.c.queued_until <= sa.bindparam("now")).order_by(table.c.queued_until)
_DEADLINE = sa.select(sa.func.min(table.c.queued_until)).where(
    table.c.phase == TaskPhase.QUEUED, table.c.gpu == sa.bindparam("name"), table.c.wanted == TaskWanted.RUN
)
_NEXT_TURN = sa.select(sa.func.min(table.c.queued_at)).where(
    table.c.phase == TaskPhase.QUEUED,
    table.c.gpu == sa.bindparam("name"),
    table.c.wanted == TaskWanted.RUN,
    table.c.queued_at > sa.bindparam("now"),
)
_HELD = (
    sa.select(table.c.cluster_id, table.c.gpu, sa.func.sum(table.c.units), sa.func.count())
    .where(table.c.phase == TaskPhase.PLACED)
    .group_by(table.c.cluster_id, table.c.gpu)
)
_NEXT_GPU = sa.select(sa.func.min(table.c.gpu)).where(
    table.c.phase == sa.bindparam("in_phase", type_=table.c.phase.type), table.c.gpu > sa.bindparam("last")
)


def insert(tx: sa.Connection, task: Task) -> None:
    """Record a new task. No event tells of it (tasks page, section 3.2)."""
    tx.execute(table.insert(), _row(task))


def get(tx: sa.Connection, task_id: str) -> Task | None:
    """The task of that id, deleted ones too."""
    row = tx.execute(_GET, {"task_id": task_id}).first()
    return None if row is None else _load(row)


def of_ids(tx: sa.Connection, task_ids: Iterable[str]) -> Mapping[str, Task]:
    """Those of the tasks that exist, by id."""
    wanted = list(task_ids)
    found: dict[str, Task] = {}
    for start in range(0, len(wanted), 500):  # SQLite bounds the number of variables in a statement
        for row in tx.execute(table.select().where(table.c.id.in_(wanted[start : start + 500]))):
            found[row.id] = _load(row)
    return found


def page(tx: sa.Connection, nca_id: str, *, limit: int, after: Cursor | None) -> list[Task]:
    """Up to ``limit`` tasks of the account, newest first, beginning after ``after``; deleted ones are left out."""
    query = table.select().where(table.c.nca_id == nca_id, table.c.wanted != TaskWanted.DELETED)
    if after is not None:
        query = query.where(sa.tuple_(table.c.created_at, table.c.id) < _key(table, after))
    query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    return [_load(row) for row in tx.execute(query)]


def save(tx: sa.Connection, before: Task, after: Task, *, why: str | None = None) -> Task:
    """Write ``after`` in place of ``before``, if nobody has written since, with the event of a changed status.

    ``why`` goes into the event in place of the task's error. Raises Stale when somebody has written. Returns the task
    as it is stored now.
    """
    after = replace(after, revision=before.revision + 1)
    old, new = _row(before), _row(after)
    changed = {name: value for name, value in new.items() if value != old[name]}
    done = tx.execute(_SAVE, changed | {"task_id": before.id, "seen": before.revision})
    if done.rowcount == 0:
        raise Stale(f"task {before.id} was changed meanwhile")
    if before.status is not after.status:
        add_event(tx, before.id, changing(before.status, after.status, why or after.error), after.updated_at)
    return after


def delete(tx: sa.Connection, task_id: str) -> None:
    """Forget a task with its events and results."""
    tx.execute(events.delete().where(events.c.task_id == task_id))
    tx.execute(results.delete().where(results.c.task_id == task_id))
    tx.execute(table.delete().where(table.c.id == task_id))


def waiting(tx: sa.Connection, gpu: str, now: datetime, *, limit: int) -> list[Task]:
    """The first ``limit`` tasks in the queue of one GPU, without those whose turn has yet to come."""
    return [_load(row) for row in tx.execute(_WAITING, {"name": gpu, "now": now, "most": limit})]


def next_turn(tx: sa.Connection, gpu: str, now: datetime) -> datetime | None:
    """When the next task may be placed that waits to be tried again."""
    found: datetime | None = tx.execute(_NEXT_TURN, {"name": gpu, "now": now}).scalar()
    return found


def ahead(tx: sa.Connection, task: Task) -> int:
    """How many tasks wait for the same GPU before this one, of any account."""
    query = sa.select(sa.func.count()).where(
        table.c.phase == TaskPhase.QUEUED,
        table.c.gpu == task.definition.gpu,
        table.c.wanted == TaskWanted.RUN,
        sa.tuple_(table.c.queued_at, table.c.id) < _key(table, (task.queued_at, task.id)),
    )
    return tx.execute(query).scalar_one()


def waited_too_long(tx: sa.Connection, gpu: str, now: datetime, *, limit: int) -> list[Task]:
    """Up to ``limit`` queued tasks whose time is over."""
    return [_load(row) for row in tx.execute(_OVERDUE, {"name": gpu, "now": now, "most": limit})]


def next_deadline(tx: sa.Connection, gpu: str) -> datetime | None:
    """When the first queued task of one GPU will have waited too long."""
    found: datetime | None = tx.execute(_DEADLINE, {"name": gpu}).scalar()
    return found


def placed(tx: sa.Connection, gpu: str) -> list[Task]:
    """The tasks that hold GPUs of one kind, in the order of their place in the queue."""
    query = table.select().where(table.c.phase == TaskPhase.PLACED, table.c.gpu == gpu)
    return [_load(row) for row in tx.execute(query.order_by(table.c.queued_at, table.c.id))]


def placed_ids(tx: sa.Connection) -> Sequence[str]:
    """The tasks that hold GPUs of any kind."""
    return tx.execute(sa.select(table.c.id).where(table.c.phase == TaskPhase.PLACED)).scalars().all()


def busy_gpus(tx: sa.Connection) -> Sequence[str]:
    """The GPUs that tasks hold or wait for. Each is found by a step in the index, however many tasks it has."""
    found: set[str] = set()
    for phase in (TaskPhase.QUEUED, TaskPhase.PLACED):
        last: str | None = ""
        while (last := tx.execute(_NEXT_GPU, {"in_phase": phase, "last": last}).scalar()) is not None:
            found.add(last)
    return sorted(found)


def live_in(tx: sa.Connection, cluster_ids: Sequence[str]) -> Sequence[InstanceId]:
    """The instances of tasks that have, or may have, something running in one of the clusters."""
    query = sa.select(table.c.instance_id).where(table.c.phase == TaskPhase.PLACED, table.c.cluster_id.in_(cluster_ids))
    return [InstanceId(i) for i in tx.execute(query).scalars() if i is not None]


def held_by(tx: sa.Connection, cluster_ids: Sequence[str]) -> Sequence[str]:
    """The tasks that have their instance in one of the clusters."""
    query = sa.select(table.c.id).where(table.c.phase == TaskPhase.PLACED, table.c.cluster_id.in_(cluster_ids))
    return tx.execute(query).scalars().all()


def holding(tx: sa.Connection, cluster_ids: Sequence[str]) -> list[tuple[str, str, str]]:
    """Account, instance type and id of each instance of a task in one of the clusters."""
    query = table.select().where(table.c.phase == TaskPhase.PLACED, table.c.cluster_id.in_(cluster_ids))
    found = (_load(row) for row in tx.execute(query))
    return [(t.nca_id, t.definition.instance_type, t.instance_id or t.id) for t in found]


def held(tx: sa.Connection) -> list[tuple[str, str, int, int]]:
    """What tasks hold: (cluster, GPU, how many devices, how many tasks)."""
    return [(cluster, gpu, int(units), count) for cluster, gpu, units, count in tx.execute(_HELD)]


def unsettled(tx: sa.Connection, ended_before: datetime, *, limit: int) -> Sequence[str]:
    """The tasks there is something to do for beyond waiting: placed, canceled, deleted, or ended long ago.

    Of the last three kinds at most ``limit`` each.
    """
    queries = (
        sa.select(table.c.id).where(table.c.phase == TaskPhase.PLACED),
        sa.select(table.c.id)
        .where(table.c.wanted == TaskWanted.CANCELED, table.c.phase == TaskPhase.QUEUED)
        .limit(limit),
        sa.select(table.c.id).where(table.c.wanted == TaskWanted.DELETED).limit(limit),
        sa.select(table.c.id).where(table.c.ended_at < ended_before).limit(limit),
    )
    return [task_id for query in queries for task_id in tx.execute(query).scalars()]


def add_event(tx: sa.Connection, task_id: str, message: str, now: datetime) -> None:
    """Tell of something that happened."""
    row = {"id": new_id(), "task_id": task_id, "message": message, "created_at": now}
    tx.execute(events.insert(), row)


def events_page(tx: sa.Connection, task_id: str, *, limit: int, after: Cursor | None) -> list[TaskEvent]:
    """Up to ``limit`` events of a task, oldest first."""
    return [TaskEvent(**row._mapping) for row in _page(tx, events, task_id, limit, after)]


def last_events(tx: sa.Connection, task_id: str, *, limit: int) -> list[TaskEvent]:
    """The last ``limit`` events of a task, oldest first."""
    query = events.select().where(events.c.task_id == task_id)
    query = query.order_by(events.c.created_at.desc(), events.c.id.desc()).limit(limit)
    return [TaskEvent(**row._mapping) for row in tx.execute(query)][::-1]


def add_result(tx: sa.Connection, result: TaskResult) -> None:
    """Record a result whose files are kept already. One that is recorded stays as it is."""
    if tx.execute(sa.select(results.c.id).where(results.c.id == result.id)).first() is None:
        tx.execute(results.insert().values({c.name: getattr(result, c.name) for c in results.columns}))


def get_result(tx: sa.Connection, task_id: str, result_id: str) -> TaskResult | None:
    """One result of a task."""
    row = tx.execute(results.select().where(results.c.task_id == task_id, results.c.id == result_id)).first()
    return None if row is None else TaskResult(**row._mapping)


def results_page(tx: sa.Connection, task_id: str, *, limit: int, after: Cursor | None) -> list[TaskResult]:
    """Up to ``limit`` results of a task, oldest first."""
    return [TaskResult(**row._mapping) for row in _page(tx, results, task_id, limit, after)]


def count(tx: sa.Connection, nca_id: str) -> int:
    """How many tasks the account has, in whatever status."""
    return tx.execute(sa.select(sa.func.count()).where(table.c.nca_id == nca_id)).scalar_one()


def active(tx: sa.Connection, nca_id: str) -> list[Task]:
    """The tasks of the account that are queued, launched or running."""
    query = table.select().where(
        table.c.nca_id == nca_id,
        table.c.phase != TaskPhase.ENDED,
        table.c.outcome.is_(None),
        table.c.wanted == TaskWanted.RUN,
    )
    return [_load(row) for row in tx.execute(query)]


def _page(tx: sa.Connection, of: sa.Table, task_id: str, limit: int, after: Cursor | None) -> sa.CursorResult[Any]:
    query = of.select().where(of.c.task_id == task_id)
    if after is not None:
        query = query.where(sa.tuple_(of.c.created_at, of.c.id) > _key(of, after))
    return tx.execute(query.order_by(of.c.created_at, of.c.id).limit(limit))


def _key(of: sa.Table, cursor: Cursor) -> sa.Tuple:
    moment, last = cursor
    return sa.tuple_(sa.literal(moment, of.c.created_at.type), sa.literal(last, of.c.id.type))


def _row(task: Task) -> dict[str, Any]:
    row = {name: getattr(task, name) for name in _FIELDS}
    return row | {"gpu": task.definition.gpu, "units": task.definition.units}


def _load(row: sa.Row[Any]) -> Task:
    mapping = row._mapping
    known = {name: mapping[name] for name in _FIELDS}
    known["past_instances"] = tuple(InstanceId(i) for i in known["past_instances"])
    return Task(**known | {"id": TaskId(known["id"])})

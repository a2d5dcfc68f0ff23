"""Tasks as they are stored, on SQLite and on PostgreSQL: what is written is read back, in its order, once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gpufn.model.errors import Stale
from gpufn.model.function import Artifact
from gpufn.model.ids import DEFAULT_ACCOUNT, InstanceId, TaskId, new_id
from gpufn.model.task import (
    ResultFile,
    ResultStrategy,
    Task,
    TaskDefinition,
    TaskPhase,
    TaskResult,
    TaskStatus,
    TaskWanted as W,
)
from gpufn.model.telemetry import TelemetryChoice
from gpufn.store import tasks
from gpufn.store.database import Database, Transaction
from gpufn.store.task_tables import task_events, task_results

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def a_task(number: int = 0, *, gpu: str = "H100", **changes: Any) -> Task:
    """The ``number``-th task, made so many seconds after the first."""
    moment = NOW + timedelta(seconds=number)
    definition = TaskDefinition(gpu, f"ON-PREM.GPU.{gpu}_1x", 1, container_image="trainer")
    task = Task(
        id=TaskId(new_id()),
        nca_id=DEFAULT_ACCOUNT,
        name=f"t{number}",
        definition=definition,
        created_at=moment,
        updated_at=moment,
        queued_at=moment,
        queued_until=moment + timedelta(hours=1),
    )
    return replace(task, **changes)


async def insert(db: Database, *some: Task) -> list[Task]:
    """Record them all."""

    def write(tx: Transaction) -> None:
        for task in some:
            tasks.insert(tx, task)

    await db.run(write)
    return list(some)


def everything() -> Task:
    """A task that has everything a task can have."""
    definition = TaskDefinition(
        gpu="H100",
        instance_type="ON-PREM.GPU.H100_8x",
        units=8,
        backend="local",
        clusters=("a", "b"),
        container_image="nvcr.io/acme/träiner:1",
        container_args="-v 'two words'",
        container_environment=(("STEPS", "10"), ("EMPTY", "")),
        models=(Artifact("m", "1", "https://x/files"),),
        tags=("a:b=c",),
        description="ünïcode \U0001f600",
        max_runtime=timedelta(hours=4, microseconds=1),
        max_queued=timedelta(days=3),
        termination_grace=timedelta(seconds=1),
        result_strategy=ResultStrategy.NONE,
        results_location="org/model",
        telemetries=TelemetryChoice(logs=new_id()),
        retries=3,
    )
    moment = NOW + timedelta(microseconds=1)
    return replace(
        a_task(),
        definition=definition,
        wanted=W.CANCELED,
        canceled_at=moment,
        phase=TaskPhase.ENDED,
        attempt=3,
        failures=2,
        losses=1,
        instance_id=InstanceId(new_id()),
        past_instances=(InstanceId(new_id()), InstanceId(new_id())),
        launched_at=moment,
        started_at=moment,
        running_at=moment,
        heartbeat_at=moment,
        percent=99,
        result_name="name",
        requeue="why",
        detail="details",
        outcome=TaskStatus.ERRORED,
        error="cause",
        ended_at=moment,
    )


async def test_everything_of_a_task_is_read_back(db: Database) -> None:
    """Whatever a task has is there again, times to the microsecond; also when it is written in place of less."""
    task, less = everything(), a_task()
    await insert(db, task, less)
    grown = replace(task, id=less.id)
    await db.run(lambda tx: tasks.save(tx, less, grown))

    assert await db.run(lambda tx: tasks.get(tx, task.id)) == task
    assert await db.run(lambda tx: tasks.get(tx, less.id)) == replace(grown, revision=1)
    assert await db.run(lambda tx: tasks.get(tx, new_id())) is None


async def test_what_was_written_meanwhile_is_not_overwritten(db: Database) -> None:
    """Whoever comes second is told, and changes neither the task nor its events."""
    (task,) = await insert(db, a_task())
    ended = task.ended(TaskStatus.ERRORED, NOW, "first")
    await db.run(lambda tx: tasks.save(tx, task, ended))
    with pytest.raises(Stale):
        await db.run(lambda tx: tasks.save(tx, task, task.ended(TaskStatus.COMPLETED, NOW)))
    told = await db.run(lambda tx: tasks.events_page(tx, task.id, limit=10, after=None))

    assert [e.message for e in told] == ["Changing status from 'QUEUED' to 'ERRORED' with error 'first'"]
    assert (await db.run(lambda tx: tasks.get(tx, task.id))) == replace(ended, revision=1)


async def test_of_many_writers_one_wins(db: Database) -> None:
    """Ten that place the same task at once: it is placed once, and nine are told."""
    (task,) = await insert(db, a_task())

    async def place() -> bool:
        instance = InstanceId(new_id())
        try:
            await db.run(lambda tx: tasks.save(tx, task, task.placed(instance, "", NOW)))
        except Stale:
            return False
        return True

    assert sorted(await asyncio.gather(*(place() for _ in range(10)))) == [False] * 9 + [True]
    placed = await db.run(lambda tx: tasks.placed(tx, "H100"))
    assert [(t.id, t.attempt) for t in placed] == [(task.id, 1)]


async def test_the_queue_of_a_gpu(db: Database) -> None:
    """First come, first read; other GPUs, canceled and placed ones are left out, and no more is read than wanted."""
    first, second, third = a_task(1), a_task(2), a_task(3)
    others = [a_task(0, gpu="T10"), a_task(0, wanted=W.CANCELED), a_task(0, phase=TaskPhase.PLACED)]
    await insert(db, third, *others, first, second)
    found = await db.run(lambda tx: tasks.waiting(tx, "H100", LATER, limit=2))

    assert [t.id for t in found] == [first.id, second.id]
    assert await db.run(lambda tx: tasks.ahead(tx, third)) == 2
    assert await db.run(lambda tx: tasks.waiting(tx, "A100", LATER, limit=2)) == []
    assert await db.run(tasks.busy_gpus) == ["H100", "T10"]


async def test_who_is_to_be_tried_again_has_no_turn_yet(db: Database) -> None:
    """A task is not read before its place in the queue; when that will be is known."""
    first, second = a_task(1), a_task(2)
    await insert(db, first, second)
    moment = NOW + timedelta(seconds=1)

    assert [t.id for t in await db.run(lambda tx: tasks.waiting(tx, "H100", moment, limit=9))] == [first.id]
    assert await db.run(lambda tx: tasks.next_turn(tx, "H100", moment)) == second.queued_at
    assert await db.run(lambda tx: tasks.next_turn(tx, "H100", LATER)) is None


async def test_deadlines_of_a_queue(db: Database) -> None:
    """The next one, and those that are over, the first first."""
    some = [a_task(n, queued_until=NOW + timedelta(seconds=n)) for n in (3, 1, 2)]
    await insert(db, *some, a_task(0, gpu="T10", queued_until=NOW))

    def overdue(tx: Transaction) -> list[str]:
        return [t.name for t in tasks.waited_too_long(tx, "H100", NOW + timedelta(seconds=2), limit=10)]

    assert await db.run(lambda tx: tasks.next_deadline(tx, "H100")) == NOW + timedelta(seconds=1)
    assert await db.run(overdue) == ["t1", "t2"]
    assert await db.run(lambda tx: tasks.next_deadline(tx, "A100")) is None


async def test_pages_of_an_account(db: Database) -> None:
    """Newest first, each once, also of those made in the same moment; deleted ones are not shown."""
    same = [a_task(1) for _ in range(3)]
    await insert(db, a_task(0), *same, a_task(2), a_task(3, wanted=W.DELETED))
    seen: list[Task] = []
    while True:
        after = (seen[-1].created_at, seen[-1].id) if seen else None
        page = await db.run(lambda tx, after=after: tasks.page(tx, DEFAULT_ACCOUNT, limit=2, after=after))  # type: ignore[misc]
        if not page:
            break
        seen += page

    assert [t.name for t in seen] == ["t2", "t1", "t1", "t1", "t0"]
    assert {t.id for t in seen[1:4]} == {t.id for t in same}


async def test_many_by_their_ids(db: Database) -> None:
    """More ids than one statement may have; those that are not there are left out."""
    some = await insert(db, *(a_task(n) for n in range(5)))
    wanted = [new_id() for _ in range(1200)] + [t.id for t in some]

    assert set(await db.run(lambda tx: tasks.of_ids(tx, wanted))) == {t.id for t in some}


async def test_what_there_is_to_do(db: Database) -> None:
    """Placed, canceled before it was placed, deleted, and ended long ago; nothing else."""
    old = NOW - timedelta(days=8)
    due = [
        a_task(0, phase=TaskPhase.PLACED),
        a_task(1, wanted=W.CANCELED),
        a_task(2, wanted=W.DELETED, phase=TaskPhase.ENDED, ended_at=NOW),
        a_task(3, phase=TaskPhase.ENDED, ended_at=old),
    ]
    await insert(db, *due, a_task(4), a_task(5, phase=TaskPhase.ENDED, ended_at=NOW))
    before = NOW - timedelta(days=7)

    assert set(await db.run(lambda tx: tasks.unsettled(tx, before, limit=10))) == {t.id for t in due}


async def test_results_in_pages(db: Database) -> None:
    """With their files and metadata, oldest first; one that is recorded again stays as it is."""
    (task,) = await insert(db, a_task())
    files = (ResultFile("dir/ä.bin", 2**40, "00ff", "tasks/x/0"),)
    some = [
        TaskResult(new_id(), task.id, f"r{n}", {"loss": 0.5, "n": [n]}, NOW + timedelta(seconds=n), files)
        for n in range(3)
    ]

    def write(tx: Transaction) -> None:
        for result in (*some, replace(some[0], name="another")):
            tasks.add_result(tx, result)

    await db.run(write)
    first = await db.run(lambda tx: tasks.results_page(tx, task.id, limit=2, after=None))
    cursor = (first[-1].created_at, first[-1].id)
    rest = await db.run(lambda tx: tasks.results_page(tx, task.id, limit=2, after=cursor))

    assert first + rest == some
    assert await db.run(lambda tx: tasks.get_result(tx, task.id, some[1].id)) == some[1]


async def test_all_of_a_task_goes_with_it(db: Database) -> None:
    """Its events and its results; of others nothing."""
    gone, stays = await insert(db, a_task(), a_task())

    def write(tx: Transaction) -> None:
        for task in (gone, stays):
            tasks.add_event(tx, task.id, "x", NOW)
            tasks.add_result(tx, TaskResult(new_id(), task.id, "r", {}, NOW))
        tasks.delete(tx, gone.id)

    def left(tx: Transaction) -> list[int]:
        return [tx.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for t in (task_events, task_results)]

    await db.run(write)
    assert await db.run(lambda tx: tasks.get(tx, gone.id)) is None
    assert await db.run(left) == [1, 1]


async def test_a_long_queue_is_read_from_its_indexes(db: Database) -> None:
    """Of ten thousand the first, the overdue and the next deadline are looked up: nothing is sorted or read whole."""
    await insert(db, *(a_task(n) for n in range(10_000)))
    statements = {
        "waiting": tasks._WAITING.params(name="H100", most=8, now=NOW),
        "overdue": tasks._OVERDUE.params(name="H100", most=8, now=NOW),
        "next turn": tasks._NEXT_TURN.params(name="H100", now=NOW),
        "deadline": tasks._DEADLINE.params(name="H100"),
        "gpus": tasks._NEXT_GPU.params(in_phase=TaskPhase.QUEUED, last=""),
    }

    def plans(tx: Transaction) -> dict[str, str]:
        tx.execute(sa.text("ANALYZE"))
        found = {}
        for name, statement in statements.items():
            query = statement.compile(dialect=tx.dialect, compile_kwargs={"literal_binds": True})
            explain = "EXPLAIN QUERY PLAN" if tx.dialect.name == "sqlite" else "EXPLAIN"
            found[name] = "\n".join(str(row) for row in tx.exec_driver_sql(f"{explain} {query}"))
        return found

    for name, plan in (await db.run(plans)).items():
        assert "ix_tasks_" in plan, (name, plan)
        assert not any(word in plan for word in ("Sort", "TEMP B-TREE", "Seq Scan", "SCAN tasks\n")), (name, plan)

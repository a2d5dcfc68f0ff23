"""One plain sentence for every state a task can be in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gpufn.model.ids import AccountId, InstanceId, TaskId
from gpufn.model.task import Task, TaskDefinition, TaskEvent, TaskStatus, TaskWanted
from gpufn.model.task_why import ails, of_task

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=5)
HELD = InstanceId("i")


def a_task(**changes: object) -> Task:
    found = Task(
        id=TaskId("t"),
        nca_id=AccountId("a"),
        name="train",
        definition=TaskDefinition(gpu="H100", instance_type="ON-PREM.GPU.H100_2x", units=2),
        created_at=EARLIER,
        updated_at=EARLIER,
        queued_at=EARLIER,
        queued_until=NOW,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "ahead", "expected"),
    [
        ({}, 0, "waits for 2 x H100 since 5 min, first in the queue"),
        ({"detail": "1 of 2 are free"}, 1, "waits for 2 x H100 since 5 min, behind 1 other: 1 of 2 are free"),
        ({}, 3, "waits for 2 x H100 since 5 min, behind 3 others"),
        ({"queued_at": NOW + timedelta(seconds=8)}, 0, "failed and is tried again in 8 s"),
        ({"instance_id": HELD, "detail": "pulling"}, 0, "has its GPUs and is about to be launched: pulling"),
        ({"instance_id": HELD, "launched_at": EARLIER}, 0, "was launched 5 min ago and has not reported"),
        ({"running_at": EARLIER}, 0, "runs since 5 min"),
        ({"running_at": EARLIER, "percent": 40}, 0, "runs since 5 min, 40 % done"),
        ({"outcome": TaskStatus.COMPLETED, "ended_at": EARLIER}, 0, "completed 5 min ago"),
        ({"wanted": TaskWanted.CANCELED}, 0, "was canceled and is being ended"),
        ({"wanted": TaskWanted.CANCELED, "ended_at": EARLIER}, 0, "was canceled"),
        ({"outcome": TaskStatus.ERRORED, "error": "exit code 3"}, 0, "failed: exit code 3"),
        ({"outcome": TaskStatus.ERRORED}, 0, "failed: no reason is recorded"),
        (
            {"outcome": TaskStatus.EXCEEDED_MAX_RUNTIME_DURATION, "error": "too long"},
            0,
            "ran longer than maxRuntimeDuration allows: too long",
        ),
        (
            {"outcome": TaskStatus.EXCEEDED_MAX_QUEUED_DURATION, "error": "no GPU"},
            0,
            "waited longer than maxQueuedDuration allows: no GPU",
        ),
    ],
)
def test_a_task_says_where_it_is(changes: dict[str, object], ahead: int, expected: str) -> None:
    """Every status has its sentence, with what is known of it."""
    assert of_task(a_task(**changes), ahead, (), NOW).sentence == f"the task train {expected}"


def test_facts_of_a_task() -> None:
    """Status, need, attempts, progress and the last events."""
    task = a_task(attempt=2, losses=1, percent=7, running_at=NOW)
    facts = of_task(task, 0, [TaskEvent("e", task.id, "it began", EARLIER)], NOW).facts

    assert facts == (
        ("status", "RUNNING"),
        ("needs", "2 x H100"),
        ("attempt", "2, 0 failed before, 1 lost"),
        ("progress", "7 %"),
        ("event", "2026-01-01T11:55:00Z  it began"),
    )


def test_what_failed_ails() -> None:
    """A failed task and one that is tried again ail; one that runs for the first time, or has completed, does not."""
    again, failed = a_task(failures=1), a_task(outcome=TaskStatus.ERRORED)
    well, done = a_task(), a_task(outcome=TaskStatus.COMPLETED, failures=1)

    assert [ails(task) for task in (again, failed, well, done)] == [True, True, False, False]

"""Builders of tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gpufn.model.ids import DEFAULT_ACCOUNT, TaskId, new_id
from gpufn.model.task import ResultStrategy, Task, TaskDefinition

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
H100 = "ON-PREM.GPU.H100_1x"


def a_task(*, now: datetime = BEGIN, units: int = 1, instance_type: str = H100, **definition: Any) -> Task:
    """A queued task on ``units`` H100, without results and with a short grace period unless said otherwise."""
    given: dict[str, Any] = {
        "container_image": "trainer",
        "result_strategy": ResultStrategy.NONE,
        "termination_grace": timedelta(seconds=5),
    }
    whole = TaskDefinition("H100", instance_type, units, **(given | definition))
    return Task(
        id=TaskId(new_id()),
        nca_id=DEFAULT_ACCOUNT,
        name="train",
        definition=whole,
        created_at=now,
        updated_at=now,
        queued_at=now,
        queued_until=now + whole.max_queued,
    )

"""Who may have the GPUs of one kind: functions and tasks share them. Pure.

The minimum of every deployed specification is set aside for functions whether its instances run or not, so a task
never starves it; what functions run beyond their minimum counts as long as it runs. The rest is for tasks, first come
first served. When a minimum cannot be met because tasks hold the GPUs, the tasks placed last give way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpufn.model.task import Task


@dataclass(frozen=True)
class Claim:
    """What one GPU specification of a function needs. ``units``: devices of one instance."""

    units: int
    minimum: int
    live: int
    """Wanted instances that are live."""
    serving: int
    """Those of them that are up, and so have their GPUs."""
    leaving: int = 0
    """Instances that are not wanted any more and still hold their GPUs."""


@dataclass(frozen=True)
class Room:
    """``free`` devices for new tasks; ``short``: how many tasks must give up for functions' minimums."""

    free: int
    short: int


def room(capacity: int, claims: Sequence[Claim], held: int) -> Room:
    """What is there for tasks of one GPU, of which tasks hold ``held`` devices."""
    claimed = sum(c.units * max(c.live, c.minimum) for c in claims)
    leaving = sum(c.units * c.leaving for c in claims)
    missing = sum(c.units * max(0, c.minimum - c.serving) for c in claims)
    over = missing + sum(c.units * c.serving for c in claims) + held - capacity
    return Room(free=max(0, capacity - claimed - leaving - held), short=max(0, min(over, missing, held)))


def first_that_fit(queue: Sequence[Task], free: int) -> list[Task]:
    """The tasks to place now: in order, and none before one that waits for more devices, which would starve it."""
    chosen = []
    for task in queue:
        if task.definition.units > free:
            break
        free -= task.definition.units
        chosen.append(task)
    return chosen


def to_give_way(placed: Sequence[Task], short: int) -> list[Task]:
    """The tasks to be queued again so that ``short`` devices become free, the last placed first.

    What is ending already counts as given up.
    """
    short -= sum(t.definition.units for t in placed if _is_ending(t))
    victims: list[Task] = []
    for task in sorted((t for t in placed if not _is_ending(t)), key=lambda t: (t.queued_at, t.id), reverse=True):
        if short <= 0:
            break
        short -= task.definition.units
        victims.append(task)
    return victims


def _is_ending(task: Task) -> bool:
    return task.status.is_terminal or task.requeue is not None

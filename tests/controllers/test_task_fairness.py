"""Functions and tasks on the same GPUs, over time: whatever comes and goes, no task keeps a minimum from a function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeAlias

from hypothesis import given, settings, strategies as st
from task_building import BEGIN, a_task

from gpufn.controllers.capacity import Claim, first_that_fit, room, to_give_way
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.task import Task, TaskPhase

CAPACITY = 8
SETTLING = 12
"""Rounds within which everything that was asked for must be so, once nothing more is asked."""


@dataclass
class Function:
    """A deployed function: what it asks for, and how many instances serve."""

    units: int
    minimum: int
    wants: int
    serving: int = 0


@dataclass(frozen=True)
class Deploy:
    """A function comes; it wants that many instances more than its minimum."""

    units: int
    minimum: int
    more: int


@dataclass(frozen=True)
class Undeploy:
    """The ``which``-th function goes."""

    which: int


@dataclass(frozen=True)
class Submit:
    """A task comes."""

    units: int


@dataclass(frozen=True)
class Finish:
    """The ``which``-th task at work ends by itself."""

    which: int


Event: TypeAlias = Deploy | Undeploy | Submit | Finish


@dataclass
class Machine:
    """Eight GPUs. Functions that are deployed fit together: the sum of their minimums does not exceed them."""

    functions: list[Function] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    came: int = 0

    def happen(self, event: Event) -> None:
        """Something comes or goes; what does not fit is not deployed."""
        match event:
            case Deploy(units, minimum, more):
                promised = sum(f.units * f.minimum for f in self.functions)
                if promised + units * minimum <= CAPACITY:
                    self.functions.append(Function(units, minimum, minimum + more))
            case Undeploy(which) if self.functions:
                self.functions.pop(which % len(self.functions))
            case Submit(units):
                self.came += 1
                self.tasks.append(replace(a_task(units=units), queued_at=BEGIN + timedelta(seconds=self.came)))
            case Finish(which) if self.placed:
                self.tasks.remove(self.placed[which % len(self.placed)])
            case _:
                pass

    @property
    def placed(self) -> list[Task]:
        return [t for t in self.tasks if t.phase is TaskPhase.PLACED]

    @property
    def held(self) -> int:
        return sum(t.definition.units for t in self.placed)

    @property
    def served(self) -> int:
        return sum(f.units * f.serving for f in self.functions)

    def round(self) -> None:
        """What leaves is gone, then tasks are placed or told to leave, then functions start what there is room for."""
        self.tasks = [t.queued_again(BEGIN) if t.requeue else t for t in self.tasks]
        claims = [Claim(f.units, f.minimum, f.wants, f.serving) for f in self.functions]
        there = room(CAPACITY, claims, self.held)
        queue = sorted((t for t in self.tasks if t.phase is TaskPhase.QUEUED), key=lambda t: (t.queued_at, t.id))
        chosen = first_that_fit(queue, there.free)
        leave = to_give_way(self.placed, there.short)
        self.tasks = [self._moved(t, chosen, leave) for t in self.tasks]
        self._check(chosen, queue, there.free)
        for function in sorted(self.functions, key=lambda f: f.serving >= f.minimum):
            free = CAPACITY - self.held - self.served
            limit = function.minimum if function.serving < function.minimum else function.wants
            starts = min(limit - function.serving, free // function.units if function.units else limit)
            function.serving += max(0, starts)

    def _moved(self, task: Task, chosen: Sequence[Task], leave: Sequence[Task]) -> Task:
        if task in chosen:
            return task.placed(InstanceId(new_id()), "", BEGIN)
        return replace(task, requeue="a function needs its GPUs") if task in leave else task

    def _check(self, chosen: Sequence[Task], queue: Sequence[Task], free: int) -> None:
        assert self.held + self.served <= CAPACITY, "more GPUs given than there are"
        assert list(chosen) == queue[: len(chosen)], "a task was overtaken"
        assert sum(t.definition.units for t in chosen) <= free, "a task took what was not free"


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Deploy, st.integers(1, 4), st.integers(0, 4), st.integers(0, 2)),
    st.builds(Undeploy, st.integers(0, 3)),
    st.builds(Submit, st.sampled_from([1, 1, 2, 4, 8])),
    st.builds(Finish, st.integers(0, 7)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_no_task_starves_a_minimum(events: Sequence[Event]) -> None:
    """At no moment are more GPUs in use than there are; soon after the last event every minimum is served, unless
    other functions are in its way, and whoever is first in the queue waits only for what others use.
    """
    machine = Machine()
    for event in events:
        machine.happen(event)
        machine.round()
    for _ in range(SETTLING):
        machine.round()

    lacking = any(f.serving < f.minimum for f in machine.functions)
    assert not lacking or not machine.held, "a task holds what a function needs for its minimum"
    waiting = sorted((t for t in machine.tasks if t.phase is TaskPhase.QUEUED), key=lambda t: (t.queued_at, t.id))
    claimed = sum(f.units * max(f.minimum, f.wants) for f in machine.functions)
    if waiting:
        free = CAPACITY - claimed - machine.held
        assert free < waiting[0].definition.units, "a task waits for what nobody uses"

"""How functions and tasks share the GPUs of one kind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, strategies as st
from task_building import BEGIN, a_task

from gpufn.controllers.capacity import Claim, first_that_fit, room, to_give_way
from gpufn.model.task import TaskPhase

CLAIMS = st.lists(
    st.builds(
        lambda units, minimum, live, serving, leaving: Claim(units, minimum, live, min(serving, live), leaving),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 2),
    ),
    max_size=4,
)


@given(st.integers(0, 16), CLAIMS, st.integers(0, 16))
def test_minimums_are_never_given_to_tasks(capacity: int, claims: list[Claim], held: int) -> None:
    """What is free leaves room for every minimum and everything that lives."""
    there = room(capacity, claims, held)
    needed = sum(c.units * max(c.minimum, c.live) + c.units * c.leaving for c in claims)

    assert there.free >= 0
    assert there.free == 0 or there.free + held + needed <= capacity


@given(st.integers(0, 16), CLAIMS, st.integers(0, 16))
def test_tasks_give_way_to_minimums_only(capacity: int, claims: list[Claim], held: int) -> None:
    """Tasks give up no more than what minimums lack, and as much as that needs, if they hold it."""
    there = room(capacity, claims, held)
    lacking = sum(c.units * max(0, c.minimum - c.serving) for c in claims)
    used = sum(c.units * c.serving for c in claims)

    assert there.short <= min(lacking, held)
    if lacking:
        assert used + lacking + held - there.short <= capacity or there.short == min(lacking, held)


def test_a_restart_takes_nothing_from_tasks() -> None:
    """An instance that is being replaced has its GPU set aside already."""
    full = [Claim(units=1, minimum=4, live=4, serving=4)]
    replaced = [Claim(units=1, minimum=4, live=4, serving=3)]

    assert room(8, full, 4).short == 0
    assert room(8, replaced, 4).short == 0
    assert room(8, replaced, 4).free == 0


def test_none_overtakes() -> None:
    """A task that needs more than is free keeps what comes after it waiting."""
    small, large = a_task(units=1), a_task(units=8)

    assert first_that_fit([small, large, small], 8) == [small]
    assert first_that_fit([large], 8) == [large]


def test_the_last_give_way_first() -> None:
    """The last in the queue's order are queued again, as few as are enough; what ends already counts."""
    placed = [
        replace(
            a_task(), phase=TaskPhase.PLACED, queued_at=BEGIN + timedelta(seconds=n), requeue="x" if n == 1 else None
        )
        for n in range(4)
    ]

    assert to_give_way(placed, 0) == []
    assert to_give_way(placed, 1) == []
    assert to_give_way(placed, 3) == [placed[3], placed[2]]

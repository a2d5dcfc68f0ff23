"""What the work queue promises, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from gpufn.runtime.clock import loop_now
from gpufn.runtime.workqueue import WorkQueue

pytestmark = pytest.mark.looptime


async def test_a_key_waits_at_most_once() -> None:
    """Adding a key that already waits changes nothing, and keys are taken in the order of their first addition."""
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a", "b"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.take(), await queue.take()] == ["a", "b"]


async def test_a_key_added_while_worked_on_is_taken_up_again_afterwards() -> None:
    """A key under work is not given to a second worker; the change is looked at once the pass ends."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.take()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert len(queue) == 1
    assert await queue.take() == "a"
    queue.done("a")
    assert len(queue) == 0


@pytest.mark.parametrize("delays", [(5.0, 2.0), (2.0, 5.0)])
async def test_the_earlier_of_two_delays_wins(delays: tuple[float, float]) -> None:
    """Whichever order two delays are asked for in, the key comes once, after the shorter."""
    queue: WorkQueue[str] = WorkQueue()
    for delay in delays:
        queue.add_after("a", delay)
    began = loop_now()
    assert await queue.take() == "a"
    assert loop_now() - began == pytest.approx(2.0, abs=0.01)
    queue.done("a")
    await asyncio.sleep(10)
    assert len(queue) == 0


async def test_adding_cuts_a_delay_short() -> None:
    """A key that waits out a delay is taken at once when someone adds it, and only once."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 60)
    queue.add("a")
    began = loop_now()
    assert await queue.take() == "a"
    assert loop_now() - began < 0.01
    queue.done("a")
    await asyncio.sleep(120)
    assert len(queue) == 0

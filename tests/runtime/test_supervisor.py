"""Tasks that fail, and tasks that are ended."""

from __future__ import annotations

import asyncio

import pytest

from gpufn.runtime.supervisor import Supervisor

pytestmark = pytest.mark.looptime


async def _fail() -> None:
    raise ValueError("broken")


async def test_the_failure_of_an_essential_task_is_raised() -> None:
    """wait_failed raises what an essential task raised."""
    async with Supervisor() as tasks:
        tasks.start(_fail(), name="t", essential=True)
        with pytest.raises(ValueError, match="broken"):
            await asyncio.wait_for(tasks.wait_failed(), 5)


async def test_the_failure_of_another_task_is_only_logged() -> None:
    """wait_failed goes on waiting when a task fails that is not essential."""
    async with Supervisor() as tasks:
        tasks.start(_fail(), name="t")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tasks.wait_failed(), 5)


async def test_closing_cancels_every_task_and_waits_for_it() -> None:
    """When the block is left, the clean-up of every task has run."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            ended.append("cleaned up")

    async with Supervisor() as tasks:
        task = tasks.start(work(), name="t")
        await asyncio.sleep(0.1)
    assert ended == ["cleaned up"]
    assert task.cancelled()

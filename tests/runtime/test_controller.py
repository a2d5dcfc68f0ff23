"""The loop under every controller, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from gpufn.runtime.backoff import Backoff
from gpufn.runtime.clock import loop_now
from gpufn.runtime.controller import Controller
from gpufn.runtime.supervisor import Supervisor

pytestmark = pytest.mark.looptime


class Passes:
    """Records when each key was looked at; keys in ``poisoned`` fail."""

    def __init__(self, *keys: str, poisoned: str = "", takes: float = 0.0) -> None:
        self.keys, self.poisoned, self.takes = keys, poisoned, takes
        self.seen: list[tuple[str, float]] = []

    async def list_keys(self) -> Iterable[str]:
        """All keys."""
        return self.keys

    async def reconcile(self, key: str) -> float | None:
        """One pass."""
        self.seen.append((key, round(loop_now(), 2)))
        await asyncio.sleep(self.takes)
        if key == self.poisoned:
            raise ValueError("poisoned")
        return None

    def times(self, key: str) -> list[float]:
        """When ``key`` was looked at."""
        return [at for k, at in self.seen if k == key]


async def test_a_poisoned_key_delays_only_itself() -> None:
    """A key whose pass fails is tried after 1, 2, 4 ... seconds; another key goes on with every relisting."""
    passes = Passes("good", "bad", poisoned="bad")
    controller = Controller("t", passes.reconcile, passes.list_keys, workers=1, resync=5, backoff=Backoff(1, 60))
    async with Supervisor() as tasks:
        tasks.start(controller.run(), name="t")
        await asyncio.sleep(12)
    began = passes.times("good")[0]
    assert [at - began for at in passes.times("good")] == pytest.approx([0, 5, 10], abs=0.1)
    assert [at - began for at in passes.times("bad")] == pytest.approx([0, 1, 3, 7], abs=0.1)


async def test_a_hint_during_a_pass_is_not_lost() -> None:
    """A hint that comes while its key is worked on leads to exactly one more pass, after this one."""
    passes = Passes(takes=2)
    controller = Controller("t", passes.reconcile, passes.list_keys, resync=1000)
    async with Supervisor() as tasks:
        tasks.start(controller.run(), name="t")
        controller.hint("a")
        await asyncio.sleep(1)
        controller.hint("a")
        controller.hint("a")
        await asyncio.sleep(20)
    first, second = passes.times("a")
    assert second - first == pytest.approx(2, abs=0.1)

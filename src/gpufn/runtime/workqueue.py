"""The queue under every controller.

A key waits at most once, is worked on by one worker at a time, and can be put back after a delay. A key that is added
while it is being worked on is taken up again as soon as that pass ends, so no change is ever missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys to look at. Not thread-safe: it belongs to one loop."""

    def __init__(self) -> None:
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._there = asyncio.Semaphore(0)
        """One for every key in ``_ready``, so that a key wakes one worker and not all of them."""

    def __repr__(self) -> str:
        return f"<WorkQueue ready={len(self._ready)} active={len(self._active)} delayed={len(self._timers)}>"

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: K) -> None:
        """Look at ``key`` soon. A pending delay is cut short; a key already waiting stays where it is."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._there.release()

    def add_after(self, key: K, delay: float) -> None:
        """Look at ``key`` after ``delay`` seconds, or earlier if someone adds it. The earlier of two delays wins."""
        if delay <= 0:
            self.add(key)
            return
        if key in self._waiting or key in self._again:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay
        present = self._timers.get(key)
        if present is not None:
            if present.when() <= when:
                return
            present.cancel()
        self._timers[key] = loop.call_at(when, self._due, key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def take(self) -> K:
        """Wait for a key and take it. The caller must call ``done`` with it."""
        await self._there.acquire()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._active.add(key)
        return key

    def done(self, key: K) -> None:
        """The pass over ``key`` has ended, well or not."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """Forget all delays, so that nothing fires after shutdown."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

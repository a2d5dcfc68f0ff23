"""Everything that is to happen at a later time, in one coarse wheel.

A timer per request would cost more than the request's parsing. Here an entry costs one insertion and one removal in a
dictionary; one repeating timer looks at the slice of the wheel that is due. Things happen up to ``SLICE`` late.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

SLICE = 0.05
"""Width of one slice in seconds."""


class Timed(Protocol):
    """Something that can be due. It is in at most one slice; ``slice`` is that, and belongs to the wheel."""

    slice: dict[Timed, None] | None

    def expire(self, now: float) -> None: ...


class Deadlines:
    """The wheel. Times are those of the running loop."""

    def __init__(self) -> None:
        self._slices: dict[int, dict[Timed, None]] = {}
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look, on the running loop."""
        loop = asyncio.get_running_loop()
        self._next = int(loop.time() / SLICE)
        self._timer = loop.call_later(SLICE, self._tick, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def schedule(self, item: Timed, due: float) -> None:
        """Have ``item.expire`` called at ``due``, instead of when it was due before."""
        if item.slice is not None:
            item.slice.pop(item, None)
        number = max(int(due / SLICE) + 1, self._next)
        bucket = self._slices.get(number)
        if bucket is None:
            bucket = self._slices[number] = {}
        bucket[item] = None
        item.slice = bucket

    def cancel(self, item: Timed) -> None:
        """``item`` is not due any more."""
        if item.slice is not None:
            item.slice.pop(item, None)
            item.slice = None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(SLICE, self._tick, loop)
        self.advance(loop.time())

    def advance(self, now: float) -> None:
        """Call everything that is due at ``now``."""
        last = int(now / SLICE)
        while self._next <= last:
            bucket = self._slices.pop(self._next, None)
            self._next += 1
            while bucket:
                item, _ = bucket.popitem()
                item.slice = None
                item.expire(now)

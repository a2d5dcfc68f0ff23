"""Those who wait for a slot of one version: first in, first out, bounded, and anyone may leave."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Waiting(Protocol):
    """Something in a queue; ``give_up_at`` is the loop time after which it is not worth starting."""

    give_up_at: float


class Queue:
    """First in, first out. ``depth`` is how many may wait."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._items: OrderedDict[Waiting, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: Waiting, *, always: bool = False) -> bool:
        """Add ``item`` at the end; False when the queue is full, unless it must be taken ``always``."""
        if len(self._items) >= self.depth and not always:
            return False
        self._items[item] = None
        return True

    def pop(self) -> Waiting | None:
        """Take the one that has waited longest."""
        return self._items.popitem(last=False)[0] if self._items else None

    def peek(self) -> Waiting | None:
        """The one that has waited longest."""
        return next(iter(self._items), None)

    def remove(self, item: Waiting) -> bool:
        """Let ``item`` leave; False when it was not waiting."""
        if item not in self._items:
            return False
        del self._items[item]
        return True

    def position(self, item: Waiting) -> int:
        """1 for the next one to be served; 0 for one that does not wait."""
        return next((n for n, other in enumerate(self._items, 1) if other is item), 0)

"""Who is served next. Called after every change of a queue or of its slots; synchronous and total."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpufn.gateway.queue import Queue, Waiting
from gpufn.gateway.slots import Slot, Slots


@dataclass
class Assignment:
    """``started`` have a slot now; ``expired`` waited too long and left the queue."""

    started: list[tuple[Waiting, Slot]] = field(default_factory=list)
    expired: list[Waiting] = field(default_factory=list)


def assign(queue: Queue, slots: Slots, now: float) -> Assignment:
    """Give free slots to those who have waited longest, until there are no more of one or the other."""
    result = Assignment()
    while (first := queue.peek()) is not None:
        if first.give_up_at <= now:
            queue.pop()
            result.expired.append(first)
            continue
        slot = slots.take(now)
        if slot is None:
            break
        queue.pop()
        result.started.append((first, slot))
    return result

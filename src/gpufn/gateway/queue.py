"""Those who wait for a slot of one version: bounded, in turn between accounts, in order within one; anyone may leave.

Accounts are served one after the other, so that however much one of them sends, another waits for its own requests
and at most one of everybody else's at a time. When the queue is full, the account with the most in it gives way to one
that has less.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol, TypeAlias


class Waiting(Protocol):
    """Something in a queue."""

    give_up_at: float
    """The loop time after which it is not worth starting."""
    gives_way: bool
    """Whether it may be refused after it was taken in, for somebody whose account has less in the queue."""

    @property
    def nca_id(self) -> str:
        """The account it is for."""
        ...


Line: TypeAlias = OrderedDict[Waiting, None]


class Queue:
    """``depth`` is how many may wait."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._lines: OrderedDict[str, Line] = OrderedDict()
        """By account; the first is served next. None is empty."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, item: Waiting, *, always: bool = False) -> Waiting | None:
        """Add ``item`` at the end of its account's line. When the queue is full somebody has to go: that one is
        returned, and it may be ``item`` itself, unless that must be taken ``always``.
        """
        out = None
        if self._count >= self.depth and not always:
            out = self._crowded_out(item)
            if out is item:
                return item
            self.remove(out)
        self._line(item.nca_id)[item] = None
        self._count += 1
        return out

    def put_first(self, item: Waiting) -> None:
        """Add ``item`` as the next one to be served: it was served before, in vain. It is never refused."""
        line = self._line(item.nca_id)
        line[item] = None
        line.move_to_end(item, last=False)
        self._lines.move_to_end(item.nca_id, last=False)
        self._count += 1

    def pop(self) -> Waiting | None:
        """Take the next one; then it is another account's turn."""
        item = self.peek()
        if item is not None:
            self._lines.move_to_end(item.nca_id)
            self.remove(item)
        return item

    def peek(self) -> Waiting | None:
        """The next one to be served."""
        return next(iter(next(iter(self._lines.values()))), None) if self._count else None

    def remove(self, item: Waiting) -> bool:
        """Let ``item`` leave; False when it was not waiting."""
        line = self._lines.get(item.nca_id)
        if line is None or item not in line:
            return False
        del line[item]
        if not line:
            del self._lines[item.nca_id]
        self._count -= 1
        return True

    def position(self, item: Waiting) -> int:
        """1 for the next one to be served; 0 for one that does not wait."""
        line = self._lines.get(item.nca_id)
        if line is None or item not in line:
            return 0
        ahead = next(n for n, other in enumerate(line) if other is item)
        position, before = ahead + 1, True
        for account, other in self._lines.items():
            if account == item.nca_id:
                before = False
            else:
                position += min(len(other), ahead + before)
        return position

    def _line(self, account: str) -> Line:
        return self._lines.setdefault(account, OrderedDict())

    def _crowded_out(self, item: Waiting) -> Waiting:
        """Who has to go: the last of the longest line, if that is longer than the line of ``item`` would be."""
        longest = max(self._lines.values(), key=len, default=None)
        if longest is None or len(longest) <= len(self._lines.get(item.nca_id, ())) + 1:
            return item
        last = next(reversed(longest))
        return last if last.gives_way else item

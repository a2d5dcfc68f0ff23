"""What is kept of calls whose client was answered 202: how much memory their results take, and which were given up.

The calls themselves are in the plane's registry; a result is kept until it is fetched or nobody asks for it in time.
"""

from __future__ import annotations

from collections import OrderedDict

TOMBSTONES_MAX = 10_000
TOMBSTONE_SECONDS = 3600.0
"""How long a poll for a given-up call is told so; afterwards the id is unknown (invocation-plane page, section 7.5)."""


class Results:
    """The memory budget of results, and the ids of those that nobody asked for in time."""

    def __init__(self, *, each_max: int, total_max: int) -> None:
        self._each_max, self._total_max = each_max, total_max
        self._total = 0
        self._abandoned: OrderedDict[bytes, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Results bytes={self._total} abandoned={len(self._abandoned)}>"

    def reserve(self, size: int, already: int) -> str | None:
        """Make room for ``size`` more bytes of a result that has ``already``; else why there is none."""
        if already + size > self._each_max:
            return f"the result is larger than {self._each_max} bytes, which is the most kept for a later poll"
        if self._total + size > self._total_max:
            return f"results waiting to be fetched already take {self._total_max} bytes; fetch them, then call again"
        self._total += size
        return None

    def free(self, size: int) -> None:
        """A result of ``size`` bytes is gone."""
        self._total -= size

    def abandon(self, request_id: bytes, now: float) -> None:
        """Nobody asked for this one in time."""
        self._abandoned[request_id] = now + TOMBSTONE_SECONDS
        while len(self._abandoned) > TOMBSTONES_MAX:
            self._abandoned.popitem(last=False)

    def was_abandoned(self, request_id: bytes, now: float) -> bool:
        return self._abandoned.get(request_id, 0.0) > now

"""Token buckets: how often something may be asked for (tasks page, section 1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gpufn.model.errors import Exhausted
from gpufn.runtime.clock import monotonic

BUCKETS_MAX = 10_000


class Throttle:
    """One bucket per subject: ``rate`` tokens a second, up to ``rate`` at once. 0 is no limit.

    The bucket that was asked longest ago is forgotten when there are too many: it is full by then.
    """

    def __init__(self, rate: float, now: Callable[[], float] = monotonic) -> None:
        self._rate, self._now = rate, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, subject: str) -> None:
        """Take one token; raises Exhausted, naming the subject, when there is none."""
        if not self._rate:
            return
        now = self._now()
        tokens, since = self._buckets.pop(subject, (self._rate, now))
        tokens = min(self._rate, tokens + (now - since) * self._rate)
        self._buckets[subject] = (max(0.0, tokens - 1.0) if tokens >= 1.0 else tokens, now)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        if tokens < 1.0:
            raise Exhausted(f"{subject}: Too many requests. Slow down.")

"""The reference's algorithm, as the autoscaling page states it (sections 1 to 5), in the simulated platform.

Where the page leaves something open it is taken in the algorithm's favour: metrics are scraped without delay, no lock
is ever lost, and a busy instance that is chosen to go finishes its request.
"""

from __future__ import annotations

import math
from collections import deque

from scaling_world import Machine, Platform

LOOP = 15.0
SAMPLE = 60.0
WINDOW = 70.0
LOOKBACK = 600.0
IDLE = 1800.0
CACHE = 300.0
UP, DOWN, UP_FACTOR, DOWN_FACTOR = 70.0, 30.0, 1.2, 0.8


class Reference:
    """Every 15 s: the utilisation of the settled minutes, one step up or down, zero after 30 idle minutes."""

    def __init__(self) -> None:
        self._due = 0.0
        self._busy: deque[tuple[float, float]] = deque([(0.0, 0.0)])
        self._samples: deque[tuple[float, float, int]] = deque()
        self._sampled = 0.0
        self._sent: tuple[float, int] | None = None

    def target(self, platform: Platform) -> int | None:
        self._observe(platform)
        if platform.now < self._due:
            return None
        self._due = platform.now + LOOP
        desired = self._decide(platform)
        if desired is None or self._is_cached(platform.now, desired):
            return None
        self._sent = (platform.now, desired)
        return min(desired, platform.scenario.maximum)

    def victims(self, platform: Platform, count: int) -> list[Machine]:
        """Starting ones first, then running ones, each the oldest first (section 5.1)."""
        return sorted(platform.kept, key=lambda m: (m.is_ready(platform.now), m.created))[:count]

    def _observe(self, platform: Platform) -> None:
        self._busy.append((platform.now, platform.busy_seconds * platform.scenario.slots))
        while self._busy[0][0] < platform.now - WINDOW:
            self._busy.popleft()
        if platform.now - self._sampled >= SAMPLE:
            self._sampled += SAMPLE
            threads = platform.ready * platform.scenario.slots
            used = (self._busy[-1][1] - self._busy[0][1]) / WINDOW
            self._samples.append((self._sampled, 100 * used / threads if threads else 0.0, platform.ready))
        while self._samples and self._samples[0][0] < platform.now - LOOKBACK:
            self._samples.popleft()

    def _decide(self, platform: Platform) -> int | None:
        settled = math.floor(platform.now / SAMPLE) * SAMPLE - SAMPLE
        samples = [(value, ready) for at, value, ready in self._samples if at <= settled]
        current = samples[-1][1] if samples else 0
        invoked = platform.now - platform.last_arrival <= IDLE
        if not invoked and not platform.machines:
            return None  # not in the set of active functions
        last = self._sent[1] if self._sent and platform.now - self._sent[0] < CACHE else 0
        if current == 0 and last > 0:
            return None
        desired, mean = max(current, 1), 0.0
        if samples:
            values = [value for value, _ in samples]
            mean = sum(values) / len(values)
            if values[-1] > UP:
                desired = math.ceil(desired * UP_FACTOR)
            elif values[-1] < DOWN:
                desired = max(1, math.floor(desired * DOWN_FACTOR))
        return 0 if not invoked and mean < DOWN else desired

    def _is_cached(self, now: float, desired: int) -> bool:
        return self._sent is not None and self._sent[1] == desired and now - self._sent[0] < CACHE

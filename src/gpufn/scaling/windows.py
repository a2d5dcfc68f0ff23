"""What a value was over the last seconds: its mean, its peak, how long it was high, how much a count has grown.

Times are seconds on one clock that the caller chooses, and never go back. Each window remembers only what its horizon
needs, in cells of a second, so that its size does not depend on how often it is told something.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CELL = 1.0
"""Seconds that are remembered as one."""


@dataclass
class Cell:
    """A stretch of time with the integral of the value over it."""

    start: float
    end: float
    area: float

    @property
    def mean(self) -> float:
        return self.area / (self.end - self.start)


class Steps:
    """A value that is told at moments and taken to stay the same in between."""

    def __init__(self, horizon: float, *, now: float) -> None:
        self._horizon, self._at, self._value = horizon, now, 0.0
        self._cells: deque[Cell] = deque()

    def add(self, value: float, *, now: float) -> None:
        """From ``now`` on the value is ``value``."""
        self._advance(now)
        self._value = value

    def area(self, seconds: float, *, now: float) -> tuple[float, float]:
        """The integral over the last ``seconds``, and how many of them were watched."""
        self._advance(now)
        area = watched = 0.0
        for cell, span in self._last(seconds, now):
            area, watched = area + cell.mean * span, watched + span
        return area, watched

    def mean(self, seconds: float, *, now: float) -> float:
        """The mean over as much of the last ``seconds`` as was watched."""
        area, watched = self.area(seconds, now=now)
        return area / watched if watched > 0 else self._value

    def lasting(self, holds: Callable[[float], bool], seconds: float, *, now: float) -> float:
        """For how many of the last ``seconds`` the value was one for which ``holds``."""
        self._advance(now)
        return sum(span for cell, span in self._last(seconds, now) if holds(cell.mean))

    def _last(self, seconds: float, now: float) -> Iterator[tuple[Cell, float]]:
        begin = now - min(seconds, self._horizon)
        for cell in reversed(self._cells):
            if cell.end <= begin:
                return
            yield cell, cell.end - max(cell.start, begin)

    def _advance(self, now: float) -> None:
        if now - self._at > self._horizon + CELL:
            self._at = now - self._horizon - CELL
            self._cells.clear()
        while self._at < now:
            end = min(now, (math.floor(self._at / CELL) + 1) * CELL)
            last = self._cells[-1] if self._cells else None
            area = self._value * (end - self._at)
            if (
                last is not None
                and last.end == self._at
                and math.floor(last.start / CELL) == math.floor(self._at / CELL)
            ):
                last.end, last.area = end, last.area + area
            else:
                self._cells.append(Cell(self._at, end, area))
            self._at = end
        while self._cells and self._cells[0].end <= now - self._horizon:
            self._cells.popleft()


class Peak:
    """The highest of the values of the last seconds. Remembers only those that can still become it."""

    def __init__(self, horizon: float, *, now: float) -> None:
        self._horizon, self._began = horizon, now
        self._falling: deque[tuple[float, float]] = deque()

    def add(self, value: float, *, now: float) -> None:
        """The value is ``value`` at ``now``."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((now, value))
        while self._falling[0][0] < now - self._horizon:
            self._falling.popleft()

    def over(self, seconds: float, *, now: float) -> float:
        """The highest value of the last ``seconds``, which are at most the horizon; 0 when none was told."""
        return next((value for at, value in self._falling if at >= now - seconds), 0.0)

    def has_watched(self, seconds: float, *, now: float) -> bool:
        """Whether it has been watching for that long; before, the value may have been higher than it knows."""
        return now - self._began >= seconds


class Growth:
    """How much a count that only grows has grown lately."""

    def __init__(self, horizon: float, *, now: float) -> None:
        self._horizon = horizon
        self._totals: deque[tuple[float, int]] = deque([(now, 0)])
        self._total = 0

    def add(self, total: int, *, now: float) -> None:
        """The count is ``total`` at ``now``."""
        self._total = max(total, self._total)
        if now - self._totals[-1][0] >= CELL / 4:
            self._totals.append((now, self._total))
        while len(self._totals) > 1 and self._totals[1][0] <= now - self._horizon:
            self._totals.popleft()

    def over(self, seconds: float, *, now: float) -> tuple[int, float]:
        """By how much it grew in the last ``seconds``, and in how many that was in truth."""
        at, total = self._totals[0]
        for later, higher in self._totals:
            if later > now - seconds:
                break
            at, total = later, higher
        return self._total - total, now - at

"""How long to wait before trying again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential: ``base`` seconds after the first failure, doubled after each further one, never above ``cap``."""

    base: float = 0.5
    cap: float = 60.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after ``failures`` failures in a row; 0 when there was none."""
        if failures <= 0:
            return 0.0
        return float(min(self.base * 2 ** min(failures - 1, 32), self.cap))

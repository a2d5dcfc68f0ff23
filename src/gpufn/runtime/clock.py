"""The only place that asks what time it is. Everything else is given a time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The wall clock, aware, in UTC: for what is stored or shown."""
    return datetime.now(UTC)


def loop_now() -> float:
    """Seconds on the running loop's clock: for deadlines and delays. Virtual in tests that use virtual time."""
    return asyncio.get_running_loop().time()


def monotonic() -> float:
    """Seconds on a clock that never jumps, outside a loop."""
    return time.monotonic()

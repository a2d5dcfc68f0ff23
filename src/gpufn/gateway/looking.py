"""Looking how far calls are: what their instances write into progress files (invocation-plane page, section 8.2).

Only calls are looked at whose client waits, so what is written meanwhile is there for the next poll, and no call waits
for another. Files are looked at, not watched: that works in every kind of shared directory, and costs calls that are
answered quickly nothing.
"""

from __future__ import annotations

import asyncio

from gpufn.gateway.plane import Plane

EVERY = 0.25
"""Seconds between two looks."""
AT_ONCE = 200
"""Calls looked at before others get their turn."""


async def look(plane: Plane) -> None:
    """Look, until cancelled."""
    while True:
        await asyncio.sleep(EVERY)
        calls = list(plane.calls.values())
        for start in range(0, len(calls), AT_ONCE):
            for call in calls[start : start + AT_ONCE]:
                call.look()
            await asyncio.sleep(0)

"""Telling control how much there is to do: what scaling is decided on.

A report goes out when the load has changed, at most every ``EVERY`` seconds; at once when a call queues for a version
without a ready instance, because that is what wakes a version from zero; and every ``HEARTBEAT`` seconds anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gpufn.gateway.control import Control, Unreachable
from gpufn.runtime.clock import loop_now
from gpufn.wire.feed import LoadReport

EVERY = 0.1
HEARTBEAT = 2.0


class Load:
    """What has changed since the last report."""

    def __init__(self) -> None:
        self.changed = False
        self._urgent = asyncio.Event()

    def urge(self) -> None:
        """Someone waits and nobody is there to serve: report at once."""
        self.changed = True
        self._urgent.set()

    async def report(self, control: Control, build: Callable[[], LoadReport]) -> None:
        """Send reports until cancelled. One that control does not take is made up for by the next."""
        sent_at = float("-inf")
        while True:
            await self._due()
            now = loop_now()
            if not self.changed and now - sent_at < HEARTBEAT:
                continue
            self.changed = False
            sent_at = now
            body = build().model_dump_json(by_alias=True).encode()
            try:
                await control.post("/load", body)
            except Unreachable:
                self.changed = True  # the feed tells of the outage; here it only means to try again

    async def _due(self) -> None:
        try:
            async with asyncio.timeout(EVERY):
                await self._urgent.wait()
        except TimeoutError:
            pass
        self._urgent.clear()

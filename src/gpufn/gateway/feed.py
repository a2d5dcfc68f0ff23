"""Following what control says. While control is away, the gateway serves from what it knows."""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from gpufn.gateway.control import Control, Unreachable
from gpufn.gateway.snapshot import Snapshot
from gpufn.runtime.backoff import Backoff
from gpufn.runtime.log import get_logger
from gpufn.wire.feed import ENVELOPE

BACKOFF = Backoff(base=0.1, cap=2.0)

log = get_logger("gateway.feed")


async def follow(snapshot: Snapshot, control: Control) -> None:
    """Apply the feed until cancelled, reconnecting whenever it ends."""
    failures = 0
    while True:
        try:
            await _once(snapshot, control)
        except (Unreachable, ValidationError) as error:
            failures = 1 if snapshot.synced else failures + 1
            if failures == 1:
                log.warning("feed lost; serving from what is known", error=str(error))
        snapshot.synced = False
        await asyncio.sleep(BACKOFF.delay(failures))


async def _once(snapshot: Snapshot, control: Control) -> None:
    first = True
    async for line in control.lines("/feed"):
        if first:
            snapshot.begin()
            first = False
        snapshot.apply(ENVELOPE.validate_json(line))

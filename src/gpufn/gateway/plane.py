"""What all calls of one gateway share. No decisions are made here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpufn.gateway.budget import Budget
from gpufn.gateway.deadlines import Deadlines
from gpufn.gateway.journal import Journal, Write
from gpufn.gateway.limits import Limits
from gpufn.gateway.links import Links
from gpufn.gateway.load import Load
from gpufn.gateway.outputs import Outputs
from gpufn.gateway.slots import Slot
from gpufn.gateway.spool import Stores
from gpufn.model.errors import Unavailable
from gpufn.runtime.clock import loop_now
from gpufn.runtime.log import get_logger
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import GatewaySettings

if TYPE_CHECKING:
    from gpufn.gateway.accepted import Accepted
    from gpufn.gateway.assets import Assets
    from gpufn.gateway.invocation import Invocation
    from gpufn.gateway.session import Session
    from gpufn.gateway.ticket import Ticket

log = get_logger("gateway")

RETRY = 1.0
"""Seconds between two attempts to record what nobody waits for."""
BATCH = 256
"""Request ids made from one read of the system's random numbers."""


class Ids:
    """Random UUIDs of version 4, a batch at a time: a system call per request would show."""

    def __init__(self) -> None:
        self._random = ""
        self._used = 0

    def next(self) -> bytes:
        """A fresh request id."""
        if self._used >= len(self._random):
            self._random = os.urandom(16 * BATCH).hex()
            self._used = 0
        start = self._used
        self._used = start + 32
        h = self._random[start : start + 32]
        variant = "89ab"[int(h[16], 16) & 3]
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{variant}{h[17:20]}-{h[20:]}".encode()


@dataclass
class Plane:
    """The state that calls share."""

    settings: GatewaySettings
    load: Load
    memory: Budget
    """For responses in envelopes."""
    tasks: Supervisor
    journal: Journal
    stores: Stores
    assets: Assets
    links: Links
    deadlines: Deadlines = field(default_factory=Deadlines)
    ids: Ids = field(default_factory=Ids)
    limits: Limits = field(default_factory=Limits)
    calls: dict[bytes, Invocation | Accepted] = field(default_factory=dict)
    """Every invocation that this gateway has, by request id: until it is answered, or its outcome is kept."""
    tickets: set[Ticket] = field(default_factory=set)
    """Every socket and gRPC call that waits for a slot or holds one."""
    sessions: dict[bytes, Session] = field(default_factory=dict)
    """Sessions of the gRPC port, by the id that clients see."""

    is_replaced: bool = False
    """Whether a successor has the new connections, and so the polls."""

    def open_output(self, slot: Slot, name: str) -> None:
        """Have an output directory for the request ``name`` that the instance of ``slot`` is about to get."""
        if not self.settings.output_directories:
            return
        instance = slot.instance
        outputs = instance.outputs
        if outputs is None:
            outputs = instance.outputs = Outputs(self.assets.shared(instance.facts.id), self._later)
        slot.open_output(outputs, name)

    def _later(self, work: Callable[[], None]) -> None:
        self.tasks.start(asyncio.to_thread(work), name="outputs:remove")

    def now(self) -> float:
        """Loop time."""
        return loop_now()

    def record(self, write: Write, what: str) -> None:
        """Write something that nobody waits for, as soon as it can be."""
        self.tasks.start(self._record(write, what), name=f"record:{what}")

    async def _record(self, write: Write, what: str) -> None:
        while True:
            try:
                await self.journal.do(write)
                return
            except Unavailable as error:
                log.warning("something cannot be recorded yet", what=what, error=error.message)
                await asyncio.sleep(RETRY)

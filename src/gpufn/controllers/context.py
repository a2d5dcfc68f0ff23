"""What every controller is given: the store, the backend, the gateways' feed, and the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from gpufn.auth.keyring import Keyring
from gpufn.compute.backend import Backend
from gpufn.model.cluster import Cluster
from gpufn.model.function import Health
from gpufn.model.instance import Address
from gpufn.runtime.clock import utc_now
from gpufn.runtime.hub import Hints, Retained
from gpufn.scaling.load import LoadBoard
from gpufn.settings import ControllerSettings
from gpufn.store.database import Database
from gpufn.store.objects import Objects
from gpufn.wire.feed import Message

Probe: TypeAlias = Callable[[Health, Address], Awaitable[str | None]]
"""Asks an instance whether it is ready: None, or what is wrong in a few words."""


@dataclass(frozen=True)
class Context:
    """The surroundings of the loops. ``now`` is the wall clock, replaced where time is virtual."""

    db: Database
    backend: Backend
    probe: Probe
    hints: Hints
    load: LoadBoard
    feed: Retained[Message]
    cluster: Cluster
    settings: ControllerSettings
    keyring: Keyring
    """Opens the secrets that instances are given."""
    objects: Objects
    now: Callable[[], datetime] = utc_now

"""What every controller is given: the store, the clusters, the gateways' feed, and the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from gpufn.auth.discovery import fetch_keys
from gpufn.auth.keyring import Keyring
from gpufn.auth.tokens import Issuer
from gpufn.compute.backend import Backend, BackendError, Files
from gpufn.compute.fleet import Fleet
from gpufn.compute.task_files import TaskFiles
from gpufn.model.cluster import Cluster
from gpufn.model.function import Health
from gpufn.model.instance import Address
from gpufn.runtime.clock import utc_now
from gpufn.runtime.hub import Hints, Retained
from gpufn.scaling.load import LoadBoard
from gpufn.settings import ControllerSettings, ExternalIssuer, TaskSettings
from gpufn.store.database import Database
from gpufn.store.objects import Objects
from gpufn.wire.feed import Message

FetchKeys: TypeAlias = Callable[[str, str], Awaitable[Mapping[str, Any]]]
"""Reads the public keys of an issuer, by its name and the URL of its keys. Raises Unavailable."""
Probe: TypeAlias = Callable[[Health, Address], Awaitable[str | None]]
"""Asks an instance whether it is ready: None, or what is wrong in a few words."""


Connect: TypeAlias = Callable[[Cluster, Files], Awaitable[Backend]]
"""Opens the backend of a registered cluster with its secrets. Raises BackendError."""


async def _no_way(cluster: Cluster, secrets: Files) -> Backend:
    raise BackendError("there is no way to other clusters here")


@dataclass(frozen=True)
class Context:
    """The surroundings of the loops. ``now`` is the wall clock, replaced where time is virtual."""

    db: Database
    fleet: Fleet
    """The clusters, and where their instances run."""
    probe: Probe
    hints: Hints
    load: LoadBoard
    feed: Retained[Message]
    settings: ControllerSettings
    keyring: Keyring
    """Opens the secrets that instances are given."""
    objects: Objects
    task_files: TaskFiles
    tasks: TaskSettings
    now: Callable[[], datetime] = utc_now
    connect: Connect = _no_way
    own_issuer: Issuer | None = None
    """This installation, as an issuer of tokens."""
    external_issuers: tuple[ExternalIssuer, ...] = ()
    """Others whose tokens are believed as soon as their keys are known."""
    issuers: MutableMapping[str, Issuer] = field(default_factory=dict)
    """Those whose keys are known; the API looks here too."""
    fetch_keys: FetchKeys = fetch_keys

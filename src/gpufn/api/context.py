"""What the routes work with. The composition root fills it; the planes never meet each other here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from gpufn import __version__
from gpufn.api.throttle import Throttle
from gpufn.auth.keyring import Keyring
from gpufn.auth.tokens import Issuer, Signer
from gpufn.compute.backend import ExecResult
from gpufn.compute.fleet import Fleet
from gpufn.model.ids import InstanceId
from gpufn.model.registry import KNOWN, Registry
from gpufn.runtime.clock import utc_now
from gpufn.runtime.hub import Hints
from gpufn.scaling.load import LoadBoard
from gpufn.settings import AssetSettings, IdentitySettings
from gpufn.store.database import Database
from gpufn.store.objects import Objects


class Line(Protocol):
    """One line that an instance wrote."""

    @property
    def text(self) -> str: ...

    @property
    def at(self) -> datetime | None: ...


class Inside(Protocol):
    """Where the output of instances is read, and commands are run beside them. Raises BackendError when that cannot be
    done now.
    """

    def logs(
        self, instance_id: InstanceId, *, follow: bool, tail: int | None, since: datetime | None = None
    ) -> AsyncIterator[Line]:
        """The last ``tail`` lines (None: all that is kept) written after ``since``, then, with ``follow``, what comes
        until it ends.
        """
        ...

    async def exec(self, instance_id: InstanceId, command: Sequence[str], *, seconds: float) -> ExecResult | None:
        """Run a command where the instance runs; None when it does not run."""
        ...


@dataclass(frozen=True)
class BackendStatus:
    """One compute backend, and whether it works; ``detail`` says why not."""

    name: str
    working: bool
    detail: str = ""


async def _no_problem() -> str:
    return ""


async def _no_backends() -> Sequence[BackendStatus]:
    return ()


@dataclass(frozen=True)
class Context:
    """Everything the API needs."""

    db: Database
    hints: Hints
    load: LoadBoard
    fleet: Fleet
    pepper: bytes
    """Under which keys are hashed."""
    keyring: Keyring
    """Under which secrets are sealed."""
    signer: Signer
    """Makes tokens of this installation."""
    logs: Inside
    objects: Objects
    started_at: datetime
    registries: Sequence[Registry] = KNOWN
    """Those that are recognised."""
    backends: Callable[[], Awaitable[Sequence[BackendStatus]]] = _no_backends
    database_problem: Callable[[], Awaitable[str]] = _no_problem
    """Why the database cannot be written now; empty when it can."""
    assets: AssetSettings = field(default_factory=AssetSettings)
    uploads: set[str] = field(default_factory=set)
    """The assets that are being uploaded."""
    public_url: str = ""
    """Where clients reach the installation; empty: where they call it."""
    now: Callable[[], datetime] = utc_now
    task_rate: Throttle = field(default_factory=lambda: Throttle(0))
    """How often tasks may be asked about."""
    version: str = __version__
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    issuers: MutableMapping[str, Issuer] = field(default_factory=dict)
    """Others whose tokens are believed, by name; kept up to date by the controllers."""

    def trusted(self) -> dict[str, Issuer]:
        """Everybody whose tokens are believed, this installation included."""
        own = self.signer.issuer
        return {**self.issuers, own.name: own}


async def _of(connection: HTTPConnection) -> Context:
    return cast("Context", connection.app.state.context)


Ctx = Annotated[Context, Depends(_of)]
"""The context, as a parameter of a route."""

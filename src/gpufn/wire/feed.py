"""What control tells its gateways, and what they tell back. Internal: both ends are always the same release.

Control sends newline-delimited JSON over its internal socket: every retained message once, then ``synced``, then each
change as it happens. A gateway that loses the connection keeps serving from what it has, reconnects, and on ``synced``
drops what was not repeated.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from gpufn.model.status import FunctionStatus
from gpufn.wire.base import Wire
from gpufn.wire.rates import RateLimitDto


class RouteInstance(Wire):
    """An instance that may be given work."""

    id: str
    host: str
    port: int
    slots: int
    """``maxRequestConcurrency`` of its specification."""
    gpu: str
    instance_type: str
    shared_dir: str
    """Where the instance sees ``inputAssets`` and ``response``: ``/var/inf`` in a container."""
    backend: str = ""
    """The group of its cluster, and below its region; empty: as the route says."""
    region: str = ""


class Route(Wire):
    """Everything a gateway knows about a version that is deployed."""

    type: Literal["route"] = "route"
    version_id: str
    function_id: str
    function_name: str
    nca_id: str
    parties: tuple[str, ...] = ()
    """Other accounts that may invoke it; ``*`` is every one."""
    status: FunctionStatus
    draining: bool = False
    """Being undeployed gracefully: finish what is queued, take nothing new."""
    inference_path: str
    """``inferenceUrl`` with a leading slash."""
    backend: str
    region: str
    instances: tuple[RouteInstance, ...] = ()
    """Those that are ready. Those that are draining or unhealthy are left out: they get no new work."""
    rate_limit: RateLimitDto | None = None
    starting: int = 0
    note: str = ""
    """Why there are no more instances than that, for the reason in a 504: the last failure, or what start-up does."""


class RouteGone(Wire):
    """A version that is not deployed any more, or deleted."""

    type: Literal["route-gone"] = "route-gone"
    version_id: str


class Known(Wire):
    """A version that exists but is not deployed, so that a gateway can tell 'not active' from 'unknown'."""

    type: Literal["known"] = "known"
    version_id: str
    function_id: str
    function_name: str
    nca_id: str
    parties: tuple[str, ...] = ()
    status: FunctionStatus


class KeyGrant(Wire):
    """A valid key: its digest and what it allows."""

    type: Literal["key"] = "key"
    key_id: str
    digest: str
    """The keyed hash of the key under the pepper, in hexadecimal."""
    nca_id: str
    owner: str
    scopes: tuple[str, ...]
    resources: tuple[tuple[str, str], ...]
    """(type, id) pairs."""
    expires_at: float | None = None
    """Seconds since the epoch."""


class KeyGone(Wire):
    """A key that was revoked."""

    type: Literal["key-gone"] = "key-gone"
    key_id: str


class TrustedIssuer(Wire):
    """An issuer of tokens, with its public keys."""

    name: str
    audience: str
    keys: dict[str, Any]
    algorithms: tuple[str, ...]
    scopes_claim: str
    nca_id: str
    admin: bool
    own: bool = False


class Trust(Wire):
    """Whose tokens are believed, and for which account each client acts. Always the whole of it."""

    type: Literal["trust"] = "trust"
    issuers: tuple[TrustedIssuer, ...]
    clients: dict[str, str]
    """Of this installation's own tokens."""
    others: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Of other issuers' tokens, by issuer."""


class Synced(Wire):
    """Everything retained has been sent."""

    type: Literal["synced"] = "synced"


Message = Annotated[Route | RouteGone | Known | KeyGrant | KeyGone | Trust | Synced, Field(discriminator="type")]


class Envelope(Wire):
    """One line of the feed. ``seq`` ascends; a gateway reports the last one it has applied."""

    seq: int
    message: Message


ENVELOPE: TypeAdapter[Envelope] = TypeAdapter(Envelope)


class VersionLoad(Wire):
    """What one gateway has of one version at this moment."""

    queued: int
    in_flight: int
    busy: dict[str, int] = Field(default_factory=dict)
    """Requests being served, by instance id; instances without any are left out. Includes instances that have been
    taken off the route and still finish something.
    """
    served: int = 0
    """Requests that have ended at an instance since this gateway began."""


class LoadReport(Wire):
    """Sent by a gateway whenever its load changed (at most every 100 ms; at once when a request queues and no
    instance is ready), and every 2 s anyway. Versions without load are left out,
    unless something has ended there since the last report.
    """

    gateway: str
    seq: int
    """The last feed sequence number applied."""
    age: float = 0.0
    """Seconds since this gateway began."""
    versions: dict[str, VersionLoad]

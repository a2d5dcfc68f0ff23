"""Where a request wants to go. Pure; first match wins (invocation-plane page, sections 2.2 and 4).

The host is a security boundary: only hosts of the shapes below choose direct mode, everything else is told by its path
alone, and what is not ours goes to control.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import TypeAlias

from gpufn.gateway.http1 import RequestHead

UUID = rb"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
IS_UUID = re.compile(UUID)
UUID_HOST = re.compile(rb"(" + UUID + rb")(?:\.(" + UUID + rb"))?(?:\.[0-9A-Za-z._-]*)?(?::[0-9]{1,5})?")
CONTROL_HOSTS = frozenset(
    {b"api", b"api-keys", b"llm", b"tasks", b"sis", b"reval", b"ess", b"nvcf-ui", b"vanity", b"console"}
)
"""First labels of hosts whose services are control's: ``function-id`` headers mean nothing there."""
PATH = re.compile(
    rb"/v2/(?:orgs/[^/?]+/(?:teams/[^/?]+/)?)?nvcf/"
    rb"(?:(?P<form>pexec|exec)/(?:functions/(?P<function>[^/?]*)(?:/versions/(?P<version>[^/?]*))?"
    rb"|status/(?P<status>[^/?]*))"
    rb"|queues/(?P<position>[^/?]*)/position)"
    rb"(?:\?.*)?"
)
WHY = re.compile(rb"/v2/gpufn/why/(?:request/)?(" + UUID + rb")(?:\?.*)?")


@dataclass(frozen=True)
class Pexec:
    """POST a payload to a function. Ids are in lower case; ``None`` as version means any."""

    function_id: str
    version_id: str | None
    valid: bool = True
    """Whether both are UUIDs: if not, that is only said after the caller's key was looked at."""
    envelope: bool = False
    """The ``exec`` form: request and response are wrapped in JSON."""


@dataclass(frozen=True)
class PexecStatus:
    """Ask for the result of an earlier call."""

    request_id: bytes
    envelope: bool = False


@dataclass(frozen=True)
class Why:
    """Ask why a call is where it is; an id that no gateway knows may be that of something else."""

    request_id: bytes


@dataclass(frozen=True)
class QueuePosition:
    """Ask where a call is."""

    request_id: bytes


@dataclass(frozen=True)
class Direct:
    """Any method and path, verbatim, to a function. Ids as in ``Pexec``."""

    function_id: str
    version_id: str | None


@dataclass(frozen=True)
class Relay:
    """Not ours: control answers."""


@dataclass(frozen=True)
class Health:
    """Whether invocations can be served: the invocation host's own ``/health``."""


@dataclass(frozen=True)
class Nowhere:
    """A path of the invocation host that means nothing there; control's paths are at control's hosts."""


Target: TypeAlias = Pexec | PexecStatus | QueuePosition | Why | Direct | Relay | Health | Nowhere
RELAY, HEALTH, NOWHERE = Relay(), Health(), Nowhere()
HEALTH_PATH = re.compile(rb"/health(?:\?.*)?")
OBJECTS = b"/v2/gpufn/objects/"
"""Where URLs lead that are handed out; they begin with the host that the client calls, whichever that is."""
REMEMBERED_MAX = 160
"""Longest host and path, in bytes, whose meaning is remembered."""


class Undecided(Enum):
    """What the host leaves open."""

    BY_PATH = auto()
    BY_HEADER_OR_PATH = auto()
    INVOCATION = auto()
    """As the one before, at the host whose only service is invocation: nothing is for control."""


BY_PATH, BY_HEADER_OR_PATH = Undecided.BY_PATH, Undecided.BY_HEADER_OR_PATH


def route(head: RequestHead) -> Target:
    """The target of a request whose head was accepted."""
    values = head.values
    host = values.get(b"host", b"")
    by_host = _host(host) if len(host) <= REMEMBERED_MAX else _host.__wrapped__(host)
    if by_host is RELAY:
        return RELAY
    if by_host is not BY_PATH and b"function-id" in values:
        by_header = _by_header(values)
        if by_header is not None:
            return by_header
    if isinstance(by_host, Direct):
        return by_host
    target = head.target
    by_path = _by_path(target) if len(target) <= REMEMBERED_MAX else _by_path.__wrapped__(target)
    if by_path is RELAY and by_host is Undecided.INVOCATION:
        if target.startswith(OBJECTS):
            return RELAY
        return HEALTH if HEALTH_PATH.fullmatch(target) else NOWHERE
    return by_path


def is_uuid(text: bytes) -> bool:
    """Whether ``text`` is a hyphenated UUID."""
    return IS_UUID.fullmatch(text) is not None


def _text(wanted: bytes) -> str:
    return wanted.decode("ascii").lower()


def _by_header(values: dict[bytes, bytes]) -> Direct | None:
    function_id = values.get(b"function-id")
    if function_id is None or not is_uuid(function_id):
        return None
    version_id = values.get(b"function-version-id")
    if version_id is not None and not is_uuid(version_id):
        version_id = None
    return Direct(_text(function_id), None if version_id is None else _text(version_id))


@lru_cache(1024)
def _host(host: bytes) -> Direct | Relay | Undecided:
    """What the host alone says."""
    service = host.partition(b".")[0].partition(b":")[0].lower()
    if service in CONTROL_HOSTS:
        return BY_PATH if service == b"api" else RELAY
    if service == b"invocation":
        return Undecided.INVOCATION
    return _by_host(host) or BY_HEADER_OR_PATH


def _by_host(host: bytes) -> Direct | None:
    """``<functionId>.…``, or ``<versionId>.<functionId>.…``: version first."""
    match = UUID_HOST.fullmatch(host)
    if match is None:
        return None
    first, second = match.groups()
    return Direct(_text(first), None) if second is None else Direct(_text(second), _text(first))


@lru_cache(4096)
def _by_path(target: bytes) -> Target:
    match = PATH.fullmatch(target)
    if match is None:
        why = WHY.fullmatch(target)
        return RELAY if why is None else Why(why[1])
    form, function_id, version_id, status, position = match.groups()
    envelope = form == b"exec"
    if function_id is not None:
        valid = is_uuid(function_id) and (version_id is None or is_uuid(version_id))
        return Pexec(_text(function_id), None if version_id is None else _text(version_id), valid, envelope)
    if status is not None:
        return PexecStatus(status, envelope)
    # `queues/functions/position` cannot be meant: `functions` is no request id, control answers for it
    return RELAY if position == b"functions" else QueuePosition(position)

"""The rules of the API-key service: what a key may be asked to be, and what its policies grant (auth page, 3 and 4).

Pure. A key's ``authorizations`` are kept as they came; of their policies, the first one about a service counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gpufn.model.access import ApiKey, KeyStatus, Resource
from gpufn.model.errors import Invalid

MAX_KEYS = 8
"""Live keys of one owner and one service (section 3.1)."""
MAX_DAYS = 365
MAX_AUTHORIZATIONS = 2048
"""Characters of the authorizations, serialised."""
MIN_INTERVAL = timedelta(seconds=3)
"""Between two changes of one owner's keys of one service; sooner is 429."""

_DESCRIPTION = re.compile(r"[a-zA-Z0-9\s_-]{1,64}")


@dataclass(frozen=True)
class Service:
    """Somebody whose keys are made here."""

    id: str
    name: str
    namespace: str
    """In the path of an evaluation."""


SERVICES = (
    Service("nvidia-cloud-functions-ncp-service-id-aketm", "nvcf-api", "nvcf"),
    Service("nvidia-cloud-tasks-ncp-service-id-nvcttasks", "nvct-api", "nvct"),
)


def service(issuer: str | None) -> Service:
    """The service that ``Key-Issuer-Id`` names, by its id or, as NVIDIA's command line does, by its name."""
    if not issuer:
        raise Invalid("Key-Issuer-Id is not set")
    found = next((s for s in SERVICES if issuer in (s.id, s.name)), None)
    if found is None:
        raise Invalid(f"Caller service not registered: Key-Issuer-Id '{issuer[:64]}'")
    return found


def in_namespace(namespace: str) -> Service:
    """The service of a namespace of evaluations (section 4.2)."""
    found = next((s for s in SERVICES if s.namespace == namespace), None)
    if found is None:
        known = ", ".join(s.namespace for s in SERVICES)
        raise Invalid(f"namespace '{namespace[:64]}' is unknown; there are {known}")
    return found


def check_description(text: object) -> str:
    if not isinstance(text, str) or _DESCRIPTION.fullmatch(text) is None:
        raise Invalid("description is invalid")
    return text


def check_end(end: datetime | None, now: datetime) -> datetime:
    """Exactly at the bound passes (section 18, check 3)."""
    if end is None or not now < end <= now + timedelta(days=MAX_DAYS):
        raise Invalid(f"expires_at must be in the future and not more than {MAX_DAYS} days from now")
    return end


def check_audiences(wanted: tuple[str, ...] | None, own: Service) -> tuple[str, ...]:
    """None is the service itself."""
    if wanted is None:
        return (own.id,)
    if not wanted:
        raise Invalid("audience_service_ids can't be empty")
    foreign = [audience for audience in wanted if audience not in {s.id for s in SERVICES}]
    if foreign:
        raise Invalid(f"service '{own.id}' cannot use audiences: {','.join(foreign)}")
    return wanted


def check_authorizations(value: Any) -> Any:
    if value is None:
        raise Invalid("authorizations must be given")
    if len(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) > MAX_AUTHORIZATIONS:
        raise Invalid(f"authorizations are longer than {MAX_AUTHORIZATIONS} characters")
    return value


def policy_of(authorizations: Any, service_id: str) -> Mapping[str, Any] | None:
    """The first policy whose ``aud`` is the service; None when there is none (section 4.2)."""
    return next((p for p in _policies(authorizations) if p.get("aud") == service_id), None)


def scopes_of(authorizations: Any) -> tuple[str, ...]:
    """Every scope that the policies that count name, known here or not."""
    found = (scope for p in _counting(authorizations) for scope in _list(p.get("scopes")) if isinstance(scope, str))
    return tuple(dict.fromkeys(found))


def resources_of(authorizations: Any) -> tuple[Resource, ...]:
    """Every resource they name. Forms that grant nothing are among them, and grant nothing."""
    found = (
        Resource(r["type"], r["id"])
        for p in _counting(authorizations)
        for r in _list(p.get("resources"))
        if isinstance(r, dict) and isinstance(r.get("type"), str) and isinstance(r.get("id"), str)
    )
    return tuple(dict.fromkeys(found))


def check_transition(key: ApiKey, to: KeyStatus, now: datetime) -> None:
    """Raises Invalid unless the status may change so (section 3.3)."""
    present = key.status(now)
    if (present, to) not in _TRANSITIONS:
        raise Invalid(f"status: a key that is {present} cannot become {to}")


_TRANSITIONS = frozenset(
    {
        (KeyStatus.ACTIVE, KeyStatus.SUSPENDED),
        (KeyStatus.SUSPENDED, KeyStatus.ACTIVE),
        (KeyStatus.EXPIRED, KeyStatus.SUSPENDED),
    }
)


def _counting(authorizations: Any) -> Iterator[Mapping[str, Any]]:
    for one in SERVICES:
        policy = policy_of(authorizations, one.id)
        if policy is not None:
            yield policy


def _policies(authorizations: Any) -> Iterator[Mapping[str, Any]]:
    policies = authorizations.get("policies") if isinstance(authorizations, dict) else None
    yield from (p for p in _list(policies) if isinstance(p, dict))


def _list(value: Any) -> list[Any]:
    """All of it: what is not looked at here would still be shown to who asks for the policy."""
    return value if isinstance(value, list) else []

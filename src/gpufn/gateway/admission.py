"""Who is calling, and what they may invoke. Pure over the snapshot.

The texts are the reference's: clients and tests match on them (invocation-plane page, sections 3.1 and 3.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gpufn.auth.access import reaches
from gpufn.auth.keys import digest
from gpufn.gateway.http1 import RequestHead
from gpufn.gateway.problems import Refused, problem, text
from gpufn.gateway.snapshot import Grant, Snapshot
from gpufn.gateway.version import Version
from gpufn.model.access import ALL_FUNCTIONS, Principal, Resource
from gpufn.model.invocation import AcceptedInvocation
from gpufn.model.sharing import Relation, relation
from gpufn.model.status import FunctionStatus
from gpufn.wire.feed import KeyGrant

BEARER = re.compile(rb"Bearer ([\x21-\x7e]+)")
INVOKE = "invoke_function"
QUEUE_DETAILS = "queue_details"


def bearer(head: RequestHead) -> bytes:
    """The caller's key. Raises Refused (401, plain text) when there is none to look at."""
    value = head.values.get(b"authorization")
    if value is None:
        raise Refused(text(401, "Header of type `authorization` was missing"))
    match = BEARER.fullmatch(value)
    if match is None:
        raise Refused(text(401, "Unauthorized access"))
    return match[1]


def grant(snapshot: Snapshot, token: bytes, pepper: bytes, wall: Callable[[], float]) -> Grant:
    """What the key allows. ``wall`` tells the time in seconds since the epoch. Raises Refused (401; 503 at first)."""
    if not snapshot.ready:
        detail = "the gateway is starting and has not heard from control yet; retry"
        raise Refused(problem(503, detail, b"retry-after: 1"))
    hashed = digest(pepper, token)
    found = snapshot.grants.get(hashed)
    if found is None and b"." in token and not token.startswith(b"nvapi-"):
        return _of_token(snapshot, token, hashed, wall())
    if found is None:
        raise Refused(problem(401, "the API key is unknown or was revoked; use another one"))
    if found.expires_at is not None and found.expires_at <= wall():
        raise Refused(problem(401, "the API key has expired; use another one"))
    return found


def _of_token(snapshot: Snapshot, token: bytes, hashed: bytes, now: float) -> Grant:
    """What a JWT allows: its scopes, in the whole of the account that its client acts for (auth page, section 5)."""
    claims, nca_id = snapshot.tokens.claims(token, digest=hashed, now=now, holds=snapshot.holds)
    scopes: frozenset[str] = claims.scopes
    resources: tuple[Resource, ...] = ALL_FUNCTIONS
    if claims.intended is not None and claims.key_id is not None:
        scopes, resources = _of_maker(snapshot, claims.key_id, now)
    message = KeyGrant(
        key_id=claims.key_id or "",
        digest="",
        nca_id=nca_id,
        owner=claims.client,
        scopes=tuple(claims.scopes & scopes),
        resources=tuple((r.type, r.id) for r in resources),
        expires_at=claims.expires_at,
    )
    return Grant(message, generation=0, intended=claims.intended)


def _of_maker(snapshot: Snapshot, key_id: str, now: float) -> tuple[frozenset[str], tuple[Resource, ...]]:
    """What the key allows now that made a delegated token: the token allows no more than that. Raises Refused (401)."""
    maker = snapshot.of_key(key_id)
    if maker is None or (maker.expires_at is not None and maker.expires_at <= now):
        raise Refused(problem(401, "the API key that this token was made with has ended; use another one"))
    return maker.principal.scopes, maker.principal.resources


def require(holder: Grant, scope: str) -> None:
    """Raises Refused (403) when the key lacks ``scope``."""
    if scope not in holder.scopes:
        raise Refused(problem(403, "missing requested authorities"))


def choose(snapshot: Snapshot, holder: Grant, function_id: str, version_id: str | None) -> Version:
    """The version that is to serve: the pinned one, or the least loaded of those the caller may invoke; of equals,
    the one not called for longest.

    Existence is checked before access (auth page, section 4.4). Raises Refused.
    """
    known = snapshot.versions_of(function_id)
    if len(known) == 1 and version_id in (None, known[0].id):  # by far the most common case, and the cheapest
        only = known[0]
        if only.invocable and holder.reaches_account and only.nca_id == holder.principal.nca_id:
            return only
    principal = holder.principal
    related = {v.id: (v, to) for v in known if (to := _relation(principal, v)) is not None}
    account = principal.nca_id
    if not related:
        raise Refused(problem(404, f"Function '{function_id}': Not found for account '{account}'"))
    if version_id is not None:
        return _pinned(principal, related.get(version_id), function_id, version_id)
    reachable = [v for v, to in related.values() if reaches(principal, to, function_id, v.id)]
    if not reachable:
        detail = f"Function '{function_id}':  Missing resource entry in ApiKey for the function"
        raise Refused(problem(403, detail))
    invocable = [v for v in reachable if v.invocable]
    if not invocable:
        raise _not_invocable(f"Function id '{function_id}'", account, reachable)
    return invocable[0] if len(invocable) == 1 else min(invocable, key=lambda v: (v.pressure(), v.called_at))


def allow(principal: Principal, version: Version) -> None:
    """Raises Refused (404, 403) unless ``version`` is within the caller's reach, invocable or not."""
    to = _relation(principal, version)
    if to is None:
        what = f"Function id '{version.function_id}', version '{version.id}'"
        raise Refused(problem(404, f"{what}: Not found for account '{principal.nca_id}'"))
    if not reaches(principal, to, version.function_id, version.id):
        raise Refused(problem(403, _missing_resource(version.function_id, version.id)))


def _relation(principal: Principal, version: Version) -> Relation | None:
    return relation(principal.nca_id, version.nca_id, version.parties)


def allow_invocation(snapshot: Snapshot, principal: Principal, record: AcceptedInvocation) -> None:
    """Raises Refused (404, 403) unless the caller's account made that invocation, and the caller reaches its version.

    The owner of a function does not own what others have called.
    """
    if record.nca_id != principal.nca_id:
        raise Refused(problem(404))
    version = snapshot.version(record.version_id)
    if version is not None:
        allow(principal, version)
    elif not principal.reaches_version(record.function_id, record.version_id):
        raise Refused(problem(403, _missing_resource(record.function_id, record.version_id)))


def _missing_resource(function_id: str, version_id: str) -> str:
    """Two spaces, as the reference has them."""
    return f"Function '{function_id}', version '{version_id}':  Missing resource entry in ApiKey for the function"


def _pinned(principal: Principal, found: tuple[Version, Relation] | None, function_id: str, version_id: str) -> Version:
    account = principal.nca_id
    if found is None:
        detail = f"Function id '{function_id}', version '{version_id}': Not found for account '{account}'"
        raise Refused(problem(404, detail))
    version, to = found
    if not reaches(principal, to, function_id, version_id):
        raise Refused(problem(403, _missing_resource(function_id, version_id)))
    if not version.invocable:
        raise _not_invocable(f"Function id '{function_id}' version '{version_id}'", account, [version])
    return version


def _not_invocable(what: str, account: str, versions: list[Version]) -> Refused:
    if any(v.status is FunctionStatus.DEGRADED and not v.draining for v in versions):
        return Refused(problem(400, f"{what}: DEGRADED function cannot be invoked"))
    return Refused(problem(404, f"{what}: Specified function in account '{account}' is not found"))

"""Where requests go, and that hosts decide nothing they should not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings, strategies as st

from gpufn.gateway.http1 import BadMessage, parse_request
from gpufn.gateway.route import HEALTH, NOWHERE, RELAY, Direct, Pexec, PexecStatus, QueuePosition, Target, route

F, V = b"11111111-1111-4111-8111-111111111111", b"22222222-2222-4222-8222-222222222222"
FUNCTION, VERSION = F.decode(), V.decode()
PARTS = [F, V, b".", b":", b"80", b"x", b"api", b"-", b"invocation", b"/", b"@", b" "]


def where(host: bytes, target: bytes = b"/x", *lines: bytes) -> Target:
    extra = b"".join(line + b"\r\n" for line in lines)
    return route(parse_request(b"POST %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, host, extra), 128))


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        (F + b".invocation.localhost", b"/x", Direct(FUNCTION, None)),
        (V + b"." + F + b".x", b"/v2/nvcf/pexec/functions/" + F, Direct(FUNCTION, VERSION)),
        (F, b"/", Direct(FUNCTION, None)),
        (F + b".not-a-uuid.x:80", b"/", Direct(FUNCTION, None)),
        (b"x." + F + b".y", b"/", RELAY),
        (F + b"x.y", b"/", RELAY),
        (b"localhost", b"/v2/nvcf/pexec/functions/" + F + b"?q", Pexec(FUNCTION, None)),
        (b"api.x", b"/v2/nvcf/pexec/functions/" + F + b"/versions/" + V, Pexec(FUNCTION, VERSION)),
        (b"invocation.x", b"/v2/orgs/o/teams/t/nvcf/pexec/status/" + F, PexecStatus(F)),
        (b"x", b"/v2/nvcf/queues/" + F + b"/position", QueuePosition(F)),
        (b"x", b"/v2/nvcf/queues/functions/position", RELAY),
        (b"x", b"/v2/nvcf/pexec/functions/" + F + b"/versions/", Pexec(FUNCTION, "", valid=False)),
        (b"x", b"/v2/nvcf/pexec/functions/" + F + b"/more", RELAY),
        (b"tasks.x", b"/v2/nvcf/pexec/functions/" + F, RELAY),
        (b"x", b"/health", RELAY),
        (b"invocation.x", b"/health?a", HEALTH),
        (b"Invocation:8080", b"/healthy", NOWHERE),
        (b"invocation.x", b"/v2/nvcf/functions", NOWHERE),
        (b"invocation.x", b"/v2/nvcf/exec/functions/" + F, Pexec(FUNCTION, None, envelope=True)),
        (b"llm.invocation.x", b"/v1/chat/completions", RELAY),
        (b"x.invocation.y", b"/health", RELAY),
    ],
)
def test_first_match_wins(host: bytes, target: bytes, expected: Target) -> None:
    """Host, then path, as section 2.2 orders them."""
    assert where(host, target) == expected


def test_function_id_header() -> None:
    """The header wins over any path of an invocation host, and means nothing at control's hosts."""
    assert where(b"x", b"/health", b"function-id: " + F) == Direct(FUNCTION, None)
    assert where(b"x", b"/", b"function-id: " + F, b"function-version-id: " + V) == Direct(FUNCTION, VERSION)
    assert where(b"x", b"/", b"function-id: nope") == RELAY
    assert where(b"api.x", b"/", b"function-id: " + F) == RELAY
    assert where(b"invocation.x", b"/health", b"function-id: " + F) == Direct(FUNCTION, None)
    assert where(b"invocation.x", b"/", b"function-id: nope") == NOWHERE


@given(st.lists(st.sampled_from(PARTS), max_size=6))
@settings(max_examples=500, deadline=None)
def test_a_host_chooses_direct_mode_only_by_a_leading_uuid(parts: list[bytes]) -> None:
    """Whatever a host is made of: it is refused, or it is direct exactly when its first label is a UUID."""
    host = b"".join(parts)
    try:
        found = where(host)
    except BadMessage:
        return
    first = re.split(rb"[.:]", host.strip(b" "))[0]
    assert isinstance(found, Direct) == (first in (F, V))

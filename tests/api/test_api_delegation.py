"""Delegated tokens as they are asked for (control-plane page, sections 15 and 26)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from api_building import (
    OTHER_ACCOUNT,
    RANDOM_ID,
    Installation,
    an_installation,
    bearer,
    version_path,
)

from gpufn.auth.tokens import INVOCATION_AUDIENCE, INVOKE, verify
from gpufn.model.access import USER_SCOPES, Resource
from gpufn.model.ids import DEFAULT_ACCOUNT

TOKENS = "/v2/nvcf/tokens/functions"
CLIENT = {"clientId": "end-user"}


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


async def test_row_52_a_token_for_one_function_or_version() -> None:
    """200, snake_case, 600 s; the claims are the reference's, and the API key is named."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        whole = await it.client.post(f"{TOKENS}/{fid}", json=CLIENT)
        one = await it.client.post(f"{TOKENS}/{fid}/versions/{vid}", json=CLIENT)
        own = it.context.signer.issuer
        found = verify(one.json()["access_token"], {own.name: own}, now=it.clock().timestamp())

    assert [a.status_code for a in (whole, one)] == [200, 200]
    assert whole.json().keys() == {"access_token", "expires_in"}
    assert whole.json()["expires_in"] == 600
    claims = claims_of(whole.json()["access_token"])
    expected = {"ncaId": DEFAULT_ACCOUNT, "clientId": "end-user", "intendedFunctions": [{"functionId": fid}]}
    assert claims["assertion"] == expected
    assert (claims["iss"], claims["aud"], claims["sub"]) == (own.name, INVOCATION_AUDIENCE, "admin")
    assert (found.client, found.nca_id, found.scopes) == ("end-user", DEFAULT_ACCOUNT, frozenset((INVOKE,)))
    assert (found.intended, found.key_id) == (frozenset(((fid, vid),)), it.key.id)


async def test_row_52_a_token_for_several_functions() -> None:
    """One to four, whether they exist or not; one entry without a version covers every version."""
    async with an_installation() as it:
        wanted = [{"functionId": RANDOM_ID}, {"functionId": RANDOM_ID, "functionVersionId": RANDOM_ID}]
        codes = [
            (await it.client.post(TOKENS, json=CLIENT | {"functions": wanted[:1] * n})).status_code for n in range(6)
        ]
        made = await it.client.post(TOKENS, json=CLIENT | {"functions": wanted})

    assert codes == [400, 200, 200, 200, 200, 400]
    assert claims_of(made.json()["access_token"])["assertion"]["intendedFunctions"] == wanted


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (None, {}, 415),
        ("clientId=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("{", {"Content-Type": "application/json"}, 400),
        ("{}", {"Content-Type": "application/json"}, 400),
        ('{"clientId": " "}', {"Content-Type": "application/json"}, 400),
        ('{"clientId": ""}', {"Content-Type": "application/json"}, 400),
    ],
)
async def test_row_52_bodies(body: str | None, headers: dict[str, str], status: int) -> None:
    """No body or another media type 415, anything but a client 400, in every form."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        paths = (TOKENS, f"{TOKENS}/{fid}", f"{TOKENS}/{fid}/versions/{vid}")
        answers = [await it.client.post(p, content=body, headers=headers) for p in paths]

    assert [a.status_code for a in answers] == [status] * 3


async def everyone(it: Installation, path: str) -> list[int]:
    """What a key without the scope, no key, and a key of another account get."""
    callers = [
        bearer(await it.a_key(scopes=[s for s in USER_SCOPES if s != INVOKE])),
        {"Authorization": ""},
        bearer(await it.a_key(nca_id=OTHER_ACCOUNT)),
    ]
    return [(await it.client.post(path, json=CLIENT, headers=headers)).status_code for headers in callers]


async def test_row_52_who_may_delegate() -> None:
    """Without the scope 403, without a key 401; what the caller may not know is 404, what its key lacks 403."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        limited = bearer(await it.a_key(resources=[Resource("function", f"{RANDOM_ID}/*")]))
        paths = (f"{TOKENS}/{fid}", f"{TOKENS}/{fid}/versions/{vid}")
        found = [await everyone(it, path) for path in paths]
        beyond = [(await it.client.post(path, json=CLIENT, headers=limited)).status_code for path in paths]
        unknown = await it.client.post(f"{TOKENS}/{RANDOM_ID}", json=CLIENT)

    assert found == [[403, 401, 404]] * 2
    assert beyond == [403, 403]
    assert unknown.status_code == 404


async def test_a_delegated_token_does_nothing_but_invoke() -> None:
    """The control plane refuses it everywhere, to make another one too: 403."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        token = (await it.client.post(f"{TOKENS}/{fid}", json=CLIENT)).json()["access_token"]
        calls = [
            ("GET", version_path(fid, vid)),
            ("POST", f"{TOKENS}/{fid}"),
            ("GET", "/v2/nvcf/assets"),
            ("GET", "/x"),
        ]
        codes = [
            (await it.client.request(method, path, json=CLIENT, headers=bearer(token))).status_code
            for method, path in calls
        ]
        it.clock.advance(601)
        late = await it.client.get("/v2/nvcf/assets", headers=bearer(token))

    assert codes == [403] * len(calls)
    assert late.status_code == 401

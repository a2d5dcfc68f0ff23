"""Two accounts and every route: nothing of one account is read or changed by the other. Generated from OpenAPI."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from api_building import OTHER_ACCOUNT, RANDOM_ID, Installation, a_body, a_spec, an_installation, bearer, specs_body

from gpufn.api.app import ROUTES
from gpufn.model.access import USER_SCOPES

MARK = "secret-of-the-owner"
ENDLESS = ("/logs",)
"""Paths whose answers are streams."""
BODIES: dict[str, dict[str, Any]] = {
    "CreateFunctionRequest": a_body(),
    "UpdateFunctionRequest": {"tags": ["taken"]},
    "CreateDeploymentRequest": specs_body(a_spec()),
    "UpdateDeploymentRequest": specs_body(a_spec(minInstances=0)),
    "PatchGpuSpecificationRequest": {"minInstances": 0},
    "SetPartiesRequest": {"authorizedParties": [{"ncaId": OTHER_ACCOUNT}]},
    "ChangePartyRequest": {"authorizedParty": {"ncaId": OTHER_ACCOUNT}},
    "CreateAccountRequest": {"name": "taken"},
    "UpdateAccountRequest": {"name": "taken"},
    "ClientRequest": {"adminClientId": "taken"},
    "CreateKeyRequest": {},
}


def operations() -> list[tuple[str, str]]:
    """Every operation that needs a credential."""
    return [(r.method, r.path.replace(":path", "")) for r in ROUTES if r.scopes is not None]


async def an_owner(it: Installation) -> dict[str, str]:
    """A deployed function and a key of the default account; the values for every path parameter."""
    fid, vid, deployment = await it.a_deployment(name=MARK, description=MARK, tags=[MARK])
    key = (await it.client.post("/v2/gpufn/keys", json={"description": MARK})).json()["key"]
    return {
        "functionId": fid,
        "functionVersionId": vid,
        "deploymentId": deployment["deploymentId"],
        "gpuSpecId": deployment["deploymentSpecifications"][0]["gpuSpecificationId"],
        "keyId": key["id"],
        "ncaId": "nvcf-default",
        "clientId": "ncp",
        "org": "nvcf-default",
        "number": "0",
    }


def body_for(document: dict[str, Any], method: str, path: str) -> Any:
    """A body that the route takes, or the least that its schema asks for."""
    name = schema_of(document, method, path)
    return BODIES.get(name) or (least(document, document["components"]["schemas"][name]) if name else None)


def least(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """The smallest value of a schema that can be made without knowing more."""
    if "$ref" in schema:
        return least(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    if "anyOf" in schema:
        return least(document, schema["anyOf"][0])
    match schema.get("type"):
        case "object":
            return {n: least(document, schema["properties"][n]) for n in schema.get("required", ())}
        case "array":
            return [least(document, schema["items"])] * schema.get("minItems", 0)
        case "string":
            return schema.get("enum", [RANDOM_ID if schema.get("format") == "uuid" else "name"])[0]
        case "integer" | "number":
            return max(schema.get("minimum", 1), 1)
        case _:
            return False


def is_guessed(document: dict[str, Any], method: str, path: str) -> bool:
    """Whether a refusal may be about the request itself: its body is not known here, or it asks for parameters."""
    operation = document["paths"][path][method.lower()]
    asks = any(p["in"] != "path" for p in operation.get("parameters", ()))
    return asks or schema_of(document, method, path) not in ("", *BODIES)


def schema_of(document: dict[str, Any], method: str, path: str) -> str:
    content = document["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
    found = re.search(r"#/components/schemas/(\w+)", json.dumps(content))
    return found[1] if found else ""


async def everything(it: Installation) -> str:
    """What the owner has, as its own key sees it."""
    paths = ("/v2/nvcf/functions", "/v2/nvcf/deployments", "/v2/gpufn/keys", "/v2/nvcf/accounts")
    return "".join([(await it.client.get(path)).text for path in paths])


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_another_account_reads_and_changes_nothing(kind: str) -> None:
    """With every scope of its own account a stranger gets no success about what is not its own, and no word of it."""
    async with an_installation() as it:
        ids = await an_owner(it)
        document = (await it.client.get("/v3/openapi")).json()
        if kind == "key":
            stranger = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        else:
            await it.client.patch(
                f"/v2/nvcf/accounts/{OTHER_ACCOUNT}/clients/associate",
                json={"adminClientId": "bot"},
                headers=bearer(it.a_token()),
            )
            scopes = [s for s in USER_SCOPES if s != "account_setup"]
            stranger = bearer(it.a_token("bot", scopes=scopes))
        before = await everything(it)
        leaks = []
        for method, path in operations():
            if path.endswith(ENDLESS):
                continue
            named = [n for n in ids if f"{{{n}}}" in path]
            url = re.sub(r"{(\w+)}", lambda m: ids.get(m[1], RANDOM_ID), path)
            body = body_for(document, method, path)
            answer = await it.client.request(method, url, json=body, headers=stranger)
            if MARK in answer.text or (named and answer.status_code < 400):
                leaks.append((method, path, answer.status_code))
        after = await everything(it)

    assert leaks == []
    assert after == before


async def test_every_route_needs_one_of_its_scopes() -> None:
    """A key and a token without scopes get 403 from every route that asks for one, 401 without a credential."""
    async with an_installation() as it:
        ids = await an_owner(it)
        document = (await it.client.get("/v3/openapi")).json()
        powerless = [bearer(await it.a_key(scopes=[])), bearer(it.a_token(scopes=[]))]
        wrong = []
        for route in ROUTES:
            if not route.scopes:
                continue
            url = re.sub(r"{(\w+)}", lambda m: ids.get(m[1], RANDOM_ID), route.path)
            body = body_for(document, route.method, route.path.replace(":path", ""))
            for headers, expected in [*((who, 403) for who in powerless), ({"Authorization": ""}, 401)]:
                status = (await it.client.request(route.method, url, json=body, headers=headers)).status_code
                guessed = is_guessed(document, route.method, route.path.replace(":path", ""))
                if status != expected and not (guessed and status == 400):
                    wrong.append((route.method, route.path, status, expected))

    assert wrong == []


async def test_no_key_does_admin_work() -> None:
    """Section 4.2: a key never satisfies an admin scope, even with its name among its scopes: 403 on every twin."""
    async with an_installation() as it:
        ids = await an_owner(it)
        document = (await it.client.get("/v3/openapi")).json()
        twins = [r for r in ROUTES if r.across]
        allowed = []
        for route in twins:
            pretender = bearer(await it.a_key(scopes=[*USER_SCOPES]))
            url = re.sub(r"{(\w+)}", lambda m: ids.get(m[1], RANDOM_ID), route.path)
            body = body_for(document, route.method, route.path)
            status = (await it.client.request(route.method, url, json=body, headers=pretender)).status_code
            if status not in (400, 403):
                allowed.append((route.method, route.path, status))

    assert len(twins) > 25
    assert allowed == []

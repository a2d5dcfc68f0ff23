"""What holds for every route: who may pass, how refusals look, what a body may be, CORS, the NGC prefix."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from api_building import (
    NOW,
    OTHER_ACCOUNT,
    RANDOM_ID,
    Installation,
    a_body,
    an_installation,
    bearer,
    version_path,
)
from hypothesis import HealthCheck, given, settings, strategies as st

from gpufn.api.app import ROUTES, build
from gpufn.api.body import MAX_BODY

FUNCTIONS = "/v2/nvcf/functions"
JSON = {"Content-Type": "application/json"}


async def send(it: Installation, body: bytes, content_type: str = "application/json") -> httpx.Response:
    return await it.client.post(FUNCTIONS, content=body, headers={"Content-Type": content_type})


async def test_authentication_comes_before_routing() -> None:
    """An unknown path is 401 without a key and 404 with one; the 404 says what to look at."""
    async with an_installation() as it:
        known = await it.client.get("/v2/nvcf/nothing")
        del it.client.headers["Authorization"]
        unknown = await it.client.get("/v2/nvcf/nothing")

    assert (unknown.status_code, known.status_code) == (401, 404)
    assert "this release does not serve" in known.json()["detail"]


async def test_a_problem_has_all_members() -> None:
    """Refusals are RFC 7807 with the path that was sent (golden body)."""
    async with an_installation() as it:
        path = f"/v2/orgs/nvcf-default/teams/a/nvcf/functions/{RANDOM_ID}/versions"
        answer = await it.client.get(path)

    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:nv-boot:problem-details:not-found",
        "title": "Not Found",
        "status": 404,
        "detail": f"Function '{RANDOM_ID}': Not found for account 'nvcf-default'",
        "instance": path,
    }


async def test_methods_and_slashes() -> None:
    """A wrong method is 405 naming the right ones; a trailing slash is another path."""
    async with an_installation() as it:
        method = await it.client.patch(FUNCTIONS, json={})
        slash = await it.client.get(FUNCTIONS + "/")
        empty = await it.client.get("/v2/nvcf/queues/functions//versions/x")

    assert (method.status_code, method.headers["Allow"]) == (405, "GET, POST")
    assert (slash.status_code, empty.status_code) == (404, 404)


@pytest.mark.parametrize("how", ["unknown", "mistyped", "revoked", "expired"])
async def test_keys_that_are_not_valid(how: str) -> None:
    """A key that is not valid is refused with 403, as the reference passes its key service's refusal on."""
    async with an_installation() as it:
        value = await it.a_key(expires_at=NOW)
        if how == "mistyped":
            value = value[:-1] + ("A" if value[-1] != "A" else "B")
        elif how == "unknown":
            async with an_installation() as elsewhere:
                value = await elsewhere.a_key()
        elif how == "revoked":
            made = (await it.client.post("/v2/gpufn/keys")).json()["key"]
            await it.client.delete(f"/v2/gpufn/keys/{made['id']}")
            value = made["value"]
        answer = await it.client.get(FUNCTIONS, headers=bearer(value))

    assert answer.status_code == 403
    assert "revoked or expired" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "JSON"),
        (b"", "required"),
        (b'{"name":"a"} trailing', "JSON"),
        (b'{"name":"a","name":"b"}', "twice"),
        (b"[" * 100_000, "deep"),
        (b"[" * 70 + b"]" * 70, "deep"),
        (b'{"name":NaN}', "NaN"),
        (b'{"name":1e999}', "range"),
        (b'{"name":' + b"9" * 5000 + b"}", "digits"),
        (b'{"name":"\\ud800"}', "surrogate"),
        (b'{"name":"a\\u0000"}', "NUL"),
        (b'{"name":"\xff"}', "UTF-8"),
        (b'"text"', "body"),
        (b"[]", "body"),
        (b"null", "body"),
    ],
)
async def test_bodies_that_are_not_a_json_object(body: bytes, word: str) -> None:
    """Each is 400 with a detail that says what is wrong."""
    async with an_installation() as it:
        answer = await send(it, body)

    assert answer.status_code == 400, answer.text
    assert word in answer.json()["detail"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_content_types(content_type: str) -> None:
    """Only application/json is read, whatever its parameters."""
    async with an_installation() as it:
        refused = await send(it, b"{}", content_type)
        taken = await send(it, json.dumps(a_body()).encode(), "Application/JSON; charset=utf-8")

    assert (refused.status_code, taken.status_code) == (415, 200)
    assert "application/json" in refused.json()["detail"]


async def test_a_body_that_is_too_long() -> None:
    """More than 6 MiB is 413."""
    async with an_installation() as it:
        answer = await send(it, b" " * (MAX_BODY + 1))

    assert answer.status_code == 413


async def test_a_rejected_value_is_shown_short() -> None:
    """A long value is cut, with its length; many violations are counted."""
    async with an_installation() as it:
        long = await it.client.post(FUNCTIONS, json=a_body(name="a" * 1000))
        many = await it.client.post(FUNCTIONS, json=a_body(tags=["?"] * 50))

    assert "(1000 characters)" in long.json()["detail"]
    assert len(long.json()["detail"]) < 600
    assert "and 30 more" in many.json()["detail"]


async def test_a_bug_is_answered_with_an_id_only() -> None:
    """A 500 shows no traceback, but an id under which the log has it."""
    async with an_installation() as it:

        async def backends() -> Any:
            raise RuntimeError("secret detail")

        app = build(replace(it.context, backends=backends))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://api.test", headers=it.client.headers
        ) as client:
            answer = await client.get("/v2/gpufn/status")

    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("internal error ")
    assert "secret" not in answer.text


async def test_row_57_gpus_and_groups_need_their_scope() -> None:
    """A key of an ordinary user is refused; one that carries the scope may read (there are no client tokens here)."""
    async with an_installation() as it:
        user = bearer(await it.a_key(scopes=["invoke_function", "list_functions", "queue_details"]))
        paths = ("/v2/nvcf/supportedGpus", "/v2/nvcf/clusterGroups")
        denied = [(await it.client.get(path, headers=user)).status_code for path in paths]
        gpus, groups = [(await it.client.get(path)).json() for path in paths]

    assert denied == [403, 403]
    assert gpus == [{"gpu": "H100", "backend": "local"}, {"gpu": "T10", "backend": "local"}]
    group = groups["clusterGroups"][0]
    assert (group["name"], group["clusters"]) == ("local", [{"id": "c-1", "name": "local"}])
    assert group["gpus"][1]["instanceTypes"][0]["name"] == "ON-PREM.GPU.T10_1x"


async def test_row_60_health_and_documents_need_no_key() -> None:
    """Health, the OpenAPI document and the docs page are open."""
    async with an_installation() as it:
        del it.client.headers["Authorization"]
        answers = [await it.client.get(path) for path in ("/health", "/v3/openapi", "/openapi.json", "/docs")]

    assert [a.status_code for a in answers] == [200] * 4
    assert answers[0].json() == {"status": "UP"}


async def test_row_97_info() -> None:
    """Service and version without a key, by GET only."""
    async with an_installation() as it:
        del it.client.headers["Authorization"]
        found, refused = await it.client.get("/info"), await it.client.post("/info")

    assert (found.status_code, sorted(found.json())) == (200, ["commit", "service", "version"])
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


async def test_row_60_cors() -> None:
    """A preflight needs no key; every answer, refusals too, echoes the origin."""
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with an_installation() as it:
        del it.client.headers["Authorization"]
        preflight = await it.client.options(FUNCTIONS, headers=asked)
        refused = await it.client.get(FUNCTIONS, headers={"Origin": "https://app.example"})
        plain = await it.client.get("/health")

    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST"
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization"
    assert preflight.headers["Access-Control-Max-Age"] == "86400"
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "https://app.example")
    assert refused.headers["Vary"].startswith("Origin")
    assert "Access-Control-Allow-Origin" not in plain.headers


async def test_the_prefix_of_ngc_clients() -> None:
    """Every /v2/nvcf path is also served below the org of the key, with and without a team."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        tail = version_path(fid, vid).removeprefix("/v2/nvcf")
        answers = [
            await it.client.get(f"/v2/orgs/nvcf-default/nvcf{tail}"),
            await it.client.get(f"/v2/orgs/nvcf-default/teams/no-team/nvcf{tail}"),
            await it.client.get(f"/v2/orgs/other-account/nvcf{tail}"),
            await it.client.get(f"/v2/orgs/other-account/nvcf{tail}", headers=foreign),
        ]

    assert [a.status_code for a in answers] == [200, 200, 403, 404]
    assert "nvcf-default" in answers[2].json()["detail"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = [
    *("name", "inferenceUrl", "inferencePort", "health", "healthUri", "containerImage", "containerArgs"),
    *("containerEnvironment", "models", "resources", "helmChart", "helmChartServiceName", "apiBodyFormat"),
    *("functionType", "description", "tags", "secrets", "rateLimit", "telemetries", "llmInvocationConfig"),
    *("deploymentSpecifications", "minInstances", "maxInstances", "autoscalingConfiguration", "scopes"),
    *("expiresAt", "ttl", "modelUpdates", "autoscalingConfigurationPolicy"),
]
BODIES = st.dictionaries(st.sampled_from(MEMBERS), JUNK, max_size=8) | JUNK
SPEC_MEMBERS = [
    *("gpu", "instanceType", "minInstances", "maxInstances", "backend", "clusters", "configuration"),
    "autoscalingConfiguration",
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    documents=st.lists(
        BODIES
        | BODIES.map(lambda junk: a_body(**junk) if isinstance(junk, dict) else junk)
        | st.dictionaries(st.sampled_from(SPEC_MEMBERS), JUNK).map(lambda spec: {"deploymentSpecifications": [spec]}),
        min_size=1,
        max_size=3,
    ),
    raw=st.binary(max_size=60),
)
async def test_junk_is_never_a_server_error(documents: list[object], raw: bytes) -> None:
    """Whatever is sent to whatever takes a body, the answer is a success or a refusal in JSON."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        ids = {
            "{functionId}": fid,
            "{functionVersionId}": vid,
            "{deploymentId}": deployment["deploymentId"],
            "{gpuSpecId}": deployment["deploymentSpecifications"][0]["gpuSpecificationId"],
        }
        for route in ROUTES:
            if route.method not in ("POST", "PUT", "PATCH") or route.across:  # the twin has the same body
                continue
            path = route.path
            for name, value in ids.items():
                path = path.replace(name, value)
            bodies = [json.dumps(document, allow_nan=True).encode() for document in documents] + [raw]
            for body in bodies:
                answer = await it.client.request(route.method, path, content=body, headers=JSON)
                assert answer.status_code < 500, (path, body, answer.text)
                assert answer.json() is not None

"""Functions and versions: the conformance rows of the control-plane page, section 26, by their numbers."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import (
    RANDOM_ID,
    a_body,
    an_installation,
    bearer,
    version_path,
)

from gpufn.model.access import Resource
from gpufn.model.ids import is_uuid

FUNCTIONS = "/v2/nvcf/functions"
HEALTH: dict[str, Any] = {
    "protocol": "gRPC",
    "uri": "/health",
    "port": 8080,
    "timeout": "PT1S",
    "expectedStatusCode": 0,
}
MODEL_URI = "https://api.ngc.nvidia.com/v2/org/acme/models/m/1/files"
RESOURCE_URI = "https://api.ngc.nvidia.com/v2/org/acme/team/t/resources/r/1/files"
MODEL = {"name": "m", "version": "1", "uri": MODEL_URI}
HELM = {"containerImage": None, "helmChart": "oci://registry.example.com/acme/rag:1", "helmChartServiceName": "entry"}


async def test_row_1_a_minimal_container_function() -> None:
    """Creating answers 200 with ids, INACTIVE, the caller's account and type DEFAULT (golden body)."""
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=a_body())

    assert answer.status_code == 200
    function = answer.json()["function"]
    assert is_uuid(function.pop("id"))
    assert is_uuid(function.pop("versionId"))
    assert function == {
        "ncaId": "nvcf-default",
        "name": "echo",
        "status": "INACTIVE",
        "inferenceUrl": "/echo",
        "containerImage": "nvcr.io/acme/echo:1",
        "apiBodyFormat": "CUSTOM",
        "functionType": "DEFAULT",
        "description": "echo",
        "health": {
            "protocol": "HTTP",
            "uri": "/v2/health/ready",
            "port": 8000,
            "timeout": "PT10S",
            "expectedStatusCode": 200,
        },
        "healthUri": "/v2/health/ready",
        "createdAt": "2026-11-24T12:00:00.123Z",
    }


async def test_a_full_function_comes_back_as_it_was_given() -> None:
    """Every member that is kept is in the answer, in the list and after a get (golden body)."""
    body = a_body(
        inferencePort=8001,
        containerArgs="--fast",
        containerEnvironment=[{"key": "A", "value": "1"}, {"key": "A", "value": ""}],
        models=[MODEL],
        resources=[{"name": "r", "version": "1", "uri": RESOURCE_URI}],
        apiBodyFormat="PREDICT_V2",
        description="what it does",
        tags=["team:ml"],
        rateLimit={"rateLimit": "10-S", "syncCheck": False, "perNcaIdRate": {"x": "3-M"}},
        health=HEALTH,
    )
    async with an_installation() as it:
        made = (await it.client.post(FUNCTIONS, json=body)).json()["function"]
        listed = (await it.client.get(FUNCTIONS)).json()["functions"]
        got = (await it.client.get(version_path(made["id"], made["versionId"]))).json()["function"]

    assert {name: made[name] for name in body} == body
    assert listed == [made]
    assert got == made | {"activeInstances": []}


@pytest.mark.parametrize("header", [None, "Bearer invalid-token", "Basic abc", "Bearer", "Bearer eyJhbGciOi.e30.x"])
async def test_row_2_without_a_valid_token(header: str | None) -> None:
    """No token, or one that is no key, is 401 with a challenge."""
    async with an_installation() as it:
        del it.client.headers["Authorization"]
        answer = await it.client.post(FUNCTIONS, json=a_body(), headers={"Authorization": header} if header else {})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["detail"]


async def test_row_3_without_the_scope() -> None:
    """A key without scopes gets 403; a body that breaks a rule is refused before that."""
    async with an_installation() as it:
        no_scope = bearer(await it.a_key(scopes=()))
        denied = await it.client.post(FUNCTIONS, json=a_body(), headers=no_scope)
        invalid = await it.client.post(FUNCTIONS, json=a_body(name=""), headers=no_scope)

    assert denied.status_code == 403
    assert denied.json()["type"].endswith("forbidden")
    assert "register_function" in denied.json()["detail"]
    assert invalid.status_code == 400, "the body is checked before the scope"


async def test_row_4_a_key_limited_to_one_function() -> None:
    """A new function needs a key that reaches the whole account."""
    async with an_installation() as it:
        limited = await it.a_key(resources=[Resource("function", f"{RANDOM_ID}/*")])
        whole = await it.a_key(resources=[Resource("account-functions", "*")])
        statuses = [
            (await it.client.post(FUNCTIONS, json=a_body(), headers=bearer(key))).status_code
            for key in (limited, whole)
        ]

    assert statuses == [403, 200]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"name": ""}, id="row 5: empty name"),
        pytest.param({"name": "a" * 129}, id="row 5: long name"),
        pytest.param({"name": "-a"}, id="row 5: name begins with a dash"),
        pytest.param({"name": "a\n"}, id="row 5: name ends in a line feed"),
        pytest.param({"description": "d" * 257}, id="row 5: long description"),
        pytest.param({"tags": [f"t{n}" for n in range(65)]}, id="row 6: 65 tags"),
        pytest.param({"tags": ["a" * 129]}, id="row 6: long tag"),
        pytest.param({"tags": ["\n&abc123["]}, id="row 6: odd tag"),
        pytest.param({"tags": [""]}, id="row 6: empty tag"),
        pytest.param({"health": HEALTH | {"uri": ""}}, id="row 7: empty health uri"),
        pytest.param({"health": HEALTH | {"uri": "/a b"}}, id="row 7: space in health uri"),
        pytest.param({"health": {"uri": "/a"}}, id="row 7: incomplete health"),
        pytest.param({"health": HEALTH | {"timeout": 10}}, id="duration as a number"),
        pytest.param({"inferenceUrl": "/a b"}, id="space in inferenceUrl"),
        pytest.param({"inferencePort": 65536}, id="port out of range"),
        pytest.param({"inferencePort": True}, id="port true"),
        pytest.param({"functionType": "OTHER"}, id="unknown enum value"),
        pytest.param({"models": [{"version": "1", "uri": MODEL_URI}]}, id="row 10: model without name"),
        pytest.param({"models": [{"name": "m"}]}, id="row 10: model without version"),
        pytest.param({"models": [MODEL, MODEL]}, id="row 10: model twice"),
        pytest.param({"resources": [{"version": "1", "uri": RESOURCE_URI}]}, id="row 10: resource without name"),
        pytest.param({"telemetries": {}}, id="row 17: empty telemetries"),
        pytest.param({"llmInvocationConfig": {"priority": {"defaultPriority": 1}}}, id="row 49: llm on DEFAULT"),
    ],
)
async def test_rows_5_to_10_bodies_that_break_a_rule(changes: dict[str, Any]) -> None:
    """Each is 400, with a detail that names the member."""
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=a_body(**changes))
        left = (await it.client.get(FUNCTIONS)).json()

    assert answer.status_code == 400
    assert next(iter(changes)) in answer.json()["detail"]
    assert left == {"functions": []}


@pytest.mark.parametrize(
    "uri",
    [
        "https://api.ngc.nvidia.com/v2/org/acme/models/m/versions/1/files",
        "https://api.ngc.nvidia.com/v2/org/acme/models/m/1/zip",
        "api.ngc.nvidia.com/v2/org/acme/models/m/1/files",
        "https://example.com/v2/org/acme/models/m/1/files",
        RESOURCE_URI,
    ],
)
async def test_row_10_model_uris_of_other_forms(uri: str) -> None:
    """Only the one NGC form is taken."""
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=a_body(models=[MODEL | {"uri": uri}]))

    assert answer.status_code == 400
    assert uri in answer.json()["detail"]


async def test_row_6_a_tag_with_a_namespace() -> None:
    """``namespace:key=value`` is a tag."""
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=a_body(tags=["namespace:key=value"]))

    assert answer.json()["function"]["tags"] == ["namespace:key=value"]


async def test_rows_7_to_9_health() -> None:
    """Health is echoed with its duration as text; /grpc and healthUri shape the default."""
    async with an_installation() as it:
        given = (await it.client.post(FUNCTIONS, json=a_body(health=HEALTH))).json()["function"]
        grpc = (await it.client.post(FUNCTIONS, json=a_body(inferenceUrl="/grpc", inferencePort=9))).json()["function"]
        uri = (await it.client.post(FUNCTIONS, json=a_body(healthUri="/up"))).json()["function"]

    assert (given["health"], given["healthUri"]) == (HEALTH, "/health")
    assert (grpc["health"]["protocol"], grpc["health"]["port"]) == ("gRPC", 9)
    assert uri["health"]["uri"] == uri["healthUri"] == "/up"


async def test_row_11_models_only() -> None:
    """A function may have models and no image; nothing invents one."""
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=a_body(containerImage=None, models=[MODEL]))

    assert answer.status_code == 200
    assert "containerImage" not in answer.json()["function"]


@pytest.mark.parametrize(
    "changes",
    [
        HELM | {"containerImage": "a/b:1"},
        HELM | {"containerArgs": "-v"},
        HELM | {"containerEnvironment": []},
    ],
)
async def test_row_12_a_chart_and_a_container(changes: dict[str, Any]) -> None:
    """A Helm function has nothing of a container."""
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=a_body(**changes))

    assert answer.status_code == 400
    assert answer.json()["type"].endswith("bad-request")


async def test_row_13_exact_texts() -> None:
    """The two details that reference tests compare letter by letter."""
    async with an_installation() as it:
        lone = await it.client.post(FUNCTIONS, json=a_body(**HELM | {"helmChartServiceName": None}))
        nothing = await it.client.post(FUNCTIONS, json=a_body(containerImage=None))
        chart = await it.client.post(FUNCTIONS, json=a_body(**HELM))

    assert lone.json()["detail"] == (
        "Invalid request: Either both or none of 'helmChart' and 'helmChartServiceName' properties must be specified"
    )
    assert nothing.json()["detail"].startswith("Invalid request: One of the ")
    assert nothing.json()["detail"].endswith(" must be specified in the payload")
    assert chart.json()["function"]["helmChartServiceName"] == "entry"


async def test_row_14_function_type() -> None:
    """STREAMING is echoed, also when written in another case."""
    async with an_installation() as it:
        answers = [await it.client.post(FUNCTIONS, json=a_body(functionType=t)) for t in ("STREAMING", "streaming")]

    assert [a.json()["function"]["functionType"] for a in answers] == ["STREAMING", "STREAMING"]


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ({"rateLimit": ""}, 400),
        ({"rateLimit": "1S"}, 400),
        ({"rateLimit": "0-S"}, 400),
        ({"rateLimit": "4-S, 5-S"}, 400),
        ({"rateLimit": "4-S, 5-H, 6-S"}, 400),
        ({}, 400),
        ({"rateLimit": "1-S", "exemptedNcaIds": [str(n) for n in range(33)]}, 400),
        ({"exemptedNcaIds": ["x"]}, 400),
        ({"rateLimit": "1-S", "exemptedNcaIds": ["x"], "perNcaIdRate": {"x": "1-S"}}, 400),
        ({"rateLimit": "4-S, 5-H"}, 200),
        ({"rateLimit": "4-S,5-H"}, 200),
        ({"rateLimit": "10-S, 100-M, 500-H, 1000-D"}, 200),
        ({"perUserRate": "2-S"}, 200),
    ],
)
async def test_row_16_rate_limits(limit: dict[str, Any], status: int) -> None:
    """Rate limits are checked, kept and returned."""
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=a_body(rateLimit=limit))

    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.json()["function"]["rateLimit"] == limit


async def test_row_19_the_account_limit() -> None:
    """The limit counts versions and refuses functions only."""
    async with an_installation(max_functions=1) as it:
        fid, _ = await it.a_function()
        second = await it.client.post(FUNCTIONS, json=a_body())
        version = await it.client.post(f"{FUNCTIONS}/{fid}/versions", json=a_body())

    assert second.status_code == 400
    assert second.json()["detail"] == "Reached or exceeded the max limit for the number of functions allowed: 1"
    assert version.status_code == 200

"""Versions, lists and LLM functions: rows of the control-plane page, section 26, by their numbers."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import (
    OTHER_ACCOUNT,
    RANDOM_ID,
    a_body,
    a_spec,
    an_installation,
    bearer,
    deployment_path,
    specs_body,
    version_path,
)

from gpufn.model.access import USER_SCOPES, Resource
from gpufn.model.ids import AccountId
from gpufn.model.instance import InstanceStatus

FUNCTIONS = "/v2/nvcf/functions"
LLM_MODEL: dict[str, Any] = {"name": "m", "llmConfig": {"uris": ["/v1/chat/completions"]}}


def llm_body(**changes: Any) -> dict[str, Any]:
    return a_body(**{"functionType": "LLM", "models": [LLM_MODEL]} | changes)


def llm_model(**config: Any) -> list[dict[str, Any]]:
    return [{"name": "m", "llmConfig": {"uris": ["/v1/chat/completions"]} | config}]


async def test_row_20_a_further_version() -> None:
    """A version shares the function's id; unknown functions and those of others are 404."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        made = await it.client.post(f"{FUNCTIONS}/{fid}/versions", json=a_body(name="other-name"))
        unknown = await it.client.post(f"{FUNCTIONS}/{RANDOM_ID}/versions", json=a_body())
        others = await it.client.post(f"{FUNCTIONS}/{fid}/versions", json=a_body(), headers=foreign)
        single = bearer(await it.a_key(resources=[Resource("function", f"{fid}/{vid}")]))
        out_of_reach = await it.client.post(f"{FUNCTIONS}/{fid}/versions", json=a_body(), headers=single)

    assert made.json()["function"]["id"] == fid
    assert made.json()["function"]["versionId"] != vid
    assert [unknown.status_code, others.status_code, out_of_reach.status_code] == [404, 404, 403]


async def test_row_21_lists_hold_what_the_key_reaches() -> None:
    """Lists are filtered by the key's resources without a word; another account sees nothing."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        await it.a_function()
        keys = [
            await it.a_key(resources=()),
            await it.a_key(resources=[Resource("function", f"{fid}/{vid}")]),
            await it.a_key(resources=[Resource("function", "*")]),
            await it.a_key(nca_id=OTHER_ACCOUNT),
            await it.a_key(scopes=["list_functions_details"]),
        ]
        found = [(await it.client.get(FUNCTIONS, headers=bearer(key))).json()["functions"] for key in keys]

    assert [len(functions) for functions in found] == [0, 1, 0, 0, 2]
    assert found[1][0]["versionId"] == vid


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 1),
        ("visibility=private", 1),
        ("visibility=PRIVATE", 1),
        ("visibility=authorized", 0),
        ("visibility=public", 0),
        ("visibility=private,public", 1),
        ("visibility=public&visibility=private", 1),
        ("visibility=", 1),
        ("limit=1&offset=7", 1),
    ],
)
async def test_row_22_visibility(query: str, count: int) -> None:
    """The filter takes comma-separated and repeated values; only own functions exist in this release."""
    async with an_installation() as it:
        await it.a_function()
        functions = (await it.client.get(f"{FUNCTIONS}?{query}")).json()["functions"]
        ids = (await it.client.get(f"{FUNCTIONS}/ids?{query}")).json()["functionIds"]

    assert (len(functions), len(ids)) == (count, count)


async def test_row_22_an_unknown_visibility() -> None:
    """It is refused by name."""
    async with an_installation() as it:
        answer = await it.client.get(f"{FUNCTIONS}?visibility=bogus")

    assert answer.status_code == 400
    assert "bogus" in answer.json()["detail"]


async def test_row_24_ids_and_unknown_functions() -> None:
    """Ids are distinct; the versions of an unknown function are 404; not a UUID is 400."""
    async with an_installation() as it:
        fid, _ = await it.a_function()
        await it.client.post(f"{FUNCTIONS}/{fid}/versions", json=a_body())
        ids = (await it.client.get(f"{FUNCTIONS}/ids")).json()
        versions = (await it.client.get(f"{FUNCTIONS}/{fid}/versions")).json()["functions"]
        unknown = await it.client.get(f"{FUNCTIONS}/{RANDOM_ID}/versions")
        malformed = await it.client.get(f"{FUNCTIONS}/null/versions")
        hidden = bearer(await it.a_key(resources=()))
        filtered = await it.client.get(f"{FUNCTIONS}/{fid}/versions", headers=hidden)

    assert ids == {"functionIds": [fid]}
    assert len(versions) == 2
    assert [unknown.status_code, malformed.status_code, filtered.status_code] == [404, 400, 403]


async def test_row_25_details_by_scope() -> None:
    """Instances are shown to those who may see details, and only those that live."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        running = await it.an_instance(deployment["deploymentId"])
        await it.an_instance(deployment["deploymentId"], status=InstanceStatus.TERMINATED)
        plain = bearer(await it.a_key(scopes=["list_functions"]))
        path = version_path(fid, vid)
        detailed = (await it.client.get(path + "?includeSecrets=false")).json()["function"]
        simple = (await it.client.get(path, headers=plain)).json()["function"]

    assert [i["instanceId"] for i in detailed["activeInstances"]] == [running.id]
    assert detailed["activeInstances"][0]["instanceStatus"] == "RUNNING"
    assert detailed["activeInstances"][0]["sisRequestId"] == detailed["activeInstances"][0]["icmsRequestId"]
    assert "activeInstances" not in simple


async def test_row_26_a_version_that_is_not_there() -> None:
    """Ids that do not belong together and other accounts are 404; out of the key's reach is 403."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        other_fid, _ = await it.a_function()
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        limited = bearer(await it.a_key(resources=[Resource("function", f"{other_fid}/*")]))
        statuses = [
            (await it.client.get(version_path(other_fid, vid))).status_code,
            (await it.client.get(version_path(fid, vid), headers=foreign)).status_code,
            (await it.client.get(version_path(fid, vid), headers=limited)).status_code,
            (await it.client.get(version_path(fid.upper(), vid.upper()))).status_code,
        ]

    assert statuses == [404, 404, 403, 200]


async def test_row_27_updating() -> None:
    """Tags and limits are replaced; nothing, bad tags, and versions of others are refused; the alias does the same."""
    async with an_installation() as it:
        fid, vid = await it.a_function(tags=["old"])
        path, alias = version_path(fid, vid), f"/v2/nvcf/metadata/functions/{fid}/versions/{vid}"
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        tagged = await it.client.put(path, json={"tags": ["a", "b", "a"], "description": "ignored"})
        limited = await it.client.put(alias, json={"rateLimit": {"rateLimit": "1-S"}})
        unlimited = await it.client.put(path, json={"rateLimit": None})
        refused = [
            (await it.client.put(path, json=body)).status_code
            for body in ({}, {"tags": ["?"]}, {"description": "d"}, {"modelUpdates": [{"modelName": "m"}]})
        ]
        others = await it.client.put(path, json={"tags": []}, headers=foreign)
        kept = (await it.client.get(path)).json()["function"]

    assert tagged.json()["function"]["tags"] == ["a", "b"]
    assert limited.json()["function"]["rateLimit"] == {"rateLimit": "1-S"}
    assert "rateLimit" not in unlimited.json()["function"]
    assert refused == [400, 400, 400, 400]
    assert others.status_code == 404
    assert kept["tags"] == ["a", "b"]


async def test_row_28_deleting() -> None:
    """204 in every status, then 404; a deployed version goes with its deployment; both are hinted."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        limited = bearer(await it.a_key(resources=[Resource("function", f"{RANDOM_ID}/*")]))
        denied = await it.client.delete(version_path(fid, vid), headers=limited)
        it.hints.clear()
        gone = await it.client.delete(version_path(fid, vid))
        again = await it.client.delete(version_path(fid, vid))
        by_id = await it.client.get(f"/v2/nvcf/deployments/{deployment['deploymentId']}")

    assert [denied.status_code, gone.status_code, again.status_code, by_id.status_code] == [403, 204, 404, 404]
    assert gone.content == b""
    assert set(it.hints) == {("version", vid), ("deployment", deployment["deploymentId"])}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"models": llm_model(routingMethod="not-a-method")}, "llmConfig.routingMethod"),
        ({"models": llm_model(tokenRateLimit="20-X")}, "llmConfig.tokenRateLimit"),
        ({"models": llm_model(uris=[])}, "llmConfig.uris"),
        ({"models": [{"name": "m"}]}, "llmConfig"),
        ({"models": []}, "models"),
        ({"llmInvocationConfig": {"priority": {"perAccountPriority": {"a": 1}}}}, "defaultPriority"),
        ({"llmInvocationConfig": {"priority": {"defaultPriority": 4294967296}}}, "defaultPriority"),
    ],
)
async def test_row_49_llm_bodies_that_break_a_rule(changes: dict[str, Any], word: str) -> None:
    """Each is 400 with the text that reference tests look for."""
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=llm_body(**changes))

    assert answer.status_code == 400
    assert word in answer.text


async def test_row_49_versions_of_an_llm_function() -> None:
    """Type, uris and tokenizer stay; the priority is inherited, and changes for all versions at once."""
    priority = {"priority": {"defaultPriority": 5, "perAccountPriority": {"vip": 0}}}
    async with an_installation() as it:
        made = await it.client.post(
            FUNCTIONS,
            json=llm_body(
                models=llm_model(routingMethod="power_of_two", tokenRateLimit="9-W"), llmInvocationConfig=priority
            ),
        )
        function = made.json()["function"]
        path = f"{FUNCTIONS}/{function['id']}/versions"
        other_type = await it.client.post(path, json=a_body())
        uris = await it.client.post(path, json=llm_body(models=llm_model(uris=["/x"])))
        tokenizer = await it.client.post(path, json=llm_body(models=llm_model(tokenizer="t")))
        second = (await it.client.post(path, json=llm_body())).json()["function"]
        changed = {"priority": {"defaultPriority": 1}}
        await it.client.put(version_path(second["id"], second["versionId"]), json={"llmInvocationConfig": changed})
        listed = (await it.client.get(path)).json()["functions"]

    assert function["models"][0]["llmConfig"]["routingMethod"] == "power_of_two"
    assert "functionType" in other_type.json()["detail"]
    assert "llmConfig.uris" in uris.json()["detail"]
    assert "llmConfig.tokenizer" in tokenizer.json()["detail"]
    assert second["llmInvocationConfig"] == priority
    assert [f["llmInvocationConfig"] for f in listed] == [changed, changed]


async def test_what_clients_send_for_nothing_is_absent() -> None:
    """Empty texts, zero and null stand for what is not given (control-plane page, section 24)."""
    nothing = {
        "description": "",
        "containerArgs": "",
        "helmChart": "",
        "helmChartServiceName": "",
        "healthUri": "",
        "inferencePort": 0,
        "secrets": [],
        "unknown": {"x": 1},
    }
    async with an_installation() as it:
        answer = await it.client.post(FUNCTIONS, json=a_body() | nothing | {"tags": None, "models": None})

    function = answer.json()["function"]
    assert function["description"] == "echo"
    assert not {"containerArgs", "helmChart", "helmChartServiceName", "inferencePort", "tags"} & function.keys()


async def test_what_belongs_to_others_does_not_exist() -> None:
    """Lists of another account are empty, and a 404 names the account that was searched."""
    async with an_installation() as it:
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT, scopes=USER_SCOPES))
        listed = await it.client.get(FUNCTIONS, headers=foreign)
        deployed = await it.client.post(deployment_path(RANDOM_ID, RANDOM_ID), json=specs_body(a_spec()))

    assert listed.json() == {"functions": []}
    assert deployed.status_code == 404
    assert AccountId("nvcf-default") in deployed.json()["detail"]

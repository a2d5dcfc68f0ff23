"""Updates of LLM functions, and the deprecated rate limit calls (control-plane page, sections 6.8, 11 and 12)."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import OTHER_ACCOUNT, RANDOM_ID, Installation, a_body, an_installation, bearer, version_path


async def an_llm(here: Installation, *names: str, **config: Any) -> tuple[str, str]:
    """An LLM function with models of those names."""
    llm = {"uris": ["/v1/chat/completions"]} | config
    models = [{"name": name, "llmConfig": llm} for name in names or ("m",)]
    return await here.a_function(functionType="LLM", models=models)


def update(name: str = "m", **config: Any) -> dict[str, Any]:
    return {"modelUpdates": [{"modelName": name, "llmConfig": config}]}


async def llm_of(here: Installation, fid: str, vid: str, name: str = "m") -> dict[str, Any]:
    """The llmConfig of a model as it is shown."""
    function = (await here.client.get(version_path(fid, vid))).json()["function"]
    found: dict[str, Any] = next(m["llmConfig"] for m in function["models"] if m["name"] == name)
    return found


async def test_limits_and_routing_of_a_model_can_change() -> None:
    """What is named changes, the rest of the model and other models stay; also by the metadata path."""
    async with an_installation() as here:
        fid, vid = await an_llm(here, "m", "n", tokenRateLimit="1-S", tokenizer="t")

        first = await here.client.put(version_path(fid, vid), json=update(tokenRateLimit="1000-S"))
        second = await here.client.put(
            version_path(fid, vid).replace("nvcf/", "nvcf/metadata/"), json=update(routingMethod="round_robin")
        )

        base = {"uris": ["/v1/chat/completions"], "tokenizer": "t"}
        assert (first.status_code, second.status_code) == (200, 200)
        assert await llm_of(here, fid, vid) == base | {"tokenRateLimit": "1000-S", "routingMethod": "round_robin"}
        assert await llm_of(here, fid, vid, "n") == base | {"tokenRateLimit": "1-S"}


async def test_they_change_for_every_version() -> None:
    """A sibling with a model of that name has them too, and gateways hear of it; so does a new version's."""
    async with an_installation() as here:
        fid, vid = await an_llm(here)
        body = a_body(functionType="LLM", models=[{"name": "m", "llmConfig": {"uris": ["/v1/chat/completions"]}}])
        second = (await here.client.post(f"/v2/nvcf/functions/{fid}/versions", json=body)).json()["function"]
        here.hints.clear()

        await here.client.put(version_path(fid, vid), json=update(tokenRateLimit="5-M"))

        assert (await llm_of(here, fid, second["versionId"]))["tokenRateLimit"] == "5-M"
        assert ("version", second["versionId"]) in here.hints
        body["models"][0]["llmConfig"]["routingMethod"] = "random"
        await here.client.post(f"/v2/nvcf/functions/{fid}/versions", json=body)
        assert await llm_of(here, fid, vid) == {
            "uris": ["/v1/chat/completions"],
            "tokenRateLimit": "5-M",
            "routingMethod": "random",
        }


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (update("other", tokenRateLimit="1-S"), 404, "other"),
        (update(), 400, "llmConfig"),
        (update(tokenRateLimit="20-X"), 400, "llmConfig.tokenRateLimit"),
        (update(routingMethod="not-a-method"), 400, "llmConfig.routingMethod"),
        (update(" ", tokenRateLimit="1-S"), 400, "modelName"),
        ({"modelUpdates": [{"modelName": "m"}]}, 400, "llmConfig"),
        ({"modelUpdates": update(tokenRateLimit="1-S")["modelUpdates"] * 2}, 400, "twice"),
        ({"modelUpdates": []}, 400, "at least one"),
    ],
)
async def test_updates_that_break_a_rule(body: dict[str, Any], status: int, word: str) -> None:
    """400 or 404, with the member or the model in the detail."""
    async with an_installation() as here:
        fid, vid = await an_llm(here)

        answer = await here.client.put(version_path(fid, vid), json=body)

        assert (answer.status_code, word in answer.json()["detail"]) == (status, True), answer.text


async def test_updates_of_models_are_for_llm_functions() -> None:
    """400 for any other."""
    async with an_installation() as here:
        fid, vid = await here.a_function()

        assert (await here.client.put(version_path(fid, vid), json=update(tokenRateLimit="1-S"))).status_code == 400


async def test_row_48_the_deprecated_rate_limit_calls() -> None:
    """PUT sets and DELETE clears it, 204 each; a bad rate 400, another account's version 404."""
    async with an_installation() as here:
        fid, vid = await here.a_function(tags=["a"])
        path = f"/v2/nvcf/ratelimit/functions/{fid}/versions/{vid}"
        body = {"rateLimit": {"rateLimit": "4-S, 5-H"}}
        other = bearer(await here.a_key(nca_id=OTHER_ACCOUNT))

        assert (await here.client.put(path, json=body)).status_code == 204
        shown = (await here.client.get(version_path(fid, vid))).json()["function"]
        assert (shown["rateLimit"], shown["tags"]) == (body["rateLimit"], ["a"])
        assert [(await here.client.delete(path)).status_code for _ in range(2)] == [204, 204]
        assert "rateLimit" not in (await here.client.get(version_path(fid, vid))).json()["function"]
        assert (await here.client.put(path, json={"rateLimit": {"rateLimit": "0-S"}})).status_code == 400
        assert (await here.client.put(path, json={"tags": ["b"]})).status_code == 400
        assert (await here.client.put(path, json=body, headers=other)).status_code == 404
        assert (await here.client.delete(path.replace(vid, RANDOM_ID))).status_code == 404

"""Who else may invoke a function: the reads of the control-plane page, section 9."""

from __future__ import annotations

from api_building import OTHER_ACCOUNT, RANDOM_ID, a_body, an_installation, bearer

from gpufn.model.access import Resource

BASE = "/v2/nvcf/authorizations/functions"


async def test_a_version_is_shared_with_nobody() -> None:
    """GET of a version's parties lists none: an empty list, which Terraform needs, not an absent one."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        answer = await it.client.get(f"{BASE}/{fid}/versions/{vid}")

    assert answer.status_code == 200
    shown = answer.json()["function"]
    assert shown == {"id": fid, "ncaId": "nvcf-default", "versionId": vid, "authorizedParties": []}


async def test_a_function_lists_each_version() -> None:
    """GET of a function's parties has one entry per version."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        second = (await it.client.post(f"/v2/nvcf/functions/{fid}/versions", json=a_body())).json()["function"]
        answer = await it.client.get(f"{BASE}/{fid}")

    assert {f["versionId"] for f in answer.json()["functions"]} == {vid, second["versionId"]}


async def test_parties_are_shown_only_to_who_may_see_them() -> None:
    """Unknown and other accounts' functions are 404; a missing scope 403; a key for another function an empty list."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        scopeless = bearer(await it.a_key(scopes=["list_functions"]))
        elsewhere = bearer(await it.a_key(resources=[Resource("function", f"{RANDOM_ID}/*")]))
        path = f"{BASE}/{fid}/versions/{vid}"
        codes = [
            (await it.client.get(f"{BASE}/{RANDOM_ID}")).status_code,
            (await it.client.get(path, headers=foreign)).status_code,
            (await it.client.get(path, headers=scopeless)).status_code,
            (await it.client.get(path, headers=elsewhere)).status_code,
        ]
        filtered = await it.client.get(f"{BASE}/{fid}", headers=elsewhere)

    assert codes == [404, 404, 403, 403]
    assert filtered.json() == {"functions": []}

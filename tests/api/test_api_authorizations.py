"""Sharing functions with other accounts: the checks 22, 23 and 43 to 45 of the control-plane page, and section 5."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import (
    OTHER_ACCOUNT,
    RANDOM_ID,
    Installation,
    a_body,
    an_installation,
    bearer,
    deployment_path,
    version_path,
)

from gpufn.model.access import ALL_FUNCTIONS, Resource
from gpufn.model.account import Account
from gpufn.model.ids import DEFAULT_ACCOUNT, AccountId
from gpufn.store import accounts

BASE = "/v2/nvcf/authorizations/functions"
THIRD = "third-account"


def parties(*names: str) -> dict[str, Any]:
    return {"authorizedParties": [{"ncaId": name} for name in names]}


def party(name: str) -> dict[str, Any]:
    return {"authorizedParty": {"ncaId": name}}


async def a_third_account(it: Installation) -> None:
    account = Account(AccountId(THIRD), "third", it.clock())
    await it.context.db.run(lambda tx: accounts.ensure(tx, account))


async def make_public(it: Installation, function_id: str) -> None:
    from gpufn.store import authorizations

    await it.context.db.run(lambda tx: authorizations.replace(tx, function_id, "", ("*",)))


async def test_a_version_is_shared_with_nobody() -> None:
    """Check 45: GET of a version's parties lists none: an empty list, which Terraform needs, not an absent one."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        answer = await it.client.get(f"{BASE}/{fid}/versions/{vid}")

    assert answer.status_code == 200
    shown = answer.json()["function"]
    assert shown == {"id": fid, "ncaId": "nvcf-default", "versionId": vid, "authorizedParties": []}


async def test_both_levels_are_joined_when_read() -> None:
    """Check 45: a version lists the union of both levels, a function one entry per version; POST shows its own."""
    async with an_installation() as it:
        await a_third_account(it)
        fid, vid = await it.a_function()
        second = (await it.client.post(f"/v2/nvcf/functions/{fid}/versions", json=a_body())).json()["function"]
        whole = await it.client.post(f"{BASE}/{fid}", json=parties(OTHER_ACCOUNT))
        one = await it.client.post(f"{BASE}/{fid}/versions/{vid}", json=parties(THIRD))
        both = await it.client.get(f"{BASE}/{fid}/versions/{vid}")
        listed = await it.client.get(f"{BASE}/{fid}")

    mine = {"id": fid, "ncaId": "nvcf-default"}
    others, third = {"ncaId": OTHER_ACCOUNT}, {"ncaId": THIRD}
    assert whole.json()["function"] == mine | {"authorizedParties": [others]}
    assert one.json()["function"] == mine | {"versionId": vid, "authorizedParties": [third]}
    assert both.json()["function"]["authorizedParties"] == [others, third]
    by_version = {f["versionId"]: f["authorizedParties"] for f in listed.json()["functions"]}
    assert by_version == {vid: [others, third], second["versionId"]: [others]}


@pytest.mark.parametrize("level", ["function", "version"])
async def test_parties_are_set_added_removed_and_cleared(level: str) -> None:
    """Check 44: add before POST 404; POST replaces; add again 409; remove twice 404; DELETE leaves the list out."""
    async with an_installation() as it:
        await a_third_account(it)
        fid, vid = await it.a_function()
        path = f"{BASE}/{fid}" + (f"/versions/{vid}" if level == "version" else "")
        early = await it.client.patch(f"{path}/add", json=party(THIRD))
        first = await it.client.post(path, json=parties(OTHER_ACCOUNT))
        again = await it.client.post(path, json=parties(OTHER_ACCOUNT))
        it.hints.clear()
        more = await it.client.patch(f"{path}/add", json=party(THIRD))
        hinted = list(it.hints)
        twice = await it.client.patch(f"{path}/add", json=party(THIRD))
        less = await it.client.patch(f"{path}/remove", json=party(OTHER_ACCOUNT))
        absent = await it.client.patch(f"{path}/remove", json=party(OTHER_ACCOUNT))
        cleared = await it.client.delete(path)
        left = await it.client.get(f"{BASE}/{fid}/versions/{vid}")

    answers = (early, first, again, more, twice, less, absent, cleared)
    assert [a.status_code for a in answers] == [404, 200, 200, 200, 409, 200, 404, 200]
    assert more.json()["function"]["authorizedParties"] == [{"ncaId": OTHER_ACCOUNT}, {"ncaId": THIRD}]
    assert less.json()["function"]["authorizedParties"] == [{"ncaId": THIRD}]
    assert "authorizedParties" not in cleared.json()["function"]
    assert left.json()["function"]["authorizedParties"] == []
    assert hinted == [("version", vid)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (parties(), "authorizedParties"),
        (parties("nobody"), "no account 'nobody'"),
        (parties("nvcf-default"), "owns the function"),
        (parties(" "), "must not be blank"),
        (parties(OTHER_ACCOUNT, OTHER_ACCOUNT), "once"),
        (parties("*"), "Only NVIDIA Super Admin can make a function public"),
        (parties("*", OTHER_ACCOUNT), "Only NVIDIA Super Admin can make a function public"),
        ({"authorizedParties": [{"ncaId": OTHER_ACCOUNT, "clientId": "c"}]}, "not a client of account"),
        ({"authorizedParties": [{"ncaId": OTHER_ACCOUNT, "clientId": ""}]}, "must not be blank"),
    ],
)
async def test_a_set_that_cannot_be_is_refused(body: dict[str, Any], words: str) -> None:
    """Check 43: 400 with the cause, at both levels."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        for path in (f"{BASE}/{fid}", f"{BASE}/{fid}/versions/{vid}"):
            answer = await it.client.post(path, json=body)
            assert answer.status_code == 400
            assert words in answer.json()["detail"]


async def test_only_the_owner_shares_and_only_within_reach() -> None:
    """Section 9: unknown and other accounts' functions 404, no scope 403, a key for one version cannot share all."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        one, whole, body = f"{BASE}/{fid}/versions/{vid}", f"{BASE}/{fid}", parties(OTHER_ACCOUNT)
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        scopeless = bearer(await it.a_key(scopes=["list_functions"]))
        narrow = bearer(await it.a_key(resources=[Resource("function", f"{fid}/{vid}")]))
        elsewhere = bearer(await it.a_key(resources=[Resource("function", f"{RANDOM_ID}/*")]))
        codes = [
            (await it.client.post(f"{BASE}/{RANDOM_ID}", json=body)).status_code,
            (await it.client.post(whole, json=parties("nvcf-default"), headers=foreign)).status_code,
            (await it.client.get(one, headers=foreign)).status_code,
            (await it.client.post(whole, json=body, headers=scopeless)).status_code,
            (await it.client.post(whole, json=body, headers=narrow)).status_code,
            (await it.client.post(one, json=body, headers=narrow)).status_code,
            (await it.client.get(one, headers=elsewhere)).status_code,
        ]
        filtered = await it.client.get(whole, headers=elsewhere)

    assert codes == [404, 404, 404, 403, 403, 200, 403]
    assert filtered.json() == {"functions": []}


async def test_what_another_account_sees_of_a_shared_function() -> None:
    """Check 23: it is listed and read with ownedByDifferentAccount, without what shows how it is built or run."""
    async with an_installation() as it:
        fid, vid = await it.a_function(tags=["a"], rateLimit={"rateLimit": "4-S"}, containerArgs="-v")
        other = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        before = await it.client.get(version_path(fid, vid), headers=other)
        await it.client.post(f"{BASE}/{fid}", json=parties(OTHER_ACCOUNT))
        read = await it.client.get(version_path(fid, vid), headers=other)
        listed = await it.client.get("/v2/nvcf/functions", headers=other)
        versions = await it.client.get(f"/v2/nvcf/functions/{fid}/versions", headers=other)
        own = await it.client.get(version_path(fid, vid))

    assert before.status_code == 404
    shown = read.json()["function"]
    assert (shown["ncaId"], shown["ownedByDifferentAccount"], shown["tags"]) == ("nvcf-default", True, ["a"])
    hidden = {"inferenceUrl", "containerImage", "containerArgs", "rateLimit", "activeInstances"}
    assert not hidden & shown.keys()
    assert {"status", "healthUri", "health", "createdAt", "description", "functionType"} <= shown.keys()
    assert listed.json()["functions"] == versions.json()["functions"] == [shown]
    assert "ownedByDifferentAccount" not in own.json()["function"]


@pytest.mark.parametrize(
    ("resources", "status"),
    [
        (ALL_FUNCTIONS, 200),
        ((Resource("authorized-functions", "*"),), 200),
        ((Resource("account-functions", "*"),), 403),
        ((), 403),
    ],
)
async def test_a_shared_function_needs_a_resource_of_the_key(resources: tuple[Resource, ...], status: int) -> None:
    """Auth page, check 20: authorized-functions reaches what is shared, account-functions does not."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        await it.client.post(f"{BASE}/{fid}", json=parties(OTHER_ACCOUNT))
        key = bearer(await it.a_key(nca_id=OTHER_ACCOUNT, resources=resources))
        named = bearer(await it.a_key(nca_id=OTHER_ACCOUNT, resources=[Resource("function", f"{fid}/*")]))
        read = await it.client.get(version_path(fid, vid), headers=key)
        versions = await it.client.get(f"/v2/nvcf/functions/{fid}/versions", headers=key)
        listed = await it.client.get("/v2/nvcf/functions", headers=key)
        by_name = await it.client.get(version_path(fid, vid), headers=named)

    assert (read.status_code, versions.status_code, by_name.status_code) == (status, status, 200)
    assert (listed.status_code, len(listed.json()["functions"])) == (200, int(status == 200))


async def test_visibility_chooses_among_public_private_and_authorized() -> None:
    """Check 22: each kind alone, together, in any case, repeated or comma-separated; anything else is 400."""
    async with an_installation() as it:
        mine, _ = await it.a_function()
        public, _ = await it.a_function(name="public")
        await make_public(it, public)
        other = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        made = await it.client.post("/v2/nvcf/functions", json=a_body(name="theirs"), headers=other)
        theirs = made.json()["function"]["id"]
        await it.client.post(f"{BASE}/{theirs}", json=parties(DEFAULT_ACCOUNT), headers=other)

        async def ids(query: str) -> set[str]:
            found = await it.client.get(f"/v2/nvcf/functions/ids{query}")
            return set(found.json()["functionIds"])

        seen = {
            query: await ids(query)
            for query in ("", "?visibility=private", "?visibility=AUTHORIZED", "?visibility=public")
        }
        two = await ids("?visibility=private,public"), await ids("?visibility=private&visibility=public")
        bogus = await it.client.get("/v2/nvcf/functions?visibility=bogus")

    assert list(seen.values()) == [{mine, public, theirs}, {mine}, {theirs}, {public}]
    assert two == ({mine, public}, {mine, public})
    assert bogus.status_code == 400


async def test_nobody_changes_what_is_only_shared_with_them() -> None:
    """Section 5: everything mutating works on own functions only; someone else's, even if shared, is 404."""
    async with an_installation() as it:
        fid, vid, _ = await it.a_deployment()
        await it.client.post(f"{BASE}/{fid}", json=parties(OTHER_ACCOUNT))
        other = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        codes = [
            (await it.client.put(version_path(fid, vid), json={"tags": ["x"]}, headers=other)).status_code,
            (await it.client.delete(version_path(fid, vid), headers=other)).status_code,
            (await it.client.post(f"/v2/nvcf/functions/{fid}/versions", json=a_body(), headers=other)).status_code,
            (await it.client.get(deployment_path(fid, vid), headers=other)).status_code,
            (await it.client.delete(deployment_path(fid, vid), headers=other)).status_code,
            (await it.client.get(f"/v2/gpufn/functions/{fid}/versions/{vid}/logs", headers=other)).status_code,
            (await it.client.get(f"/v2/gpufn/functions/{fid}/versions/{vid}/instances", headers=other)).status_code,
        ]
        queue = await it.client.get(f"/v2/nvcf/queues/functions/{fid}/versions/{vid}", headers=other)

    assert codes == [404] * 7
    assert queue.status_code == 200  # check 51


async def test_a_public_function_is_everybodys_to_see_and_nobodys_to_change() -> None:
    """Section 3.5: read by any key; versions, deployments, queues, parties and deletion are refused in its words."""
    async with an_installation() as it:
        fid, vid, _ = await it.a_deployment()
        await make_public(it, fid)
        anybody = bearer(await it.a_key(nca_id=OTHER_ACCOUNT, resources=()))
        read = await it.client.get(version_path(fid, vid), headers=anybody)
        listed = await it.client.get("/v2/nvcf/functions", headers=anybody)
        shown = await it.client.get(f"{BASE}/{fid}/versions/{vid}")
        deploy = deployment_path(fid, vid)
        spec = {
            "deploymentSpecifications": [{"gpu": "H100", "instanceType": "x", "minInstances": 1, "maxInstances": 1}]
        }
        refused = {
            "Cannot create version of a public function": await it.client.post(
                f"/v2/nvcf/functions/{fid}/versions", json=a_body()
            ),
            "Cannot delete a public function": await it.client.delete(version_path(fid, vid)),
            "Cannot create deployment for public function": await it.client.post(deploy, json=spec),
            "Cannot delete deployment for public function": await it.client.delete(deploy),
            "Cannot add authorized parties for public function": await it.client.post(
                f"{BASE}/{fid}", json=parties(OTHER_ACCOUNT)
            ),
            "Cannot remove authorized parties for public function": await it.client.patch(
                f"{BASE}/{fid}/versions/{vid}/remove", json=party(OTHER_ACCOUNT)
            ),
            "Cannot delete authorized parties for public function": await it.client.delete(f"{BASE}/{fid}"),
            "queue": await it.client.get(f"/v2/nvcf/queues/functions/{fid}"),
        }

    assert read.status_code == 200
    assert len(listed.json()["functions"]) == 1
    assert shown.json()["function"]["authorizedParties"] == [{"ncaId": "*"}]
    for words, answer in refused.items():
        assert answer.status_code == 400, words
        assert words in answer.json()["detail"]


async def test_sharing_ends_with_the_function() -> None:
    """The last version takes the function's parties with it, so nothing is left that could come back to life."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        await it.client.post(f"{BASE}/{fid}", json=parties(OTHER_ACCOUNT))
        await it.client.post(f"{BASE}/{fid}/versions/{vid}", json=parties(OTHER_ACCOUNT))
        await it.client.delete(version_path(fid, vid))
        from gpufn.store import authorizations

        left = await it.context.db.run(lambda tx: authorizations.functions_naming(tx, OTHER_ACCOUNT))

    assert left == []

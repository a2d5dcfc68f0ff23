"""gpufn's own routes, queues, and what ngcsdk asks around NVCF's routes."""

from __future__ import annotations

import asyncio
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
    a_spec,
    an_installation,
    bearer,
)

from gpufn.api.app import build
from gpufn.model.access import USER_SCOPES, Resource
from gpufn.model.instance import Failure, FailureKind, InstanceStatus
from gpufn.store import keys

KEYS = "/v2/gpufn/keys"


def own_path(fid: str, vid: str, tail: str) -> str:
    return f"/v2/gpufn/functions/{fid}/versions/{vid}/{tail}"


async def lines_of(it: Installation, path: str) -> list[dict[str, Any]]:
    answer = await it.client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines() if line]


async def test_a_key_is_shown_once_and_works() -> None:
    """The value is in the answer that makes the key and nowhere else, not even in the database."""
    async with an_installation() as it:
        body = {"description": "for CI", "scopes": ["list_functions"], "ttl": "PT1H"}
        made = (await it.client.post(KEYS, json=body)).json()["key"]
        listed = (await it.client.get(KEYS)).json()["keys"]
        mine = bearer(made["value"])
        works = await it.client.get("/v2/nvcf/functions", headers=mine)
        denied = await it.client.post(KEYS, headers=mine)
        stored = await it.context.db.run(lambda tx: keys.get(tx, made["id"]))
        it.clock.advance(3600)
        expired = await it.client.get("/v2/nvcf/functions", headers=mine)

    assert made["value"].startswith(made["prefix"])
    assert made["expiresAt"] == "2026-11-24T13:00:00.123Z"
    assert [k["description"] for k in listed] == ["", "for CI"]
    assert all("value" not in k for k in listed)
    assert made["value"] not in repr(stored)
    assert [works.status_code, denied.status_code, expired.status_code] == [200, 403, 403]
    assert ("key", made["id"]) in it.hints


async def test_a_key_without_a_body_inherits() -> None:
    """With nothing said a key has its maker's scopes and resources."""
    async with an_installation() as it:
        limited = bearer(
            await it.a_key(
                scopes=["manage_keys", "invoke_function"], resources=[Resource("function", f"{RANDOM_ID}/*")]
            )
        )
        made = (await it.client.post(KEYS, headers=limited)).json()["key"]
        narrower = await it.client.post(
            KEYS,
            headers=limited,
            json={"resources": [{"type": "function", "id": f"{RANDOM_ID}/{RANDOM_ID}"}]},
        )

    assert made["scopes"] == ["invoke_function", "manage_keys"]
    assert made["resources"] == [{"type": "function", "id": f"{RANDOM_ID}/*"}]
    assert "expiresAt" not in made
    assert narrower.status_code == 200


async def test_a_key_for_own_functions_grants_no_shared_one() -> None:
    """account-functions:* reaches what the account owns, so no key made with it reaches what others share."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        maker = bearer(
            await it.a_key(scopes=["manage_keys"], resources=[Resource("account-functions", "*")], nca_id=OTHER_ACCOUNT)
        )
        own = bearer(await it.a_key(scopes=["manage_keys"], resources=[Resource("account-functions", "*")]))
        answers = [
            await it.client.post(KEYS, headers=who, json={"resources": [{"type": "function", "id": f"{fid}/{end}"}]})
            for who in (maker, own)
            for end in ("*", vid)
        ]

    assert [a.status_code for a in answers] == [403, 403, 200, 200]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"scopes": ["deploy_function"]}, 403),
        ({"scopes": ["admin:deploy_function"]}, 400),
        ({"resources": [{"type": "account-functions", "id": "*"}]}, 403),
        ({"resources": [{"type": "function", "id": "*"}]}, 400),
        ({"resources": [{"type": "account-functions", "id": RANDOM_ID}]}, 400),
        ({"expiresAt": "2026-11-24T11:00:00Z"}, 400),
        ({"expiresAt": "2026-11-25T11:00:00"}, 400),
        ({"ttl": "PT0S"}, 400),
        ({"ttl": "PT1H", "expiresAt": "2026-11-25T11:00:00Z"}, 400),
        ({"description": "d" * 257}, 400),
    ],
)
async def test_keys_cannot_grant_what_their_maker_has_not(body: dict[str, Any], status: int) -> None:
    """Scopes and resources beyond the maker's are 403, what means nothing is 400."""
    async with an_installation() as it:
        limited = bearer(await it.a_key(scopes=["manage_keys"], resources=[]))
        answer = await it.client.post(KEYS, headers=limited, json=body)
        count = len((await it.client.get(KEYS)).json()["keys"])

    assert answer.status_code == status, answer.text
    assert count == 2


async def test_revoking_a_key() -> None:
    """204, then the key is refused and 404; keys of other accounts cannot be seen."""
    async with an_installation() as it:
        made = (await it.client.post(KEYS)).json()["key"]
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        path = f"{KEYS}/{made['id']}"
        statuses = [
            (await it.client.delete(path, headers=foreign)).status_code,
            (await it.client.delete(path)).status_code,
            (await it.client.delete(path)).status_code,
            (await it.client.get(KEYS, headers=bearer(made["value"]))).status_code,
        ]
        hinted = it.hints.count(("key", made["id"]))

    assert statuses == [404, 204, 404, 403]
    assert hinted == 2


async def test_a_key_cannot_revoke_itself() -> None:
    """Nobody locks himself out by accident: 400, and the key goes on working."""
    async with an_installation() as it:
        made = (await it.client.post(KEYS)).json()["key"]
        own = bearer(made["value"])
        refused = await it.client.delete(f"{KEYS}/{made['id']}", headers=own)
        after = await it.client.get(KEYS, headers=own)

    assert (refused.status_code, after.status_code) == (400, 200)
    assert made["id"] in refused.json()["detail"]


async def test_instances_with_what_became_of_them() -> None:
    """Every recorded instance is shown, ended ones with the reason."""
    failure = Failure(FailureKind.EXIT, "it ended with status 3")
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        live = await it.an_instance(deployment["deploymentId"])
        failed = await it.an_instance(deployment["deploymentId"], status=InstanceStatus.ERRORED, failure=failure)
        found = (await it.client.get(own_path(fid, vid, "instances"))).json()["instances"]
        unknown = await it.client.get(own_path(fid, RANDOM_ID, "instances"))

    by_id = {i["instanceId"]: i for i in found}
    assert by_id.keys() == {live.id, failed.id}
    assert by_id[failed.id]["status"] == "errored"
    assert by_id[failed.id]["failure"] == {"kind": "exit", "message": "it ended with status 3", "permanent": False}
    assert "failure" not in by_id[live.id]
    assert unknown.status_code == 404


async def test_logs_that_are_kept() -> None:
    """Lines of every instance, or of one, the last ones only where asked."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        one = await it.an_instance(deployment["deploymentId"])
        two = await it.an_instance(deployment["deploymentId"])
        it.logs.lines = {one.id: ["a", 'b "quoted" ü'], two.id: ["c"]}
        path = own_path(fid, vid, "logs")
        everything = await lines_of(it, path)
        last = await lines_of(it, f"{path}?instanceId={one.id}&tail=1")
        unknown = await it.client.get(f"{path}?instanceId={RANDOM_ID}")
        malformed = await it.client.get(f"{path}?tail=-1")

    assert sorted(everything, key=lambda line: str(line["text"])) == [
        {"instanceId": one.id, "text": "a"},
        {"instanceId": one.id, "text": 'b "quoted" ü'},
        {"instanceId": two.id, "text": "c"},
    ]
    assert last == [{"instanceId": one.id, "text": 'b "quoted" ü'}]
    assert (unknown.status_code, malformed.status_code) == (404, 400)


async def test_following_ends_when_no_more_can_come() -> None:
    """Following a version that is not deployed and has no live instance gives what is kept, and ends."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        ended = await it.an_instance(deployment["deploymentId"], status=InstanceStatus.TERMINATED)
        it.logs.lines = {ended.id: ["last words"]}
        await it.client.delete(f"/v2/nvcf/deployments/functions/{fid}/versions/{vid}")
        lines = await lines_of(it, own_path(fid, vid, "logs") + "?follow=true")

    assert lines == [{"instanceId": ended.id, "text": "last words"}]


@pytest.mark.looptime
async def test_following_takes_up_instances_that_start_later() -> None:
    """A deployed version may get more instances, so following waits for them, until it is undeployed."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        first = await it.an_instance(deployment["deploymentId"], status=InstanceStatus.TERMINATED)
        it.logs.lines = {first.id: ["first"]}

        async def meanwhile() -> None:
            await asyncio.sleep(5)
            later = await it.an_instance(deployment["deploymentId"], status=InstanceStatus.TERMINATED)
            it.logs.lines[later.id] = ["second"]
            await asyncio.sleep(40)
            await it.client.delete(f"/v2/nvcf/deployments/functions/{fid}/versions/{vid}")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(meanwhile())
            answer = await it.client.get(own_path(fid, vid, "logs") + "?follow=true", timeout=None)

    texts = [json.loads(line)["text"] if line else "" for line in answer.text.splitlines()]
    assert [text for text in texts if text] == ["first", "second"]
    assert texts.count("") >= 2, "silence is filled with empty lines"


async def test_the_state_of_the_installation() -> None:
    """Version, uptime, backends with their reasons, GPUs and counts."""
    async with an_installation() as it:
        _, vid, deployment = await it.a_deployment()
        await it.an_instance(deployment["deploymentId"])
        it.a_load(vid, queued=3, in_flight=1)
        status = (await it.client.get("/v2/gpufn/status")).json()

    assert status["uptimeSeconds"] == 60
    assert status["counts"] == {
        "functions": 1,
        "versions": 1,
        "deployments": 1,
        "instances": 1,
        "queued": 3,
        "inFlight": 1,
    }
    assert status["backends"] == [
        {"name": "process", "working": True, "detail": ""},
        {"name": "docker", "working": False, "detail": "no socket answers"},
    ]
    assert [gpu["name"] for gpu in status["gpus"]] == ["H100", "T10"]


async def test_row_51_queue_depth() -> None:
    """Each deployed version has its depth; undeployed, unknown and foreign functions are 404, out of reach is 403."""
    async with an_installation() as it:
        fid, vid, _ = await it.a_deployment(a_spec(minInstances=0))
        it.a_load(vid, queued=4, in_flight=2)
        undeployed, _ = await it.a_function()
        base = "/v2/nvcf/queues/functions"
        whole = await it.client.get(f"{base}/{fid}")
        single = await it.client.get(f"{base}/{fid}/versions/{vid}")
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        no_scope = bearer(await it.a_key(scopes=[s for s in USER_SCOPES if s != "queue_details"]))
        limited = bearer(await it.a_key(resources=[]))
        statuses = [
            (await it.client.get(f"{base}/{undeployed}")).status_code,
            (await it.client.get(f"{base}/{RANDOM_ID}")).status_code,
            (await it.client.get(f"{base}/{fid}", headers=foreign)).status_code,
            (await it.client.get(f"{base}/{fid}", headers=no_scope)).status_code,
            (await it.client.get(f"{base}/{fid}", headers=limited)).status_code,
        ]

    assert whole.json() == {
        "functionId": fid,
        "queues": [{"functionVersionId": vid, "functionName": "echo", "functionStatus": "ACTIVE", "queueDepth": 4}],
    }
    assert single.json() == whole.json()
    assert statuses == [404, 404, 404, 403, 403]


async def test_a_degraded_version_has_no_queue_to_show() -> None:
    """Only ACTIVE and DEPLOYING versions are listed (section 14)."""
    async with an_installation() as it:
        fid, _, deployment = await it.a_deployment()
        await it.observe(deployment["deploymentId"], activated_at=NOW)
        answer = await it.client.get(f"/v2/nvcf/queues/functions/{fid}")

    assert answer.status_code == 404
    assert "not deployed" in answer.json()["detail"]


async def test_whose_key_it_is() -> None:
    """ngcsdk asks before every call, with the key as a form field and no header."""
    async with an_installation() as it:
        value = await it.a_key()
        del it.client.headers["Authorization"]
        path = "/v3/keys/get-caller-info"
        known = await it.client.post(path, data={"credentials": value})
        unknown = await it.client.post(path, data={"credentials": "nvapi-x"})
        nothing = await it.client.post(path, content=b"\xff\xfe")

    assert known.json()["type"] == "PERSONAL_KEY"
    assert known.json()["orgName"] == "nvcf-default"
    assert known.json()["user"]["roles"][0]["org"] == {"name": "nvcf-default"}
    assert known.json()["user"]["roles"][0]["team"] is None
    assert (unknown.status_code, nothing.status_code) == (401, 400)


async def test_orgs_teams_and_the_catalog() -> None:
    """The account is the one org, without teams; a look into the catalog is 403, so that ngcsdk goes on."""
    async with an_installation() as it:
        orgs = (await it.client.get("/v2/orgs?page-size=500")).json()
        org = (await it.client.get("/v2/orgs/nvcf-default")).json()
        teams = (await it.client.get("/v2/org/nvcf-default/teams?page-size=500")).json()
        other = await it.client.get("/v2/orgs/other")
        catalog = [
            await it.client.get("/v2/org/nvcf-default/repos/echo/images/1"),
            await it.client.get("/v2/org/nvcf-default/team/t/repos/a/b/images/1"),
        ]

    assert orgs["organizations"] == [{"name": "nvcf-default", "displayName": "nvcf-default"}]
    assert org["organizations"]["billingAccountId"] == "nvcf-default"
    assert teams["teams"] == []
    assert other.status_code == 404
    assert [a.status_code for a in catalog] == [403, 403]


async def test_a_database_that_cannot_be_written_is_red() -> None:
    """``/health`` is 503 and tells strangers no more than that; status gives the owner the cause; both heal."""
    problem = "the database cannot be used now: disk full"

    async def now() -> str:
        return problem

    async with an_installation() as it:
        context = replace(it.context, database_problem=now)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(build(context)), base_url="http://x", headers=it.client.headers
        ) as client:
            red = await client.get("/health")
            assert (red.status_code, red.json()["status"]) == (503, "DOWN")
            assert "disk" not in red.text
            database = (await client.get("/v2/gpufn/status")).json()["database"]
            assert database == {"name": "database", "working": False, "detail": problem}
            problem = ""
            green = await client.get("/health")
            assert (green.status_code, green.json()) == (200, {"status": "UP"})

"""``/v2/gpufn/why``: functions, deployments and instances, by kind and by id alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from api_building import OTHER_ACCOUNT, an_installation, bearer

from gpufn.model.access import Resource
from gpufn.model.ids import DEFAULT_ACCOUNT, new_id
from gpufn.model.instance import Failure, FailureKind, InstanceStatus
from gpufn.model.invocation import ABANDONED, NOBODY, AcceptedInvocation, Body, Outcome
from gpufn.store import invocations

WHY = "/v2/gpufn/why"
CRASH = Failure(FailureKind.EXIT, "exited with code 1")


async def test_a_failed_start_is_explained_with_its_log() -> None:
    """The sentence names the failure; the last events and the last 50 lines of the log come with it."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        instance = await it.an_instance(deployment["deploymentId"], status=InstanceStatus.ERRORED, failure=CRASH)
        it.logs.lines[instance.id] = [f"line {n}" for n in range(60)]
        of_function = (await it.client.get(f"{WHY}/function/{fid}")).json()
        of_version = (await it.client.get(f"{WHY}/{vid}")).json()
        of_deployment = (await it.client.get(f"{WHY}/{deployment['deploymentId']}")).json()
        of_instance = (await it.client.get(f"{WHY}/{instance.id}")).json()

    assert of_function["sentence"] == (
        "echo is DEPLOYING: 0 of 1 instances are ready; the last one failed: exited with code 1"
    )
    assert of_function["log"] == [f"line {n}" for n in range(10, 60)]
    assert [e["kind"] for e in of_function["events"]] == ["version.created", "deployment.created"]
    assert of_version["sentence"] == of_deployment["sentence"] == of_function["sentence"]
    assert (of_deployment["kind"], of_instance["kind"]) == ("deployment", "instance")
    assert of_instance["sentence"] == "the instance failed: exited with code 1"
    assert {"name": "requests", "value": "0 queued, 0 running"} in of_function["facts"]


async def test_of_several_versions_the_deployed_one_is_explained() -> None:
    """The other versions are facts."""
    async with an_installation() as it:
        fid, vid, _ = await it.a_deployment()
        body = {"name": "echo", "inferenceUrl": "/echo", "containerImage": "nvcr.io/acme/echo:2"}
        newer = (await it.client.post(f"/v2/nvcf/functions/{fid}/versions", json=body)).json()["function"]["versionId"]
        answer = (await it.client.get(f"{WHY}/{fid}")).json()

    assert "DEPLOYING" in answer["sentence"]
    assert {"name": "other version", "value": f"{newer} INACTIVE"} in answer["facts"]
    assert vid != newer


async def test_what_nobody_knows_is_not_found() -> None:
    """An unknown id is 404 with what could have become of it; an unknown kind is 400 and names the kinds."""
    async with an_installation() as it:
        unknown = await it.client.get(f"{WHY}/{new_id()}")
        request = await it.client.get(f"{WHY}/request/{new_id()}")
        kind = await it.client.get(f"{WHY}/pod/{new_id()}")

    assert (unknown.status_code, request.status_code, kind.status_code) == (404, 404, 400)
    assert "when its response was delivered" in request.json()["detail"]
    assert "function, deployment, instance, request, task" in kind.json()["detail"]


async def test_why_is_within_the_reach_of_the_key() -> None:
    """Known but out of reach is 403, as everywhere."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment()
        instance = await it.an_instance(deployment["deploymentId"])
        other, _, _ = await it.a_deployment(name="other")
        narrow = bearer(await it.a_key(resources=(Resource("function", f"{other}/*"),)))
        ids = (deployment["functionId"], deployment["deploymentId"], instance.id)
        codes = [(await it.client.get(f"{WHY}/{i}", headers=narrow)).status_code for i in ids]

    assert codes == [403, 403, 403]


async def test_an_accepted_request_is_explained_from_the_database() -> None:
    """When no gateway has it in its hands: whose turn it is, which attempt, how it ended; for its account only."""
    async with an_installation() as it:
        fid, vid, _ = await it.a_deployment()
        waiting = an_invocation(fid, vid, it.clock(), owner=NOBODY, attempt=2, note="the instance vanished")
        done = an_invocation(fid, vid, it.clock(), outcome=Outcome(200, (), Body(2, b"{}")))
        dropped = an_invocation(fid, vid, it.clock(), outcome=ABANDONED)
        foreign = replace(an_invocation(fid, vid, it.clock()), nca_id="other")
        await it.context.db.run(lambda tx: invocations.insert(tx, [waiting, done, dropped, foreign]))
        it.clock.advance(30)
        answers = [(await it.client.get(f"{WHY}/{i.id}")).json() for i in (waiting, done, dropped)]
        unseen = await it.client.get(f"{WHY}/request/{foreign.id}")

    assert [a["sentence"] for a in answers] == [
        (
            "the request was accepted 30 s ago and waits for a gateway to go on with it, attempt 2; "
            "the attempt before failed: the instance vanished"
        ),
        "the request has ended with status 200; its result is kept",
        "the request was cancelled: nobody asked for its result for so long",
    ]
    assert answers[0]["kind"] == "request"
    assert {"name": "version", "value": vid} in answers[0]["facts"]
    assert unseen.status_code == 404


async def test_why_of_a_shared_function_s_request_is_within_the_reach_of_the_key() -> None:
    """As at the gateway: who may not invoke what is shared is not told of the account's requests to it, nor of those
    whose version is gone.
    """
    async with an_installation() as it:
        fid, vid, _ = await it.a_deployment()
        sharing = f"/v2/nvcf/authorizations/functions/{fid}"
        await it.client.post(sharing, json={"authorizedParties": [{"ncaId": OTHER_ACCOUNT}]})
        asked = replace(an_invocation(fid, vid, it.clock()), nca_id=OTHER_ACCOUNT)
        gone = replace(an_invocation(new_id(), new_id(), it.clock()), nca_id=OTHER_ACCOUNT)
        await it.context.db.run(lambda tx: invocations.insert(tx, [asked, gone]))
        narrow = bearer(await it.a_key(nca_id=OTHER_ACCOUNT, resources=[Resource("function", f"{new_id()}/*")]))
        wide = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        codes = [
            (await it.client.get(f"{WHY}/request/{i.id}", headers=who)).status_code
            for who in (narrow, wide)
            for i in (asked, gone)
        ]

    assert codes == [403, 403, 200, 200]


def an_invocation(fid: str, vid: str, now: datetime, **changes: object) -> AcceptedInvocation:
    """One that was accepted now, by the default account."""
    found = AcceptedInvocation(
        id=new_id(),
        nca_id=DEFAULT_ACCOUNT,
        function_id=fid,
        version_id=vid,
        form="pexec",
        head=b"",
        request=Body(0),
        window=60,
        accepted_at=now,
        deadline=now + timedelta(hours=1),
        owner="g1",
        fence=1,
        attempt=1,
    )
    ended = {"finished_at": now, "owner": ""} if "outcome" in changes else {}
    return replace(found, **(ended | changes))  # type: ignore[arg-type]

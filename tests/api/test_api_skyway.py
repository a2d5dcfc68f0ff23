"""Live access to instances under the paths that ngcsdk calls (clusters page, section 8), and gpufn's own choices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from api_building import NOW, RANDOM_ID, an_installation

from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.model.instance import InstanceStatus

ORG = f"/v2/orgs/{DEFAULT_ACCOUNT}"


async def test_instances_are_listed_with_their_pod_and_container() -> None:
    """Live instances only, under the org's path and the team's."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        live = await it.an_instance(deployment["deploymentId"])
        await it.an_instance(deployment["deploymentId"], status=InstanceStatus.TERMINATED)
        path = f"skyway/instances/functions/{fid}/versions/{vid}"
        by_org = (await it.client.get(f"{ORG}/{path}")).json()
        by_team = (await it.client.get(f"{ORG}/teams/t/{path}")).json()
        foreign = await it.client.get(f"/v2/orgs/other/{path}")

    assert by_org == by_team
    assert by_org["functionId"] == fid
    (shown,) = by_org["instances"]
    assert (shown["instanceId"], shown["state"]) == (live.id, "RUNNING")
    assert (shown["podName"], shown["containerName"]) == (live.id, "inference")
    assert foreign.status_code == 403


@pytest.mark.looptime
async def test_logs_are_server_sent_events() -> None:
    """One event for each line, for an hour back unless told otherwise, until the instance has ended."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        ended = await it.an_instance(deployment["deploymentId"], status=InstanceStatus.TERMINATED)
        it.logs.lines = {ended.id: ["hello: world", "second\rhalf"]}
        path = f"{ORG}/skyway/logs/functions/{fid}/versions/{vid}?instanceId={ended.id}&podName=x&containerName=y"
        answer = await it.client.get(path)
        hour = it.logs.since
        await it.client.get(path + "&since=5s")
        seconds = it.logs.since
        await it.client.get(path + "&sinceTime=2026-01-01T00:00:00")
        moment = it.logs.since

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == "data: hello: world\n\ndata: second\\rhalf\n\n"
    assert (hour, seconds) == (NOW - timedelta(hours=1), NOW - timedelta(seconds=5))
    assert moment == datetime(2026, 1, 1, tzinfo=UTC)


async def test_bad_choices_are_named() -> None:
    """No instance, an unknown one, both kinds of since, junk as duration: each is refused with its name."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        live = await it.an_instance(deployment["deploymentId"])
        path = f"{ORG}/skyway/logs/functions/{fid}/versions/{vid}"
        codes = [
            (await it.client.get(path + query)).status_code
            for query in (
                "",
                f"?instanceId={RANDOM_ID}",
                f"?instanceId={live.id}&since=5s&sinceTime=2026-01-01T00:00:00Z",
                f"?instanceId={live.id}&since=yesterday",
                f"?instanceId={live.id}&timeout=0",
            )
        ]

    assert codes == [400, 404, 400, 400, 400]


async def test_own_logs_are_chosen_by_time_and_request() -> None:
    """``since`` goes to the backend; ``requestId`` keeps the lines that hold it."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        one = await it.an_instance(deployment["deploymentId"])
        it.logs.lines = {one.id: ["nothing", f"served {RANDOM_ID}"]}
        path = f"/v2/gpufn/functions/{fid}/versions/{vid}/logs"
        answer = await it.client.get(path, params={"requestId": RANDOM_ID, "since": "2026-01-01T00:00:00Z"})

    assert json.loads(answer.text) == {"instanceId": one.id, "text": f"served {RANDOM_ID}"}
    assert it.logs.since == datetime(2026, 1, 1, tzinfo=UTC)

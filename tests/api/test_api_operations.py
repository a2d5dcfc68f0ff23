"""What admins do with a running installation (control-plane page, section 20; section 26 by its numbers)."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import (
    OTHER_ACCOUNT,
    RANDOM_ID,
    T10,
    Installation,
    a_spec,
    an_installation,
    bearer,
)

from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.model.instance import InstanceStatus
from gpufn.store import instances

ACCOUNT = f"/v2/nvcf/accounts/{DEFAULT_ACCOUNT}"


def roll_path(fid: str, vid: str) -> str:
    return f"{ACCOUNT}/rolloverWorkers/functions/{fid}/versions/{vid}"


def rolling(**changes: Any) -> dict[str, Any]:
    spec = {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x", "numInstances": 1} | changes
    return {"rollOverSpecifications": [{k: v for k, v in spec.items() if v is not None}]}


async def wanted(it: Installation, version_id: str) -> list[bool]:
    found = await it.context.db.run(lambda tx: instances.of_version(tx, version_id))
    return [i.wanted for i in found]


async def test_row_58_rolling_over() -> None:
    """One id for each specification; as many instances go as asked for, else all; the controllers are told of each."""
    async with an_installation() as it:
        admin = bearer(it.a_token())
        fid, vid, deployment = await it.a_deployment(a_spec(maxInstances=3), a_spec(**T10))
        made = [await it.an_instance(deployment["deploymentId"]) for _ in range(3)]
        it.hints.clear()
        one = await it.client.put(roll_path(fid, vid), json=rolling(), headers=admin)
        after_one = await wanted(it, vid)
        hinted = list(it.hints)
        every = await it.client.put(roll_path(fid, vid), headers=admin)
        events = (await it.client.get(f"/v2/gpufn/events?versionId={vid}")).json()["events"]

    assert [a.status_code for a in (one, every)] == [200, 200]
    ids = one.json()["icmsRequestIds"]
    assert len(set(ids)) == 2
    assert sorted(after_one) == [False, True, True]
    assert ("deployment", deployment["deploymentId"]) in hinted
    assert any(ids[0] in e["message"] for e in events)
    assert len(made) == 3


async def test_row_58_all_of_them_go_without_a_body() -> None:
    """The body may be absent."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment(a_spec(maxInstances=3))
        for _ in range(2):
            await it.an_instance(deployment["deploymentId"])
        answer = await it.client.put(roll_path(fid, vid), headers=bearer(it.a_token()))
        found = await wanted(it, vid)

    assert answer.status_code == 200
    assert found == [False, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": None},
        {"instanceType": None},
        {"numInstances": None},
        {"numInstances": 0},
        {"numInstances": -1},
        {"numInstances": 3},
        {"gpu": "T10"},
        {"instanceType": "ON-PREM.GPU.H100_2x"},
    ],
)
async def test_row_58_what_cannot_be_rolled_over(changes: dict[str, Any]) -> None:
    """A missing member, none or too many instances, and a pair that is not deployed are 400; nothing goes."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        await it.an_instance(deployment["deploymentId"])
        answer = await it.client.put(roll_path(fid, vid), json=rolling(**changes), headers=bearer(it.a_token()))
        found = await wanted(it, vid)

    assert answer.status_code == 400
    assert found == [True]


async def test_row_58_who_may_roll_over_what() -> None:
    """Not deployed and unknown are 404; a key is 403, whatever its scopes; so is a user's token."""
    async with an_installation() as it:
        admin = bearer(it.a_token())
        fid, vid = await it.a_function()
        idle = await it.client.put(roll_path(fid, vid), headers=admin)
        unknown = await it.client.put(roll_path(fid, RANDOM_ID), headers=admin)
        by_key = await it.client.put(roll_path(fid, vid))
        by_user = await it.client.put(roll_path(fid, vid), headers=bearer(it.a_token(scopes=["deploy_function"])))

    assert [a.status_code for a in (idle, unknown, by_key, by_user)] == [404, 404, 403, 403]


async def test_row_58_usage_is_summed_by_instance_type() -> None:
    """Least and most of every deployed specification, by GPU and type, with where they are; none is an empty list."""
    async with an_installation() as it:
        admin = bearer(it.a_token())
        await it.a_deployment(a_spec(minInstances=1, maxInstances=2), a_spec(**T10))
        await it.a_deployment(a_spec(minInstances=0, maxInstances=3))
        gpus = (await it.client.get(f"{ACCOUNT}/usage/gpus", headers=admin)).json()["gpus"]
        none = await it.client.get(f"/v2/nvcf/accounts/{OTHER_ACCOUNT}/usage/gpus", headers=admin)
        by_key = await it.client.get(f"{ACCOUNT}/usage/gpus")

    assert none.json() == {"gpus": []}
    assert by_key.status_code == 403
    found = [(g["gpu"], g["instanceType"], g["currentMinUsage"], g["currentMaxUsage"]) for g in gpus]
    assert found == [("H100", "ON-PREM.GPU.H100_1x", 1, 5), ("T10", "ON-PREM.GPU.T10_1x", 1, 2)]
    assert gpus[0]["placements"] == [
        {
            "clusterId": "c-1",
            "cluster": "local",
            "clusterGroupId": "g-1",
            "clusterGroup": "local",
            "cloudProvider": "ON-PREM",
            "region": "local",
            "currentMaxUsage": 5,
            "currentMinUsage": 1,
        }
    ]


async def test_row_58_golden_images() -> None:
    """For admins; there are no sidecars, so no image is named; a key is 403."""
    async with an_installation() as it:
        named = await it.client.get("/v2/nvcf/sidecars/goldenimages", headers=bearer(it.a_token()))
        by_key = await it.client.get("/v2/nvcf/sidecars/goldenimages")

    assert named.json() == {"sidecars": {"utilsContainerImage": {}}}
    assert by_key.status_code == 403


async def test_an_admin_ends_one_instance() -> None:
    """200 with nothing; it is not wanted any more and the controllers are told; what has ended is 404; a key is 403."""
    async with an_installation() as it:
        admin = bearer(it.a_token())
        _, vid, deployment = await it.a_deployment()
        first = await it.an_instance(deployment["deploymentId"])
        ended = await it.an_instance(deployment["deploymentId"], status=InstanceStatus.TERMINATED)
        by_key = await it.client.delete(f"/v2/nvcf/instances/{first.id}")
        it.hints.clear()
        answer = await it.client.delete(f"/v2/nvcf/instances/{first.id}", headers=admin)
        hinted = list(it.hints)
        others = [await it.client.delete(f"/v2/nvcf/instances/{i}", headers=admin) for i in (ended.id, RANDOM_ID)]
        found = await it.context.db.run(lambda tx: instances.get(tx, first.id))

    assert (by_key.status_code, answer.status_code, answer.content) == (403, 200, b"")
    assert [a.status_code for a in others] == [404, 404]
    assert found is not None
    assert not found.wanted
    assert {("deployment", deployment["deploymentId"]), ("version", vid)} <= set(hinted)

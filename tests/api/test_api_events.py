"""The event API: what the API itself does is told, filtered, and bounded by the key's reach."""

from __future__ import annotations

from api_building import an_installation, bearer, deployment_path, version_path

from gpufn.model.access import Resource

EVENTS = "/v2/gpufn/events"


async def test_what_users_do_is_told_with_who_did_it() -> None:
    """Creating, deploying, undeploying and deleting leave events that outlive the version."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        await it.client.delete(deployment_path(fid, vid))
        await it.client.delete(version_path(fid, vid))
        told = (await it.client.get(EVENTS, params={"functionId": fid})).json()["events"]

    assert [e["kind"] for e in told] == [
        "version.created", "deployment.created", "deployment.deleted", "version.deleted",
    ]  # fmt: skip
    assert told[1]["message"] == "deployed by admin: ON-PREM.GPU.H100_1x 1 to 2"
    assert told[1]["deploymentId"] == deployment["deploymentId"]
    assert not told[1]["warning"]


async def test_events_are_filtered_and_can_be_followed() -> None:
    """Filters leave out; ``after`` goes on from an event without gap or repetition."""
    async with an_installation() as it:
        fid, vid, _ = await it.a_deployment()
        other, _, _ = await it.a_deployment(name="other")
        everything = (await it.client.get(EVENTS)).json()["events"]
        own = (await it.client.get(EVENTS, params={"functionVersionId": vid})).json()["events"]
        later = (await it.client.get(EVENTS, params={"after": everything[0]["eventId"], "limit": 2})).json()["events"]
        none = (await it.client.get(EVENTS, params={"since": "2100-01-01T00:00:00"})).json()["events"]

    assert len(everything) == 4
    assert {e["functionId"] for e in own} == {fid} != {other}
    assert later == everything[1:3]
    assert none == []


async def test_events_are_within_the_reach_of_the_key() -> None:
    """A key for one function sees its events only, and one without the scope is refused."""
    async with an_installation() as it:
        fid, _, _ = await it.a_deployment()
        await it.a_deployment(name="other")
        narrow = bearer(await it.a_key(resources=(Resource("function", f"{fid}/*"),)))
        poor = bearer(await it.a_key(scopes=("invoke_function",)))

        seen = (await it.client.get(EVENTS, headers=narrow)).json()["events"]
        refused = await it.client.get(EVENTS, headers=poor)

    assert {e["functionId"] for e in seen} == {fid}
    assert refused.status_code == 403


async def test_bad_parameters_are_named() -> None:
    """An id that is no UUID and a limit beyond the bound are refused with the field's name."""
    async with an_installation() as it:
        bad_id = await it.client.get(EVENTS, params={"instanceId": "x"})
        too_many = await it.client.get(EVENTS, params={"limit": 1001})

    assert (bad_id.status_code, too_many.status_code) == (400, 400)
    assert "limit" in too_many.json()["detail"]

"""Changing and listing deployments: rows of the control-plane page, section 26, by their numbers."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import (
    AUTOSCALING,
    NOW,
    OTHER_ACCOUNT,
    RANDOM_ID,
    T10,
    a_body,
    a_spec,
    an_installation,
    an_update,
    bearer,
    deployment_path,
    put,
    spec_path,
    specs_body,
)

from gpufn.model.access import USER_SCOPES
from gpufn.model.instance import Failure, FailureKind, InstanceStatus


async def test_row_37_replacing() -> None:
    """PUT changes bounds and concurrency; specifications keep their order; no change keeps lastUpdatedAt."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment(a_spec(maxRequestConcurrency=4), a_spec(**T10))
        it.clock.advance(5)
        same = await put(it, deployment, an_update(deployment, 0, maxRequestConcurrency=None), an_update(deployment, 1))
        swapped = await put(
            it, deployment, an_update(deployment, 1, minInstances=0), an_update(deployment, 0, maxInstances=9)
        )

    assert same.json()["deployment"] == deployment
    after = swapped.json()["deployment"]
    assert [(s["gpu"], s["minInstances"], s["maxInstances"]) for s in after["deploymentSpecifications"]] == [
        ("H100", 1, 9),
        ("T10", 0, 2),
    ]
    assert after["deploymentSpecifications"][0]["maxRequestConcurrency"] == 4
    assert after["lastUpdatedAt"] == "2026-11-24T12:00:05.123Z"


async def test_row_37_a_single_specification_needs_no_id() -> None:
    """With one specification the id may be left out, and the status may be any of a deployed version."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment()
        await it.observe(deployment["deploymentId"], activated_at=NOW)
        answer = await put(it, deployment, {"minInstances": 0, "maxInstances": 1})

    assert answer.status_code == 200
    assert answer.json()["deployment"]["functionStatus"] == "ACTIVE"


async def test_row_37_replacements_that_are_refused() -> None:
    """Wrong counts, ids, GPUs and bounds are 400, and so is a version that is not deployed."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment(a_spec(), a_spec(**T10))
        first = an_update(deployment)
        fid, vid = await it.a_function()
        answers = [
            await put(it, deployment, first),
            await put(it, deployment, first, first),
            await put(it, deployment, first, an_update(deployment, 1, gpuSpecificationId=None)),
            await put(it, deployment, first, an_update(deployment, 1, gpuSpecificationId=RANDOM_ID)),
            await put(it, deployment, first, an_update(deployment, 1, gpu="H100")),
            await put(it, deployment, first, an_update(deployment, 1, minInstances=5)),
            await it.client.put(deployment_path(fid, vid), json=specs_body(a_spec())),
            await it.client.put(deployment_path(fid, vid), json={"deploymentSpecifications": None}),
        ]
        kept = await it.client.get(f"/v2/nvcf/deployments/{deployment['deploymentId']}")

    assert [a.status_code for a in answers] == [400] * 8
    assert kept.json()["deployment"] == deployment


@pytest.mark.parametrize(
    ("stored", "given", "status"),
    [
        ({"backend": "local"}, {"backend": "local"}, 200),
        ({"backend": "local"}, {"backend": "other"}, 400),
        ({"backend": "local"}, {"backend": ""}, 400),
        ({}, {"backend": "local"}, 400),
        ({}, {"backend": "", "clusters": []}, 200),
        ({"clusters": ["a", "b"]}, {"clusters": ["b", "a"]}, 200),
        ({"clusters": ["a", "b"]}, {"clusters": ["a"]}, 400),
        ({"clusters": ["a"]}, {}, 400),
    ],
)
async def test_row_38_where_it_runs_cannot_be_changed(
    stored: dict[str, Any], given: dict[str, Any], status: int
) -> None:
    """Backend and clusters must be given as they are stored; the order of clusters does not matter."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment(a_spec(**stored))
        answer = await put(it, deployment, {"minInstances": 1, "maxInstances": 2} | given)

    assert answer.status_code == status, answer.text


async def test_row_39_patching() -> None:
    """One bound may change; the answer is the specification; the deployment's time moves."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        it.clock.advance(5)
        answer = await it.client.patch(spec_path(deployment), json={"minInstances": 2})
        after = (await it.client.get(deployment_path(fid, vid))).json()["deployment"]
        scaled = await it.client.patch(spec_path(deployment), json={"autoscalingConfiguration": AUTOSCALING})

    expected = deployment["deploymentSpecifications"][0] | {"minInstances": 2}
    assert answer.json() == {"gpuSpecification": expected}
    assert after["deploymentSpecifications"] == [expected]
    assert after["lastUpdatedAt"] == "2026-11-24T12:00:05.123Z"
    assert scaled.json()["gpuSpecification"]["autoscalingConfiguration"] == AUTOSCALING


async def test_row_39_patches_that_are_refused() -> None:
    """Unknown ids are 404, ``null`` in the path and bounds that cross are 400."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment()
        path = spec_path(deployment)
        unknown = [
            await it.client.patch(path.replace(deployment["deploymentId"], RANDOM_ID), json={"minInstances": 1}),
            await it.client.patch(path.rpartition("/")[0] + "/" + RANDOM_ID, json={"minInstances": 1}),
        ]
        bad: list[dict[str, Any]] = [
            {"minInstances": 10, "maxInstances": 0},
            {"minInstances": -10, "maxInstances": -5},
            {},
            {"minInstances": 100},
            {"autoscalingConfigurationPolicy": "OTHER"},
        ]
        refused = [await it.client.patch(path, json=body) for body in bad]
        refused.append(await it.client.patch(path.rpartition("/")[0] + "/null", json={"minInstances": 1}))

    assert [a.status_code for a in unknown] == [404, 404]
    assert [a.status_code for a in refused] == [400] * 6


async def test_row_40_the_platforms_autoscaling() -> None:
    """Null keeps a custom configuration, the platform's policy removes it."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment(a_spec(autoscalingConfiguration=AUTOSCALING))
        path = spec_path(deployment)
        kept = await it.client.patch(path, json={"minInstances": 1, "autoscalingConfiguration": None})
        gone = await it.client.patch(path, json={"autoscalingConfigurationPolicy": "platform_configuration"})
        idle = await it.client.patch(path, json={"autoscalingConfiguration": {"scaleToZeroIdleTimeout": "PT90S"}})

    assert idle.json()["gpuSpecification"]["autoscalingConfiguration"] == {"scaleToZeroIdleTimeout": "PT1M30S"}
    assert kept.json()["gpuSpecification"]["autoscalingConfiguration"] == AUTOSCALING
    assert "autoscalingConfiguration" not in gone.json()["gpuSpecification"]


@pytest.mark.parametrize(
    "details",
    [
        {"scaleUpDetails": {"factor": 2, "threshold": 1, "stickiness": {"size": "PT5M"}}},
        {"scaleUpDetails": {"factor": 2, "threshold": 1, "stickiness": {"size": "PT5M", "threshold": "PT5M"}}},
        {"scaleUpDetails": {"factor": 2, "threshold": 1, "stickiness": {"size": "PT1H1S", "threshold": "PT5M"}}},
        {"scaleUpDetails": {"threshold": 1}},
        {"scaleUpDetails": {"factor": 2}},
        {"scaleUpDetails": {"factor": 2, "threshold": -1}},
        {"scaleUpDetails": {"factor": 1.0, "threshold": 1}},
        {"scaleDownDetails": {"factor": 1.0, "threshold": 1}},
        {"scaleDownDetails": {"factor": 0, "threshold": 1}},
        {"scaleToZeroIdleTimeout": "PT0S"},
        {"scaleToZeroIdleTimeout": "P8D"},
        {"scaleToZeroIdleTimeout": "soon"},
    ],
)
async def test_row_41_autoscaling_that_breaks_a_rule(details: dict[str, Any]) -> None:
    """Each is 400, at creation and in a PATCH."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        created = await it.client.post(
            deployment_path(fid, vid), json=specs_body(a_spec(autoscalingConfiguration=details))
        )
        _, _, deployment = await it.a_deployment()
        patched = await it.client.patch(spec_path(deployment), json={"autoscalingConfiguration": details})

    assert (created.status_code, patched.status_code) == (400, 400)


async def test_row_42_listing_for_ngc_clients() -> None:
    """The list that NGC's gateway adds holds every deployment of the account, and none of others."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment()
        await it.a_function()
        path = "/v2/orgs/nvcf-default/nvcf/deployments"
        listed = await it.client.get(path)
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        empty = await it.client.get("/v2/orgs/other-account/teams/t/nvcf/deployments", headers=foreign)
        no_scope = bearer(await it.a_key(scopes=[s for s in USER_SCOPES if s != "deploy_function"]))
        denied = await it.client.get(path, headers=no_scope)

    assert listed.json() == {"deployments": [deployment]}
    assert empty.json() == {"deployments": []}
    assert denied.status_code == 403


async def test_a_failed_deployment_says_why_and_must_be_deleted() -> None:
    """ERROR carries healthInfo with the cause; deploying, PUT and PATCH are refused until it is deleted."""
    failure = Failure(FailureKind.IMAGE, "no such image; add it with gpufn image add", permanent=True)
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        await it.an_instance(deployment["deploymentId"], status=InstanceStatus.ERRORED, failure=failure)
        await it.observe(deployment["deploymentId"], failed_at=NOW, failure=failure.message)
        path = deployment_path(fid, vid)
        got = (await it.client.get(path)).json()["deployment"]
        refused = [
            await it.client.post(path, json=specs_body(a_spec())),
            await put(it, deployment, an_update(deployment, maxInstances=5)),
            await it.client.patch(spec_path(deployment), json={"maxInstances": 5}),
        ]
        await it.client.delete(path)
        again = await it.client.post(path, json=specs_body(a_spec()))

    assert got["functionStatus"] == "ERROR"
    assert failure.message in got["healthInfo"][0]["error"]
    assert "ON-PREM.GPU.H100_1x" in got["healthInfo"][0]["error"]
    assert [a.status_code for a in refused] == [400, 400, 400]
    assert all("delete the failed deployment" in a.json()["detail"] for a in refused)
    assert again.json()["deployment"]["functionStatus"] == "DEPLOYING"
    assert "healthInfo" not in again.json()["deployment"], "instances of an earlier deployment do not count"


async def test_a_restart_as_ngcsdk_does_it() -> None:
    """What GET answered can be sent back verbatim in a POST."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment(a_spec(autoscalingConfiguration=AUTOSCALING, backend="LOCAL"))
        path = deployment_path(fid, vid)
        await it.client.delete(path + "?graceful=true")
        answer = await it.client.post(path, json={"deploymentSpecifications": deployment["deploymentSpecifications"]})

    assert answer.status_code == 200
    again, before = (d["deploymentSpecifications"][0] for d in (answer.json()["deployment"], deployment))
    assert {k: v for k, v in again.items() if k != "gpuSpecificationId"} == {
        k: v for k, v in before.items() if k != "gpuSpecificationId"
    }
    assert before["backend"] == "local"
    assert a_body()["name"] == answer.json()["deployment"]["functionName"]

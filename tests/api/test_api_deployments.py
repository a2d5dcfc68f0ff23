"""Deployments: the conformance rows of the control-plane page, section 26, by their numbers."""

from __future__ import annotations

from typing import Any

import pytest
from api_building import (
    NOW,
    OTHER_ACCOUNT,
    RANDOM_ID,
    Installation,
    a_body,
    a_spec,
    an_installation,
    bearer,
    deployment_path,
    specs_body,
)

from gpufn.model.access import USER_SCOPES, Resource
from gpufn.model.instance import Failure, FailureKind, InstanceStatus
from gpufn.store import deployments

AUTOSCALING: dict[str, Any] = {
    "scaleUpDetails": {
        "metric": "worker_utilization",
        "factor": 1.5,
        "threshold": 80,
        "stickiness": {"size": "PT30M", "threshold": "PT5M"},
    },
    "scaleDownDetails": {"factor": 0.5, "threshold": 20},
}
T10 = {"gpu": "T10", "instanceType": "ON-PREM.GPU.T10_1x"}


def spec_path(deployment: dict[str, Any], position: int = 0) -> str:
    spec = deployment["deploymentSpecifications"][position]["gpuSpecificationId"]
    return f"/v2/nvcf/deployments/{deployment['deploymentId']}/gpu-specifications/{spec}"


def an_update(deployment: dict[str, Any], position: int = 0, **changes: Any) -> dict[str, Any]:
    """A PUT element: the specification as it was read, changed; a change to None leaves the member out."""
    update = deployment["deploymentSpecifications"][position] | changes
    return {k: v for k, v in update.items() if v is not None}


async def put(it: Installation, deployment: dict[str, Any], *updates: dict[str, Any]) -> Any:
    path = deployment_path(deployment["functionId"], deployment["functionVersionId"])
    return await it.client.put(path, json=specs_body(*updates))


async def test_row_29_deploying() -> None:
    """Two specifications deploy; what was given comes back with defaults; controllers are told (golden body)."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        it.hints.clear()
        answer = await it.client.post(
            deployment_path(fid, vid),
            json=specs_body(
                a_spec(autoscalingConfiguration=AUTOSCALING),
                a_spec(gpu="t10", instanceType=T10["instanceType"].lower()),
            ),
        )
        stored = await it.context.db.run(lambda tx: deployments.of_version(tx, vid))

    deployment = answer.json()["deployment"]
    first, second = deployment.pop("deploymentSpecifications")
    assert set(it.hints) == {("deployment", deployment.pop("deploymentId")), ("version", vid)}
    assert first.pop("gpuSpecificationId") != second.pop("gpuSpecificationId")
    assert deployment == {
        "functionId": fid,
        "functionVersionId": vid,
        "functionName": "echo",
        "ncaId": "nvcf-default",
        "functionStatus": "DEPLOYING",
        "createdAt": "2026-11-24T12:00:00.123Z",
        "lastUpdatedAt": "2026-11-24T12:00:00.123Z",
    }
    assert first == a_spec(
        maxRequestConcurrency=1, preferredOrder=1, autoscalingConfiguration=AUTOSCALING, cpuArch="amd64", os="linux"
    )
    assert second == a_spec(**T10, maxRequestConcurrency=1, preferredOrder=1)
    assert stored is not None
    assert [(s.desired, s.desired_reason) for s in stored.specifications] == [(1, "minimum"), (1, "minimum")]


async def test_row_29_deploying_twice() -> None:
    """The refusal has the exact text that reference tests compare, with the status of the moment."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        again = await it.client.post(deployment_path(fid, vid), json=specs_body(a_spec()))
        await it.observe(deployment["deploymentId"], activated_at=NOW)
        degraded = await it.client.post(deployment_path(fid, vid), json=specs_body(a_spec()))

    text = f"Function id '{fid}', version '{vid}': Status {{}}, use PATCH endpoint to update gpu-specification"
    assert (again.status_code, again.json()["detail"]) == (400, text.format("DEPLOYING"))
    assert (degraded.status_code, degraded.json()["detail"]) == (400, text.format("DEGRADED"))


@pytest.mark.parametrize(("minimums", "status"), [((0, 0), "ACTIVE"), ((0, 1), "DEPLOYING")])
async def test_row_30_scale_to_zero(minimums: tuple[int, int], status: str) -> None:
    """With every minimum 0 a deployment is ACTIVE at once."""
    async with an_installation() as it:
        _, _, deployment = await it.a_deployment(*(a_spec(minInstances=m) for m in minimums))

    assert deployment["functionStatus"] == status


@pytest.mark.parametrize(
    "spec",
    [
        a_spec(maxInstances=0),
        a_spec(minInstances=-1),
        a_spec(minInstances=3, maxInstances=2),
        a_spec(gpu=None),
        a_spec(gpu=" "),
        a_spec(gpu="H999"),
        a_spec(instanceType=None),
        a_spec(instanceType="ON-PREM.GPU.H100_3x"),
        a_spec(instanceType=T10["instanceType"]),
        a_spec(maxInstances=None),
        a_spec(minInstances=None),
        a_spec(maxRequestConcurrency=0),
        a_spec(maxRequestConcurrency=-1),
        a_spec(preferredOrder=100),
        a_spec(backend="nowhere"),
        a_spec(backend="local", clusters=["c"]),
        a_spec(configuration={"replicaCount": 2}),
        a_spec(helmValidationPolicy={"name": "Default"}),
        a_spec(maxInstances=10**30),
    ],
)
async def test_rows_31_and_32_specifications_that_break_a_rule(spec: dict[str, Any]) -> None:
    """Each is 400, and nothing is deployed."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        answer = await it.client.post(deployment_path(fid, vid), json=specs_body(a_spec(), spec))
        got = await it.client.get(deployment_path(fid, vid))

    assert (answer.status_code, got.status_code) == (400, 404)
    assert "deploymentSpecifications[1]" in answer.json()["detail"]


async def test_row_31_the_detail_of_a_limit() -> None:
    """The text names the field, the value and the limit."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        path = deployment_path(fid, vid)
        over = await it.client.post(path, json=specs_body(a_spec(maxRequestConcurrency=16385)))
        nothing = [
            (await it.client.post(path, json=b)).status_code for b in ({"deploymentSpecifications": None}, specs_body())
        ]

    assert all(word in over.text for word in ("maxRequestConcurrency", "16384", "16385"))
    assert nothing == [400, 400]


async def test_row_32_what_is_tolerated() -> None:
    """Duplicates, blanks, nulls and members that only answers have are taken."""
    async with an_installation() as it:
        odd = a_spec(backend="", gpuSpecificationId=RANDOM_ID, cpuArch="x", instanceCount=3) | {
            "clusters": ["", " ", "c1"],
            "regions": None,
            "configuration": None,
            "maxRequestConcurrency": None,
        }
        _, _, deployment = await it.a_deployment(odd, a_spec(), a_spec())

    first = deployment["deploymentSpecifications"][0]
    assert len(deployment["deploymentSpecifications"]) == 3
    assert first["clusters"] == ["c1"]
    assert first["gpuSpecificationId"] != RANDOM_ID
    assert not {"backend", "regions", "configuration"} & first.keys()


async def test_row_33_who_may_deploy_what() -> None:
    """An admin scope is no user scope (403), unknown and foreign versions are 404, no token is 401."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        path, body = deployment_path(fid, vid), specs_body(a_spec())
        admin = bearer(await it.a_key(scopes=["admin:deploy_function"]))
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        limited = bearer(await it.a_key(resources=[Resource("function", f"{RANDOM_ID}/*")]))
        answers = [
            await it.client.post(path, json=body, headers=admin),
            await it.client.post(path, json=body, headers=foreign),
            await it.client.post(deployment_path(fid, RANDOM_ID), json=body),
            await it.client.post(path, json=body, headers=limited),
            await it.client.post(path, json=body, headers={"Authorization": ""}),
        ]

    assert [a.status_code for a in answers] == [403, 404, 404, 403, 401]


async def test_functions_that_nothing_here_can_run() -> None:
    """A Helm chart and a function of models only are refused with the reason."""
    model = {
        "name": "m",
        "version": "1",
        "uri": "https://api.ngc.nvidia.com/v2/org/acme/models/m/1/files",
    }
    chart = {"helmChart": "oci://example.com/charts/rag:1", "helmChartServiceName": "entry"}
    async with an_installation() as it:
        details = []
        for changes in ({"models": [model]}, chart):
            fid, vid = await it.a_function(containerImage=None, **changes)
            answer = await it.client.post(deployment_path(fid, vid), json=specs_body(a_spec()))
            assert answer.status_code == 400
            details.append(answer.json()["detail"])

    assert "containerImage" in details[0]
    assert "Kubernetes" in details[1]


async def test_row_34_getting() -> None:
    """By version and by id; 404 with a JSON body where there is none, or it is somebody else's."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        undeployed = await it.a_function()
        foreign = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        by_id = f"/v2/nvcf/deployments/{deployment['deploymentId']}"
        limited = bearer(await it.a_key(resources=[Resource("function", f"{RANDOM_ID}/*")]))
        same = [(await it.client.get(path)).json()["deployment"] for path in (deployment_path(fid, vid), by_id)]
        answers = [
            await it.client.get(deployment_path(*undeployed)),
            await it.client.get(f"/v2/nvcf/deployments/{RANDOM_ID}"),
            await it.client.get(by_id, headers=foreign),
            await it.client.get(by_id, headers=limited),
            await it.client.get("/v2/nvcf/deployments/null"),
        ]

    assert same == [deployment, deployment]
    assert [a.status_code for a in answers] == [404, 404, 404, 403, 400]
    assert all(a.json()["detail"] for a in answers)


@pytest.mark.parametrize(
    "graceful", ["", *(f"?graceful={v}" for v in ["on", "yes", "1", "true", "off", "no", "0", "false"])]
)
async def test_row_35_undeploying(graceful: str) -> None:
    """200 with the function, INACTIVE; afterwards there is no deployment, and another DELETE is 404."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        it.hints.clear()
        answer = await it.client.delete(deployment_path(fid, vid) + graceful)
        got = await it.client.get(deployment_path(fid, vid))
        again = await it.client.delete(deployment_path(fid, vid))

    assert (answer.status_code, answer.json()["function"]["status"]) == (200, "INACTIVE")
    assert (got.status_code, again.status_code) == (404, 404)
    assert set(it.hints) == {("deployment", deployment["deploymentId"]), ("version", vid)}


async def test_row_36_undeploying_gracefully_with_work() -> None:
    """While what is queued is served the version is INACTIVE, keeps its deployment, and cannot be deployed again."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment(a_spec(minInstances=0))
        it.a_load(vid, queued=2)
        path = deployment_path(fid, vid)
        answer = await it.client.delete(path + "?graceful=true")
        got = await it.client.get(path)
        deployed = await it.client.post(path, json=specs_body(a_spec()))
        changed = await it.client.patch(spec_path(deployment), json={"minInstances": 1})
        replaced = await put(it, deployment, an_update(deployment))
        repeated = await it.client.delete(path + "?graceful=true")
        ended = await it.client.delete(path)
        afterwards = await it.client.post(path, json=specs_body(a_spec()))

    assert answer.json()["function"]["status"] == "INACTIVE"
    assert got.json()["deployment"]["functionStatus"] == "INACTIVE"
    assert deployed.status_code == 400
    assert "graceful" in deployed.json()["detail"]
    assert [changed.status_code, replaced.status_code] == [400, 400]
    assert [repeated.status_code, ended.status_code, afterwards.status_code] == [200, 200, 200]


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

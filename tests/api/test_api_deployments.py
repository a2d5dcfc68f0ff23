"""Deployments: the conformance rows of the control-plane page, section 26, by their numbers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from api_building import (
    AUTOSCALING,
    NOW,
    OTHER_ACCOUNT,
    RANDOM_ID,
    T10,
    a_spec,
    an_installation,
    an_update,
    bearer,
    deployment_path,
    put,
    spec_path,
    specs_body,
)

from gpufn.model.access import Resource
from gpufn.store import deployments


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


async def test_a_list_whose_only_member_is_refused_is_not_called_empty() -> None:
    """What is wrong is said once, of the member; not that none is left."""
    async with an_installation() as it:
        fid, vid = await it.a_function()
        body = specs_body(a_spec(minInstances=3, maxInstances=2))
        refused = await it.client.post(deployment_path(fid, vid), json=body)
        empty = await it.client.post(deployment_path(fid, vid), json=specs_body())

    assert "minInstances 3 must not be greater" in refused.json()["detail"]
    assert "at least 1 item" not in refused.json()["detail"]
    assert "at least 1 item" in empty.json()["detail"]


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


async def test_undeploying_gracefully_just_after_the_last_answer() -> None:
    """The gateways' reports are a moment old: a request that has just been answered keeps nothing from ending, so
    that the SDK's restart (undeploy gracefully, then deploy at once) goes through.
    """
    async with an_installation() as it:
        fid, vid, _ = await it.a_deployment()
        it.a_load(vid, in_flight=1)
        asyncio.get_running_loop().call_later(0.05, it.a_load, vid)
        answer = await it.client.delete(deployment_path(fid, vid) + "?graceful=true")
        again = await it.client.post(deployment_path(fid, vid), json=specs_body(a_spec()))

    assert (answer.status_code, again.status_code) == (200, 200)


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

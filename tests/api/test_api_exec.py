"""Commands beside an instance, under gpufn's path and ngcsdk's."""

from __future__ import annotations

from api_building import RANDOM_ID, an_installation, bearer

from gpufn.compute.backend import ExecResult
from gpufn.model.ids import DEFAULT_ACCOUNT


async def test_a_command_is_run_as_words_or_through_a_shell() -> None:
    """A list is run as it is, a text by /bin/sh; the answer has output and code."""
    async with an_installation() as it:
        fid, vid, deployment = await it.a_deployment()
        instance = await it.an_instance(deployment["deploymentId"])
        it.logs.result = ExecResult("hello\n", 3)
        path = f"/v2/gpufn/instances/{instance.id}/exec"
        words = await it.client.post(path, json={"command": ["echo", "hello"], "timeoutSeconds": 5})
        await it.client.post(path, json={"command": "echo hello"})
        query = f"instanceId={instance.id}&podName={instance.id}&containerName=inference&timeoutSeconds=7"
        ngc = f"/v2/orgs/{DEFAULT_ACCOUNT}/skyway/commands/functions/{fid}/versions/{vid}?{query}"
        sdk = await it.client.post(ngc, json={"command": "ls"})

    assert words.json() == {
        "instanceId": instance.id, "output": "hello\n", "exitCode": 3, "timedOut": False, "truncated": False,
    }  # fmt: skip
    assert sdk.status_code == 200
    assert it.logs.commands == [
        (("echo", "hello"), 5),
        (("/bin/sh", "-c", "echo hello"), 60),
        (("/bin/sh", "-c", "ls"), 7),
    ]


async def test_what_cannot_be_run_says_why() -> None:
    """Unknown 404, not running 409, junk 400, without the scope of deploying 403; time over has no code."""
    async with an_installation() as it:
        fid, _, deployment = await it.a_deployment()
        instance = await it.an_instance(deployment["deploymentId"])
        path = f"/v2/gpufn/instances/{instance.id}/exec"
        it.logs.result = None
        ended = await it.client.post(path, json={"command": ["ls"]})
        it.logs.result = ExecResult("", None)
        over = await it.client.post(path, json={"command": ["ls"]})
        unknown = await it.client.post(f"/v2/gpufn/instances/{RANDOM_ID}/exec", json={"command": ["ls"]})
        bodies: list[dict[str, object]] = [
            {"command": []}, {"command": ""}, {}, {"command": ["ls"], "timeoutSeconds": 301},
        ]  # fmt: skip
        junk = [(await it.client.post(path, json=body)).status_code for body in bodies]
        reader = bearer(await it.a_key(scopes=("list_functions_details",)))
        refused = await it.client.post(path, json={"command": ["ls"]}, headers=reader)
        _, other, _ = await it.a_deployment(name="other")
        ngc = f"/v2/orgs/{DEFAULT_ACCOUNT}/skyway/commands/functions/{fid}/versions/{other}?instanceId={instance.id}"
        mixed = await it.client.post(ngc, json={"command": "ls"})

    assert (ended.status_code, unknown.status_code, refused.status_code, mixed.status_code) == (409, 404, 403, 404)
    assert junk == [400, 400, 400, 400]
    assert over.json()["timedOut"] is True
    assert "exitCode" not in over.json()

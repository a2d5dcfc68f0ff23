"""``usage/gpus``: what the active tasks of an account use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api_building import OTHER_ACCOUNT, Installation, an_installation, bearer

from gpufn.model.task import TaskStatus, TaskWanted
from gpufn.store import tasks

GPU = {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x"}


async def launch(it: Installation) -> str:
    """The id of a new task."""
    body = {"name": "t", "gpuSpecification": GPU, "containerImage": "x", "resultHandlingStrategy": "NONE"}
    answer = await it.client.post("/v1/nvct/tasks", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task"]["id"])


async def write(it: Installation, task_id: str, **changes: Any) -> None:
    """Change a task as its controller, or a route, would."""

    def change(tx: Any) -> None:
        found = tasks.get(tx, task_id)
        assert found is not None
        tasks.save(tx, found, replace(found, updated_at=it.clock(), **changes))

    await it.context.db.run(change)


async def usage(it: Installation, account: str) -> Any:
    """What an admin is answered."""
    url = f"/v1/nvct/accounts/{account}/usage/gpus"
    answer = await it.client.get(url, headers=bearer(it.a_token(scopes=["admin:launch_task"])))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_every_active_task_counts_as_an_instance() -> None:
    """Check 24: queued, launched and running ones count; ended, canceled, deleted and others' tasks do not."""
    async with an_installation() as it:
        ids = [await launch(it) for _ in range(6)]
        now = it.clock()
        await write(it, ids[1], launched_at=now)
        await write(it, ids[2], launched_at=now, started_at=now, running_at=now)
        await write(it, ids[3], outcome=TaskStatus.COMPLETED)
        await write(it, ids[4], wanted=TaskWanted.CANCELED)
        await write(it, ids[5], wanted=TaskWanted.DELETED)

        (used,) = (await usage(it, "nvcf-default"))["gpus"]
        cluster = it.context.fleet.clusters.local

        assert {name: used[name] for name in GPU} == GPU
        assert (used["currentMaxUsage"], used["currentMinUsage"]) == (3, 3)
        (place,) = used["placements"]
        assert (place["clusterId"], place["clusterGroup"]) == (cluster.id, cluster.group_name)
        assert (place["currentMaxUsage"], place["currentMinUsage"]) == (3, 3)
        assert await usage(it, OTHER_ACCOUNT) == {"gpus": []}


async def test_only_an_admin_asks_for_usage() -> None:
    """Checks 24 and 28: a key is refused, whatever its scopes; an unknown account is 404."""
    async with an_installation() as it:
        admin = bearer(it.a_token(scopes=["admin:launch_task"]))
        refused = await it.client.get("/v1/nvct/accounts/nvcf-default/usage/gpus")
        unknown = await it.client.get("/v1/nvct/accounts/nobody/usage/gpus", headers=admin)

    assert (refused.status_code, unknown.status_code) == (403, 404)

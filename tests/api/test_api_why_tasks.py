"""``/v2/gpufn/why`` of tasks, and their logs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from api_building import OTHER_ACCOUNT, Installation, an_installation, bearer

from gpufn.model.access import Resource
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.task import TaskPhase, TaskStatus, TaskWanted
from gpufn.store import tasks

WHY = "/v2/gpufn/why"


async def launch(it: Installation, name: str) -> str:
    """The id of a new task."""
    body = {
        "name": name,
        "gpuSpecification": {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x"},
        "containerImage": "nvcr.io/acme/trainer:2.1",
        "resultHandlingStrategy": "NONE",
    }
    answer = await it.client.post("/v1/nvct/tasks", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task"]["id"])


async def change(it: Installation, task_id: str, **changes: Any) -> None:
    """Write what a controller would have observed of a task."""

    def write(tx: Any) -> None:
        found = tasks.get(tx, task_id)
        assert found is not None
        tasks.save(tx, found, replace(found, updated_at=it.clock(), **changes))

    await it.context.db.run(write)


async def test_a_queued_task_tells_its_place() -> None:
    """What it waits for, and behind how many; what was canceled is not counted."""
    async with an_installation() as it:
        ids = []
        for name in ("first", "second", "third"):
            ids.append(await launch(it, name))
            it.clock.advance(1)
        before = [(await it.client.get(f"{WHY}/{i}")).json()["sentence"] for i in ids]
        await change(it, ids[0], wanted=TaskWanted.CANCELED)
        after = (await it.client.get(f"{WHY}/task/{ids[2]}")).json()

    assert before == [
        "the task first waits for 1 x H100 since 3 s, first in the queue",
        "the task second waits for 1 x H100 since 2 s, behind 1 other",
        "the task third waits for 1 x H100 since 1 s, behind 2 others",
    ]
    assert (after["kind"], after["log"]) == ("task", [])
    assert after["sentence"].endswith("behind 1 other")


async def test_a_failed_task_is_explained_with_its_log() -> None:
    """The cause, the event of the status, and the last 50 lines of the newest attempt's log."""
    async with an_installation() as it:
        task_id, old, new = await launch(it, "train"), InstanceId(new_id()), InstanceId(new_id())
        it.logs.lines[old], it.logs.lines[new] = ["old"], [f"line {n}" for n in range(60)]
        ended: dict[str, Any] = {"phase": TaskPhase.ENDED, "past_instances": (old,), "instance_id": new, "failures": 2}
        await change(it, task_id, outcome=TaskStatus.ERRORED, error="exited with code 3", **ended)
        answer = (await it.client.get(f"{WHY}/{task_id}")).json()

    assert answer["sentence"] == "the task train failed: exited with code 3"
    assert answer["log"] == [f"line {n}" for n in range(10, 60)]
    assert any("from 'QUEUED' to 'ERRORED'" in f["value"] for f in answer["facts"] if f["name"] == "event")


async def test_why_of_a_task_is_within_the_reach_of_the_key() -> None:
    """Without its scope or its resource 403, and by id alone 404 as if it were not there; of another account, or
    deleted, 404.
    """
    async with an_installation() as it:
        task_id, gone = await launch(it, "train"), await launch(it, "gone")
        await change(it, gone, wanted=TaskWanted.DELETED)
        unscoped = bearer(await it.a_key(scopes=("list_functions_details",)))
        narrow = bearer(await it.a_key(resources=(Resource("task", new_id()),)))
        other = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        codes = [
            (await it.client.get(f"{WHY}/{path}", headers=headers)).status_code
            for headers in (unscoped, narrow, other)
            for path in (f"task/{task_id}", task_id)
        ]
        deleted = await it.client.get(f"{WHY}/{gone}")

    assert codes == [403, 404, 403, 403, 404, 404]
    assert deleted.status_code == 404


async def test_a_key_for_one_task_is_told_why() -> None:
    """Scope task_details and the task's resource are enough; of functions such a key is told nothing."""
    async with an_installation() as it:
        task_id = await launch(it, "train")
        fid, _ = await it.a_function()
        key = bearer(await it.a_key(scopes=("task_details",), resources=(Resource("task", task_id),)))
        paths = (task_id, f"task/{task_id}", f"function/{fid}", fid)
        codes = [(await it.client.get(f"{WHY}/{path}", headers=key)).status_code for path in paths]

    assert codes == [200, 200, 403, 404]


async def test_logs_of_every_attempt_are_kept() -> None:
    """The oldest attempt first, the last ``tail`` lines of each; another account's task is 404."""
    async with an_installation() as it:
        task_id, old, new = await launch(it, "train"), InstanceId(new_id()), InstanceId(new_id())
        it.logs.lines[old], it.logs.lines[new] = ["a", "b"], ["c", "d"]
        await change(it, task_id, past_instances=(old,), instance_id=new)
        path = f"/v2/gpufn/tasks/{task_id}/logs"
        whole, last = await it.client.get(path), await it.client.get(path, params={"tail": 1})
        foreign = await it.client.get(path, headers=bearer(await it.a_key(nca_id=OTHER_ACCOUNT)))

    assert [json.loads(line)["text"] for line in whole.text.splitlines()] == ["a", "b", "c", "d"]
    assert [json.loads(line)["instanceId"] for line in last.text.splitlines()] == [old, new]
    assert foreign.status_code == 404


async def test_following_goes_on_over_attempts() -> None:
    """With ``follow`` the lines of a later attempt come too, and the answer ends when the task has."""
    async with an_installation() as it:
        task_id, old, new = await launch(it, "train"), InstanceId(new_id()), InstanceId(new_id())
        it.logs.lines[old], it.logs.lines[new] = ["a"], ["b"]
        await change(it, task_id, phase=TaskPhase.PLACED, instance_id=old, launched_at=it.clock())
        path = f"/v2/gpufn/tasks/{task_id}/logs"
        async with asyncio.TaskGroup() as group:
            following = group.create_task(it.client.get(path, params={"follow": "true"}))
            await asyncio.sleep(0.05)
            await change(it, task_id, past_instances=(old,), instance_id=new, launched_at=None)
            await asyncio.sleep(0.05)
            assert not following.done()
            await change(it, task_id, launched_at=it.clock())
            await asyncio.sleep(0.6)
            await change(it, task_id, outcome=TaskStatus.COMPLETED, phase=TaskPhase.ENDED, ended_at=it.clock())

    assert [json.loads(line)["text"] for line in following.result().text.splitlines() if line] == ["a", "b"]


async def test_following_a_task_that_is_deleted_ends() -> None:
    """What is forgotten writes no more."""
    async with an_installation() as it:
        task_id = await launch(it, "train")
        async with asyncio.TaskGroup() as group:
            following = group.create_task(it.client.get(f"/v2/gpufn/tasks/{task_id}/logs", params={"follow": "true"}))
            await asyncio.sleep(0.05)
            await it.context.db.run(lambda tx: tasks.delete(tx, task_id))

    assert (following.result().status_code, following.result().text) == (200, "")

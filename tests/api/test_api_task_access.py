"""What ngcsdk asks for around a task: its log page by page, its live instance, that one's lines, commands in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from api_building import OTHER_ACCOUNT, RANDOM_ID, Installation, an_installation, bearer

from gpufn.compute.backend import ExecResult
from gpufn.model.access import Resource
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.task import TaskPhase, TaskStatus
from gpufn.store import tasks

LOGS, SKYWAY = "/v2/orgs/nvcf-default/nvct/logs", "/v2/orgs/nvcf-default/skyway"
BODY = {
    "name": "finetune-1",
    "gpuSpecification": {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x"},
    "containerImage": "nvcr.io/acme/trainer:2.1",
    "resultHandlingStrategy": "NONE",
}


async def a_running_task(it: Installation, **changes: Any) -> tuple[str, InstanceId]:
    """A task that runs, and its instance."""
    task_id: str = (await it.client.post("/v1/nvct/tasks", json=BODY)).json()["task"]["id"]
    instance, now = InstanceId(new_id()), it.clock()
    running: dict[str, Any] = {
        "phase": TaskPhase.PLACED,
        "instance_id": instance,
        "launched_at": now,
        "started_at": now,
    }

    def write(tx: Any) -> None:
        found = tasks.get(tx, task_id)
        assert found is not None
        tasks.save(tx, found, replace(found, **running | {"running_at": now} | changes))

    await it.context.db.run(write)
    return task_id, instance


def window(it: Installation) -> dict[str, Any]:
    """The last hour, as ngcsdk asks for it."""
    now, form = it.clock(), "%Y-%m-%d %H:%M:%S"
    times = {"start": (now - timedelta(hours=1)).strftime(form), "end": now.strftime(form)}
    return {"parameters": [{"name": n, "value": v} for n, v in times.items()]}


async def test_a_log_in_pages() -> None:
    """The query answers the first hundred lines and how many pages there are; each other page is read by the id."""
    async with an_installation() as it:
        task_id, instance = await a_running_task(it)
        it.logs.lines[instance] = [f"line {n}" for n in range(250)]
        first = (await it.client.post(f"{LOGS}/tasks/{task_id}", json=window(it))).json()
        rest = [
            (await it.client.get(f"{LOGS}/{first['jobId']}", params={"page": n, "page_size": 100})).json()
            for n in (2, 3, 4)
        ]

    assert first["metadata"] == {"page": 1, "totalPages": 3}
    assert [len(page["data"]) for page in (first, *rest)] == [100, 100, 50, 0]
    assert rest[1]["data"][-1] == {"message": "line 249", "instanceId": instance}
    assert it.logs.since == (it.clock() - timedelta(hours=1)).replace(microsecond=0)


async def test_a_task_that_wrote_nothing() -> None:
    """No page, no data; a window need not be given."""
    async with an_installation() as it:
        task_id, _ = await a_running_task(it)
        answer = await it.client.post(f"{LOGS}/tasks/{task_id}", json={})

    assert (answer.json()["metadata"], answer.json()["data"]) == ({"page": 1, "totalPages": 0}, [])


@pytest.mark.parametrize(
    ("value", "status"),
    [("2026-01-02 03:04:05", 200), ("2026-01-02T03:04:05Z", 200), ("yesterday", 400), ("1900-01-01 00:00:00", 400)],
)
async def test_times_of_a_query(value: str, status: int) -> None:
    """What is no time, or before 1970, is 400 and says so."""
    async with an_installation() as it:
        task_id, _ = await a_running_task(it)
        body = {"parameters": [{"name": "start", "value": value}, {"name": "helm", "value": True}]}
        answer = await it.client.post(f"{LOGS}/tasks/{task_id}", json=body)

    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("job", ["x", f"{RANDOM_ID}.a.b", f"{RANDOM_ID}.1", f"{RANDOM_ID}.²."])
async def test_a_query_that_nobody_made(job: str) -> None:
    """An id that we did not give, or one of a task that is not there, is 404."""
    async with an_installation() as it:
        assert (await it.client.get(f"{LOGS}/{job}")).status_code == 404


async def test_the_live_instance_of_a_task() -> None:
    """Check 43: with an instance instances[] and backend; without one it is refused, as the reference does."""
    async with an_installation() as it:
        task_id, instance = await a_running_task(it)
        over, _ = await a_running_task(it, outcome=TaskStatus.COMPLETED)
        answer = await it.client.get(f"{SKYWAY}/instances/tasks/{task_id}")
        none = await it.client.get(f"{SKYWAY}/instances/tasks/{over}")

    assert answer.json() == {
        "taskId": task_id,
        "backend": "local",
        "instances": [
            {
                "instanceId": instance,
                "state": "RUNNING",
                "location": "local",
                "instanceType": "ON-PREM.GPU.H100_1x",
                "podName": instance,
                "containerName": "inference",
            }
        ],
    }
    assert (none.status_code, none.json()["detail"]) == (403, f"No active instances for the task ID: {over}")


async def test_lines_of_an_instance_as_events() -> None:
    """Each line is an event; an instance that the task never had is 404."""
    async with an_installation() as it:
        task_id, instance = await a_running_task(it, outcome=TaskStatus.COMPLETED, ended_at=it.clock())
        it.logs.lines[instance] = ["a", "b"]
        path = f"{SKYWAY}/logs/tasks/{task_id}"
        answer = await it.client.get(path, params={"instanceId": instance, "since": "1h", "timeout": 20})
        unknown = await it.client.get(path, params={"instanceId": RANDOM_ID})

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == "data: a\n\ndata: b\n\n"
    assert unknown.status_code == 404


async def test_a_command_beside_a_task() -> None:
    """It runs through a shell in the live instance and in no other; without one it is refused."""
    async with an_installation() as it:
        task_id, instance = await a_running_task(it)
        over, gone = await a_running_task(it, outcome=TaskStatus.COMPLETED)
        it.logs.result = ExecResult("done\n", 0)

        async def command(task: str, where: str) -> tuple[int, dict[str, Any]]:
            url = f"{SKYWAY}/commands/tasks/{task}"
            answer = await it.client.post(url, params={"instanceId": where}, json={"command": "echo done"})
            return answer.status_code, answer.json()

        done = await command(task_id, instance)
        others = [(await command(task_id, RANDOM_ID))[0], (await command(over, gone))[0]]

    assert done[0] == 200
    assert (done[1]["output"], done[1]["exitCode"]) == ("done\n", 0)
    assert it.logs.commands == [(("/bin/sh", "-c", "echo done"), 60.0)]
    assert others == [404, 403]


async def test_who_may_look_into_a_task() -> None:
    """Its own scope for each, and a reach over the task; another account's task is 404."""
    async with an_installation() as it:
        task_id, instance = await a_running_task(it)
        keys = {
            scope: await it.a_key(scopes=(scope,), resources=(Resource("task", task_id),))
            for scope in ("list_tasks", "launch_task", "task_details")
        }
        narrow = await it.a_key(resources=(Resource("task", RANDOM_ID),))
        foreign = await it.a_key(nca_id=OTHER_ACCOUNT)
        it.logs.result = ExecResult("", 0)

        async def statuses(key: str) -> list[int]:
            headers, where = bearer(key), {"instanceId": instance}
            logs = await it.client.post(f"/v1/nvct/logs/tasks/{task_id}", json={}, headers=headers)
            seen = await it.client.get(f"/v2/skyway/instances/tasks/{task_id}", headers=headers)
            url = f"/v2/skyway/commands/tasks/{task_id}"
            ran = await it.client.post(url, params=where, json={"command": "true"}, headers=headers)
            return [logs.status_code, seen.status_code, ran.status_code]

        found = {name: await statuses(key) for name, key in (keys | {"narrow": narrow, "foreign": foreign}).items()}

    assert found == {
        "list_tasks": [403, 200, 403],
        "launch_task": [403, 403, 200],
        "task_details": [200, 403, 403],
        "narrow": [403, 403, 403],
        "foreign": [404, 404, 404],
    }

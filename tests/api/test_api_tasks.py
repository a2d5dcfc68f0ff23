"""Tasks over the API: the checks at the end of the tasks page that concern it, by their numbers there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from api_building import (
    OTHER_ACCOUNT,
    RANDOM_ID,
    Installation,
    an_installation,
    bearer,
)

from gpufn.api.throttle import Throttle
from gpufn.model.access import ALL_FUNCTIONS, Resource
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.task import Task, TaskPhase, TaskResult, TaskStatus
from gpufn.store import tasks

TASKS = "/v1/nvct/tasks"
GPU = {"gpu": "H100", "instanceType": "ON-PREM.GPU.H100_1x"}


@pytest.fixture
async def it() -> AsyncIterator[Installation]:
    async with an_installation() as installation:
        yield installation


def a_task_body(**changes: Any) -> dict[str, Any]:
    """The smallest container task; a change to None leaves the member out."""
    body: dict[str, Any] = {
        "name": "finetune-1",
        "gpuSpecification": GPU,
        "containerImage": "nvcr.io/acme/trainer:2.1",
        "resultHandlingStrategy": "NONE",
    }
    return {k: v for k, v in (body | changes).items() if v is not None}


async def launch(it: Installation, **changes: Any) -> dict[str, Any]:
    """A launched task, as it was answered."""
    answer = await it.client.post(TASKS, json=a_task_body(**changes))
    assert answer.status_code == 200, answer.text
    task: dict[str, Any] = answer.json()["task"]
    return task


async def refused(it: Installation, **changes: Any) -> str:
    """The detail of the refusal of a body."""
    answer = await it.client.post(TASKS, json=a_task_body(**changes))
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail


async def observe(it: Installation, task_id: str, **changes: Any) -> None:
    """Write what a controller would have observed of a task."""

    def write(tx: Any) -> None:
        found = tasks.get(tx, task_id)
        assert found is not None
        tasks.save(tx, found, replace(found, updated_at=it.clock(), **changes))

    await it.context.db.run(write)


async def running(it: Installation, task_id: str) -> None:
    """The task runs."""
    now = it.clock()
    await observe(it, task_id, instance_id=InstanceId(new_id()), launched_at=now, started_at=now, running_at=now)


async def events(it: Installation, task_id: str) -> list[str]:
    """The messages of a task's events."""
    answer = await it.client.get(f"{TASKS}/{task_id}/events")
    assert answer.status_code == 200, answer.text
    return [e["message"] for e in answer.json()["events"]]


async def test_a_task_is_created_queued_with_the_defaults(it: Installation) -> None:
    """Check 1: 200, QUEUED, PT72H to wait, PT1H to end, its GPUs as the catalogue spells them; no event."""
    task = await launch(it, gpuSpecification={"gpu": "h100", "instanceType": "on-prem.gpu.h100_1x"})

    assert task["status"] == "QUEUED"
    assert (task["maxQueuedDuration"], task["terminationGracePeriodDuration"]) == ("PT72H", "PT1H")
    assert task["gpuSpecification"] == GPU
    assert "maxRuntimeDuration" not in task
    assert "instances" not in task
    assert await events(it, task["id"]) == []
    assert ("task-queue", "H100") in it.hints


async def test_everything_given_comes_back(it: Installation) -> None:
    """A task is shown as it was launched."""
    given = {
        "containerArgs": "--epochs 3",
        "containerEnvironment": [{"key": "STEPS", "value": "10"}],
        "maxRuntimeDuration": "PT4H",
        "terminationGracePeriodDuration": "PT10M",
        "maxQueuedDuration": "PT1H",
        "tags": ["team:ml", "run=7"],
        "description": "a run",
        "models": [
            {
                "name": "m",
                "version": "1",
                "uri": "https://api.ngc.nvidia.com/v2/org/acme/models/m/1/files",
            }
        ],
    }
    task = await launch(it, **given)
    answer = await it.client.get(f"{TASKS}/{task['id']}")

    for shown in (task, answer.json()["task"]):
        assert {name: shown[name] for name in given} == given


async def test_who_may_launch(it: Installation) -> None:
    """Checks 2 and 3: no token 401, another scope 403, a key that is limited to nothing of tasks 403."""
    anonymous = await it.client.post(TASKS, json=a_task_body(), headers={"Authorization": ""})
    lister = await it.a_key(scopes=("list_tasks",))
    without = await it.a_key(resources=ALL_FUNCTIONS)
    with_all = await it.a_key(scopes=("launch_task",))

    async def status(key: str) -> tuple[int, str]:
        answer = await it.client.post(TASKS, json=a_task_body(), headers=bearer(key))
        return answer.status_code, answer.json().get("detail", "")

    assert anonymous.status_code == 401
    assert (await status(lister))[0] == 403
    assert await status(without) == (403, "Forbidden to create task")
    assert (await status(with_all))[0] == 200


@pytest.mark.parametrize(
    "spec",
    [
        None,
        GPU | {"gpu": " "},
        GPU | {"instanceType": ""},
        GPU | {"gpu": "NOPE"},
        GPU | {"instanceType": "NOPE"},
        GPU | {"backend": "elsewhere"},
    ],
)
async def test_a_gpu_that_is_not_there(it: Installation, spec: dict[str, Any] | None) -> None:
    """Check 4: a missing or unknown GPU, instance type or backend is 400."""
    await refused(it, gpuSpecification=spec)


async def test_a_backend_may_be_left_out(it: Installation) -> None:
    """Check 4: without backend, and with clusters only, a task is accepted; so it is with the group's name."""
    await launch(it)
    await launch(it, gpuSpecification=GPU | {"clusters": ["anything"]})
    await launch(it, gpuSpecification=GPU | {"backend": "LOCAL"})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("tags", [str(n) for n in range(65)]),
        ("tags", ["x" * 129]),
        ("tags", ["a b"]),
        ("description", "x" * 257),
        ("name", "-x"),
        ("name", "x" * 129),
        ("name", "a b"),
        ("containerEnvironment", [{"key": "A-B", "value": "1"}]),
        ("containerEnvironment", [{"key": "A B", "value": "1"}]),
        ("containerEnvironment", [{"key": "A$", "value": "1"}]),
        ("containerEnvironment", [{"key": "A", "value": " "}]),
        ("telemetries", {}),
        ("models", [{"name": "m", "version": "1"}]),
        ("maxRuntimeDuration", "forever"),
        ("maxRuntimeDuration", "P999999999D"),
    ],
)
async def test_members_that_break_their_limits(it: Installation, member: str, value: Any) -> None:
    """Checks 5, 6, 12, 16: each is 400 and names the member."""
    assert member in await refused(it, **{member: value})


async def test_a_tag_with_its_signs(it: Installation) -> None:
    """Check 5: a namespaced tag is accepted."""
    assert (await launch(it, tags=["namespace:key=value"]))["tags"] == ["namespace:key=value"]


async def test_durations(it: Installation) -> None:
    """Check 8: none may be zero, and the grace period, PT1H where none is given, fits into the runtime."""
    too_long = "Invalid request: 'terminationGracePeriodDuration' cannot exceed 'maxRuntimeDuration'"
    for field in ("maxRuntimeDuration", "terminationGracePeriodDuration", "maxQueuedDuration"):
        assert await refused(it, **{field: "PT0S"}) == f"Invalid request: '{field}' cannot be of zero length"
    both = {"maxRuntimeDuration": "PT1H", "terminationGracePeriodDuration": "PT2H"}
    assert await refused(it, **both) == too_long
    assert await refused(it, maxRuntimeDuration="PT30M") == too_long
    await launch(it, maxRuntimeDuration="PT30M", terminationGracePeriodDuration="PT5M")


async def test_backend_gfn(it: Installation) -> None:
    """Check 7: there a runtime must be given, of at most eight hours."""
    it.context.fleet.learn([replace(it.context.fleet.clusters.local, group_name="GFN")])
    spec = GPU | {"backend": "GFN"}

    assert "must be specified" in await refused(it, gpuSpecification=spec)
    assert "cannot exceed PT8H" in await refused(it, gpuSpecification=spec, maxRuntimeDuration="PT9H")
    await launch(it, gpuSpecification=spec, maxRuntimeDuration="PT8H")


async def test_without_results_nothing_about_them_matters(it: Installation) -> None:
    """Check 11: with strategy NONE any location will do."""
    task = await launch(it, resultsLocation="orgA")
    assert task["resultsLocation"] == "orgA"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpuSpecification": GPU | {"configuration": {"a": 1}}}, "should have empty configuration field"),
        (
            {"gpuSpecification": GPU | {"helmValidationPolicy": {"name": "Default"}}},
            "should have empty helmValidationPolicy field",
        ),
        ({"containerImage": None}, "One of the following properties 'containerImage' or 'helmChart'"),
        ({"helmChart": "https://x/y.tgz"}, "Cannot specify both 'helmChart' and 'containerImage'"),
        (
            {"containerImage": None, "helmChart": "https://x/y.tgz", "containerArgs": "-v"},
            "Cannot specify both 'helmChart' and 'containerArgs'",
        ),
        (
            {
                "containerImage": None,
                "helmChart": "https://x/y.tgz",
                "containerEnvironment": [{"key": "A", "value": "1"}],
            },
            "Cannot specify both 'helmChart' and 'containerEnvironment'",
        ),
        ({"containerImage": None, "helmChart": "https://x/y.tgz"}, "no Kubernetes"),
        ({"containerImage": None, "helmChart": "ftp://x/y.tgz"}, "helmChart"),
        ({"containerImage": None, "helmChart": "file:///y.tgz"}, "helmChart"),
        ({"gpuSpecification": GPU | {"helmValidationPolicy": {"name": None}}}, "helmValidationPolicy"),
        (
            {"gpuSpecification": GPU | {"helmValidationPolicy": {"name": "Default", "extraKubernetesTypes": []}}},
            "extraKubernetesTypes",
        ),
    ],
)
async def test_containers_and_charts(it: Installation, change: dict[str, Any], words: str) -> None:
    """Checks 13, 14 and 15: what belongs to charts only, and what cannot be given together."""
    assert words in await refused(it, **change)


async def test_pages_of_tasks(it: Installation) -> None:
    """Checks 19 and 20: limit and cursor appear only with another page; what is no cursor or limit is 400."""
    made = []
    for n in range(3):
        it.clock.advance(1)
        made.append((await launch(it, name=f"t{n}"))["id"])
    first = (await it.client.get(TASKS, params={"limit": 2})).json()
    second = (await it.client.get(TASKS, params={"limit": 2, "cursor": first["cursor"]})).json()
    bad = await it.client.get(TASKS, params={"cursor": "zz"})

    assert [t["id"] for t in first["tasks"] + second["tasks"]] == made[::-1]
    assert first["limit"] == 2
    assert second.keys() == {"tasks"}
    assert not any({"secrets", "instances"} & t.keys() for t in first["tasks"])
    assert (await it.client.get(TASKS, params={"limit": 0})).status_code == 400
    assert (bad.status_code, bad.json()["detail"]) == (400, "Invalid cursor: 'zz'")


async def test_tasks_by_status(it: Installation) -> None:
    """Check 20: a status filters, compared without case; an unknown one is 400."""
    task = await launch(it)
    await launch(it)
    await observe(it, task["id"], outcome=TaskStatus.COMPLETED)

    answer = await it.client.get(TASKS, params={"status": "completed"})

    assert [t["id"] for t in answer.json()["tasks"]] == [task["id"]]
    assert (await it.client.get(TASKS, params={"status": "done"})).status_code == 400


async def test_what_is_not_there(it: Installation) -> None:
    """Check 21: an unknown id and one of another account are 404, what is no id is 400."""
    task = await launch(it)
    foreign = await it.a_key(nca_id=OTHER_ACCOUNT)

    unknown = await it.client.get(f"{TASKS}/{RANDOM_ID}")
    other = await it.client.get(f"{TASKS}/{task['id']}", headers=bearer(foreign))

    assert (unknown.status_code, unknown.json()["detail"]) == (404, f"Task id '{RANDOM_ID}': Not found")
    assert other.status_code == 404
    assert other.json()["detail"] == f"Task id '{task['id']}': Not found in account '{OTHER_ACCOUNT}'"
    assert (await it.client.get(f"{TASKS}/abc")).status_code == 400


async def test_a_key_for_one_task(it: Installation) -> None:
    """Check 22: it sees that task alone; another one is 403, whatever is asked of it."""
    own, other = await launch(it), await launch(it)
    key = bearer(await it.a_key(resources=(Resource("task", own["id"]),)))

    listed = await it.client.get(TASKS, headers=key)
    assert [t["id"] for t in listed.json()["tasks"]] == [own["id"]]
    assert (await it.client.get(f"{TASKS}/{own['id']}", headers=key)).status_code == 200
    for method, path, words in (
        ("GET", "", "Insufficient resource access for task details"),
        ("POST", "/cancel", "Insufficient resource access to cancel task"),
        ("DELETE", "", "Insufficient resource access to delete task"),
        ("GET", "/events", f"Task '{other['id']}': Forbidden to list events"),
        ("GET", "/results", f"Task '{other['id']}': Forbidden to list results"),
    ):
        answer = await it.client.request(method, f"{TASKS}/{other['id']}{path}", headers=key)
        assert (answer.status_code, answer.json()["detail"]) == (403, words)


async def test_bulk(it: Installation) -> None:
    """Check 23: none is 400, one unknown 404 for all, else account, id, name and status."""
    task = await launch(it)

    async def bulk(ids: Any) -> Any:
        return await it.client.post(f"{TASKS}/bulk", json={"taskIds": ids})

    answer = await bulk([task["id"]])
    assert answer.json() == {
        "ncaId": "nvcf-default",
        "tasks": [{"id": task["id"], "name": "finetune-1", "status": "QUEUED"}],
    }
    assert (await bulk([])).status_code == 400
    assert (await bulk(None)).status_code == 400
    assert (await bulk([task["id"], RANDOM_ID])).status_code == 404


async def test_cancel(it: Installation) -> None:
    """Check 25: whatever has not ended is CANCELED, with an event that says from where; what has ended is 400."""
    queued, at_work = await launch(it), await launch(it)
    await running(it, at_work["id"])

    for task, was in ((queued, "QUEUED"), (at_work, "RUNNING")):
        answer = await it.client.post(f"{TASKS}/{task['id']}/cancel")
        assert (answer.status_code, answer.json()["task"]["status"]) == (200, "CANCELED")
        assert f"Changing status from '{was}' to 'CANCELED'" in await events(it, task["id"])
        assert ("task", task["id"]) in it.hints

    again = await it.client.post(f"{TASKS}/{queued['id']}/cancel")
    words = "Invalid request: Cannot cancel a Task with 'CANCELED' terminal status"
    assert (again.status_code, again.json()["detail"]) == (400, words)


async def test_delete(it: Installation) -> None:
    """Check 26: a running task is gone at once, with its events; a second delete is 404."""
    task = await launch(it)
    await running(it, task["id"])

    assert (await it.client.delete(f"{TASKS}/{task['id']}")).status_code == 204
    assert (await it.client.get(f"{TASKS}/{task['id']}")).status_code == 404
    assert (await it.client.get(f"{TASKS}/{task['id']}/events")).status_code == 404
    assert (await it.client.delete(f"{TASKS}/{task['id']}")).status_code == 404
    assert (await it.client.get(TASKS)).json() == {"tasks": []}


async def test_an_instance_is_shown_while_there_is_one(it: Installation) -> None:
    """Section 3.3: instances of a running task, healthInfo of one that failed, and then no instances."""
    task = await launch(it)
    await observe(it, task["id"], phase=TaskPhase.PLACED)
    await running(it, task["id"])
    shown = (await it.client.get(f"{TASKS}/{task['id']}")).json()["task"]
    assert [i["instanceState"] for i in shown["instances"]] == ["RUNNING"]

    it.clock.advance(1)
    await observe(it, task["id"], outcome=TaskStatus.ERRORED, error="it broke")
    shown = (await it.client.get(f"{TASKS}/{task['id']}")).json()["task"]
    assert shown["healthInfo"] == {
        "gpu": "H100",
        "backend": "local",
        "instanceType": "ON-PREM.GPU.H100_1x",
        "error": "it broke",
    }
    assert "instances" not in shown
    assert (await events(it, task["id"]))[-1] == "Changing status from 'RUNNING' to 'ERRORED' with error 'it broke'"


async def test_pages_of_events_and_results(it: Installation) -> None:
    """Section 4: both are read page by page, oldest first, with the account's id in each."""
    task = await launch(it)

    def write(tx: Any) -> None:
        found: Task | None = tasks.get(tx, task["id"])
        assert found is not None
        for n in range(3):
            it.clock.advance(1)
            tasks.add_event(tx, found.id, f"event {n}", it.clock())
            tasks.add_result(tx, TaskResult(new_id(), found.id, f"r{n}", {"percentComplete": n}, it.clock()))

    await it.context.db.run(write)
    for kind, member in (("events", "message"), ("results", "name")):
        url = f"{TASKS}/{task['id']}/{kind}"
        first = (await it.client.get(url, params={"limit": 2})).json()
        rest = (await it.client.get(url, params={"cursor": first["cursor"]})).json()
        found = first[kind] + rest[kind]
        assert [e[member][-1] for e in found] == ["0", "1", "2"]
        assert {e["ncaId"] for e in found} == {"nvcf-default"}
        assert rest.keys() == {kind}


async def test_a_burst_is_slowed_down(it: Installation) -> None:
    """Check 29: beyond the rate of the account the answer is 429 and says so."""
    object.__setattr__(it.context, "task_rate", Throttle(2.0, now=lambda: 0.0))

    answers = [await it.client.get(TASKS) for _ in range(3)]

    assert [a.status_code for a in answers] == [200, 200, 429]
    assert answers[-1].json()["detail"] == "Account 'nvcf-default': Too many requests. Slow down."


async def test_the_org_form(it: Installation) -> None:
    """Section 11: what ngcsdk calls below its org answers the same; another org is refused."""
    made = await it.client.post("/v2/orgs/nvcf-default/nvct/tasks", json=a_task_body())
    assert made.status_code == 200
    got = await it.client.get(f"/v2/orgs/nvcf-default/teams/t/nvct/tasks/{made.json()['task']['id']}")
    assert got.json()["task"]["name"] == "finetune-1"
    assert (await it.client.get("/v2/orgs/someone/nvct/tasks")).status_code == 403


async def test_a_preflight_needs_no_key(it: Installation) -> None:
    """Check 44: OPTIONS with an origin is 200, echoes it and allows credentials."""
    answer = await it.client.options(
        TASKS, headers={"Authorization": "", "Origin": "https://x.test", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://x.test"
    assert answer.headers["access-control-allow-credentials"] == "true"

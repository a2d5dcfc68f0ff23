"""Secrets, results, telemetries and admins of tasks: checks at the end of the tasks page, by their numbers there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from api_building import OTHER_ACCOUNT, RANDOM_ID, Installation, an_installation, bearer
from test_api_tasks import GPU, TASKS, a_task_body, launch, refused

from gpufn.api.throttle import Throttle
from gpufn.model.errors import Unavailable
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.model.task import TaskStatus
from gpufn.store import tasks
from gpufn.store.database import Transaction

KEY = {"name": "NGC_API_KEY", "value": "nvapi-x"}
DB = {"name": "DB", "value": {"user": "u"}}


@pytest.fixture
async def it() -> AsyncIterator[Installation]:
    async with an_installation() as installation:
        yield installation


def an_upload(**changes: Any) -> dict[str, Any]:
    """What a task that keeps results is launched with."""
    return {"resultHandlingStrategy": "UPLOAD", "resultsLocation": "acme/ckpt", "secrets": [KEY, DB]} | changes


async def test_a_task_with_results_is_created(it: Installation) -> None:
    """Check 1: UPLOAD is 200 and QUEUED; the secrets are their names."""
    task = await launch(it, **an_upload())

    assert (task["status"], task["resultsLocation"]) == ("QUEUED", "acme/ckpt")
    assert sorted(task["secrets"]) == ["DB", "NGC_API_KEY"]


@pytest.mark.parametrize("strategy", ["UPLOAD", None])
async def test_results_need_a_key_and_a_place(it: Installation, strategy: str | None) -> None:
    """Check 9: UPLOAD, which is the default, needs secrets, NGC_API_KEY among them in any case, and a location."""
    given = an_upload(resultHandlingStrategy=strategy)
    missing = "Missing secrets with  default or UPLOAD 'resultHandlingStrategy'"

    assert await refused(it, **given | {"secrets": None}) == missing
    assert await refused(it, **given | {"secrets": [DB]}) == "Missing 'NGC_API_KEY' secret key in the payload"
    assert await refused(it, **given | {"resultsLocation": " "}) == "Missing 'resultsLocation' property"
    await launch(it, **given | {"secrets": [KEY | {"name": "ngc_api_key"}]})


@pytest.mark.parametrize("location", ["orgA", "orgA/", "orgA/teamB/", "orgA/teamB/modelC/", "a/b/c/d", "a/" + "m" * 65])
async def test_a_location_that_is_none(it: Installation, location: str) -> None:
    """Check 10: what does not look like org/model or org/team/model is 400; there is no organisation to be unknown."""
    assert "resultsLocation" in await refused(it, **an_upload(resultsLocation=location))


@pytest.mark.parametrize("location", ["orgA/modelB", "orgA/teamB/modelC", "a/" + "m" * 64])
async def test_a_location(it: Installation, location: str) -> None:
    """Check 10: an organisation, a team if wanted, and a model."""
    assert (await launch(it, **an_upload(resultsLocation=location)))["resultsLocation"] == location


@pytest.mark.parametrize(
    "secrets",
    [
        [{"name": "n" * 49, "value": "v"}],
        [{"name": "", "value": "v"}],
        [{"name": "a b", "value": "v"}],
        [{"name": "A", "value": ""}],
        [{"name": "A", "value": "  "}],
        [{"name": "A", "value": "v" * 32769}],
        [{"name": "A", "value": {"k": "v" * 32769}}],
        [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
    ],
)
async def test_secrets_that_break_their_limits(it: Installation, secrets: list[dict[str, Any]]) -> None:
    """Check 17: a bad name, an empty or too long value, a name twice: 400."""
    assert "ecrets" in await refused(it, secrets=secrets)


async def test_secrets_at_their_limits(it: Installation) -> None:
    """Check 17: 48 characters of name, 32768 of value, and an object as a value are accepted."""
    given = [{"name": "n" * 48, "value": "v" * 32768}, DB]
    assert len((await launch(it, secrets=given))["secrets"]) == 2


async def test_secrets_are_named_where_they_may_be(it: Installation) -> None:
    """Check 21: get names them unless told not to; no answer has a value, and no list has names."""
    task = await launch(it, secrets=[KEY, DB])
    url = f"{TASKS}/{task['id']}"
    shown = await it.client.get(url)
    hidden = (await it.client.get(url, params={"includeSecrets": "false"})).json()["task"]
    listed = await it.client.get(TASKS)

    assert sorted(shown.json()["task"]["secrets"]) == ["DB", "NGC_API_KEY"]
    assert "secrets" not in hidden
    assert all("nvapi-x" not in answer.text for answer in (shown, listed))
    assert "secrets" not in listed.json()["tasks"][0]


async def test_what_cannot_be_recorded_is_not_there(it: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check 18: when a task cannot be put into the queue the answer says so, and nothing of it is left."""
    plain = tasks.insert

    def full(tx: Transaction, task: Any) -> None:
        plain(tx, task)
        raise Unavailable("the disk is full")

    monkeypatch.setattr(tasks, "insert", full)
    answer = await it.client.post(TASKS, json=a_task_body(secrets=[DB]))

    assert (answer.status_code, "the disk is full" in answer.text) == (503, True)
    assert (await it.client.get(TASKS)).json() == {"tasks": []}
    assert it.hints == []


async def put(it: Installation, task_id: str, body: Any, key: str | None = None) -> tuple[int, str]:
    """Update secrets; the status and the detail."""
    headers = bearer(key) if key else {}
    answer = await it.client.put(f"/v1/nvct/secrets/tasks/{task_id}", json=body, headers=headers)
    return answer.status_code, answer.json().get("detail", "") if answer.content else ""


async def names(it: Installation, task_id: str) -> list[str]:
    """The names of a task's secrets."""
    return sorted((await it.client.get(f"{TASKS}/{task_id}")).json()["task"].get("secrets", []))


async def test_secrets_are_merged_by_name(it: Installation) -> None:
    """Check 27: 204; new ones are added, old ones kept, and controllers are told."""
    task = await launch(it, secrets=[KEY])

    assert await put(it, task["id"], {"secrets": [DB]}) == (204, "")
    assert await put(it, task["id"], {"secrets": [KEY | {"value": "another"}]}) == (204, "")
    assert await names(it, task["id"]) == ["DB", "NGC_API_KEY"]
    assert it.hints.count(("task-secret", task["id"])) == 2


async def test_secrets_that_cannot_be_updated(it: Installation) -> None:
    """Check 27: none given, a task without any, one that has ended, a name twice, another account's: each says why."""
    without, with_some, over = await launch(it), await launch(it, secrets=[KEY]), await launch(it, secrets=[KEY])

    def end(tx: Transaction) -> None:
        found = tasks.get(tx, over["id"])
        assert found is not None
        tasks.save(tx, found, replace(found, outcome=TaskStatus.COMPLETED))

    await it.context.db.run(end)
    foreign = await it.a_key(nca_id=OTHER_ACCOUNT)
    wid, oid, nid = with_some["id"], over["id"], without["id"]
    one = {"secrets": [DB]}

    nothing: tuple[dict[str, Any], ...] = ({}, {"secrets": []}, {"secrets": None})
    for empty in nothing:
        assert await put(it, wid, empty) == (400, f"Task id '{wid}': Missing secrets in the payload")
    assert await put(it, nid, one) == (
        400,
        f"Task id '{nid}': Cannot update secrets for a Task that does not have any secrets",
    )
    assert await put(it, oid, one) == (
        400,
        f"Task id '{oid}': Cannot update secrets for a Task with terminal status 'COMPLETED'",
    )
    assert (await put(it, wid, {"secrets": [DB, DB]}))[0] == 400
    assert (await put(it, wid, one, foreign))[0] == 404
    assert (await put(it, RANDOM_ID, one))[0] == 404
    assert await names(it, wid) == ["NGC_API_KEY"]


async def test_telemetries_of_a_task(it: Installation) -> None:
    """Check 16: those of the account and of the right kind; unknown, foreign and wrong ones are 400 and say which."""
    made = {}
    for kind, key in (("LOGS", ""), ("METRICS", ""), ("LOGS", await it.a_key(nca_id=OTHER_ACCOUNT))):
        body = {
            "endpoint": "https://otel.example.com",
            "protocol": "HTTP",
            "provider": "OTEL_COLLECTOR",
            "types": [kind],
            "secret": {"name": f"{kind}-{bool(key)}".lower(), "value": "t"},
        }
        answer = await it.client.post("/v2/nvcf/telemetries", json=body, headers=bearer(key) if key else {})
        assert answer.status_code == 200, answer.text
        made[kind, bool(key)] = answer.json()["telemetry"]["telemetryId"]
    logs, metrics, foreign = made["LOGS", False], made["METRICS", False], made["LOGS", True]

    task = await launch(it, telemetries={"logsTelemetryId": logs, "metricsTelemetryId": metrics})
    assert task["telemetries"] == {"logsTelemetryId": logs, "metricsTelemetryId": metrics}
    for unknown in (RANDOM_ID, foreign):
        detail = await refused(it, telemetries={"logsTelemetryId": unknown})
        assert detail == f"Telemetry '{unknown}' not found in account '{DEFAULT_ACCOUNT}'"
    wrong = await refused(it, telemetries={"logsTelemetryId": metrics})
    assert wrong == f"Telemetry '{metrics}' - Invalid type 'LOGS'"


async def test_admins_work_in_any_account(it: Installation) -> None:
    """Check 28: with scope admin:…, in accounts that exist; the plain scope does not do, nor does any API key."""
    await it.a_key(nca_id=OTHER_ACCOUNT)
    admin = bearer(it.a_token(scopes=["admin:launch_task", "admin:list_tasks", "admin:task_details"]))
    plain = bearer(it.a_token(scopes=["launch_task"]))
    url = f"/v1/nvct/accounts/{OTHER_ACCOUNT}/tasks"
    made = await it.client.post(url, json=a_task_body(), headers=admin)

    assert (made.status_code, made.json()["task"]["ncaId"]) == (200, OTHER_ACCOUNT)
    shown = await it.client.get(f"{url}/{made.json()['task']['id']}", headers=admin)
    assert shown.json()["task"]["gpuSpecification"] == GPU
    assert len((await it.client.get(url, headers=admin)).json()["tasks"]) == 1
    nobody = await it.client.post("/v1/nvct/accounts/nobody/tasks", json=a_task_body(), headers=admin)
    assert nobody.json()["detail"] == "Account 'nobody': Does not exist"
    others = [await it.client.post(url, json=a_task_body(), headers=headers) for headers in (plain, {})]
    assert [nobody.status_code, *(a.status_code for a in others)] == [404, 403, 403]


async def test_a_client_that_nobody_knows(it: Installation) -> None:
    """Check 2: a good token of a client without an account is 404."""
    stranger = bearer(it.a_token("stranger", scopes=["launch_task"]))
    answer = await it.client.post(TASKS, json=a_task_body(), headers=stranger)

    assert answer.status_code == 404, answer.text


async def test_admins_are_not_counted(it: Installation) -> None:
    """Section 1: their calls are not slowed down, except for updates of secrets."""
    object.__setattr__(it.context, "task_rate", Throttle(1.0, now=lambda: 0.0))
    task = await launch(it, secrets=[KEY])
    admin = bearer(it.a_token(scopes=["admin:list_tasks", "admin:update_secrets"]))
    base = f"/v1/nvct/accounts/{DEFAULT_ACCOUNT}"
    lists = [(await it.client.get(f"{base}/tasks", headers=admin)).status_code for _ in range(3)]
    secrets = await it.client.put(f"{base}/secrets/tasks/{task['id']}", json={"secrets": [DB]}, headers=admin)

    assert lists == [200] * 3
    assert (secrets.status_code, "Slow down" in secrets.text) == (429, True)

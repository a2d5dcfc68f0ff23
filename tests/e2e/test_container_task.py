"""Tasks that are containers, through the whole program, on a real engine (tasks page, section 10)."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from docker_images import TASK_SOURCE, EngineClient, compile_echo
from installation import Installation, eventually, installed

from gpufn.compute.docker.sockets import missing

SOCKET = "/var/run/docker.sock"
IMAGE = "gpufn-tests/task:1"
ENDED = ("COMPLETED", "ERRORED", "CANCELED", "EXCEEDED_MAX_RUNTIME_DURATION", "EXCEEDED_MAX_QUEUED_DURATION")

pytestmark = [
    pytest.mark.docker,
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(missing(SOCKET)), reason=f"{SOCKET}: {missing(SOCKET)}; run scripts/docker-for-tests"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed; run scripts/docker-for-tests"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation with the image for all of them; nothing of it is left in the engine."""
    directory = tmp_path_factory.mktemp("tasks")
    engine = EngineClient(SOCKET)
    engine.build(IMAGE, compile_echo(directory, TASK_SOURCE))
    data = directory / "gpufn"
    with installed(data, docker=True) as it:
        yield it
        assert it.stop() == 0
    left = engine.remove_installation(hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:32])
    engine.remove_image(IMAGE)
    engine.close()
    assert left == 0


def launch(here: Installation, args: str, **changes: Any) -> str:
    """The id of a new task."""
    body: dict[str, Any] = {
        "name": "contained",
        "containerImage": IMAGE,
        "containerArgs": args,
        "gpuSpecification": {"gpu": "CPU", "instanceType": "ON-PREM.CPU_1x"},
        "resultHandlingStrategy": "NONE",
        "terminationGracePeriodDuration": "PT5S",
    }
    return str(here.call("POST", "/v1/nvct/tasks", json=body | changes)["task"]["id"])


def look(here: Installation, task_id: str) -> dict[str, Any]:
    """The task."""
    found: dict[str, Any] = here.call("GET", f"/v1/nvct/tasks/{task_id}")["task"]
    return found


def until(here: Installation, task_id: str, *statuses: str) -> dict[str, Any]:
    """The task as soon as it has one of the statuses."""
    eventually(lambda: look(here, task_id)["status"] in statuses, within=30, what=f"{task_id} is {statuses}")
    return look(here, task_id)


def until_gone(here: Installation, task_id: str) -> None:
    """Wait until the container is gone: then the task waits for nothing and its log is whole."""
    eventually(lambda: not containers(here, task_id), within=20, what="its container is gone")


def containers(here: Installation, task_id: str) -> list[Any]:
    """Those of the task that the engine knows, whatever they do."""
    engine = EngineClient(SOCKET)
    try:
        return engine.labelled(f"gpufn.task={task_id}")
    finally:
        engine.close()


def log(here: Installation, task_id: str) -> str:
    """What it wrote."""
    return here.gpufn("task", "logs", task_id).stdout


def content(here: Installation, task_id: str, result: str, path: str) -> str:
    """One file of one result."""
    results = here.call("GET", f"/v1/nvct/tasks/{task_id}/results")["results"]
    (found,) = (r["resultId"] for r in results if r["name"].startswith(result))
    url = f"/v2/gpufn/tasks/{task_id}/results/{found}/files"
    (number,) = (f["number"] for f in here.call("GET", url)["files"] if f["path"] == path)
    with here.client() as client:
        return client.get(f"{url}/{number}").text


def test_a_contained_task_finds_what_it_was_promised(here: Installation) -> None:
    """Its variables, its secrets, its results directory: all of section 10, and its results are kept."""
    secrets = [{"name": "NGC_API_KEY", "value": "unused"}, {"name": "DB", "value": {"user": "u"}}]
    task = launch(
        here,
        "work",
        resultHandlingStrategy="UPLOAD",
        resultsLocation="org/model",
        secrets=secrets,
        containerEnvironment=[{"key": "STEPS", "value": "3"}, {"key": "NVCT_TASK_NAME", "value": "mine"}],
    )
    ended = until(here, task, *ENDED)

    assert (ended["status"], ended["percentComplete"]) == ("COMPLETED", 100), ended
    found = dict(line.split("=", 1) for line in content(here, task, "half_", "env").splitlines())
    expected = {
        "NVCT_TASK_ID": task,
        "NVCT_TASK_NAME": "contained",
        "NVCT_NCA_ID": "nvcf-default",
        "NVCT_RESULTS_DIR": "/var/task/results",
        "NVCT_PROGRESS_FILE_PATH": "/var/task/results/progress",
        "NVCF_INSTANCETYPE": "ON-PREM.CPU_1x",
        "STEPS": "3",
    }
    assert found.items() >= expected.items()
    assert {"NVCF_BACKEND", "NVCF_REGION", "NVCF_INSTANCETYPE_VALUE", "NVCF_ENV"} <= found.keys()
    assert json.loads(content(here, task, "half_", "secrets")) == {"NGC_API_KEY": "unused", "DB": {"user": "u"}}
    assert content(here, task, "whole_", "weights") == ""
    assert log(here, task) == "begins: work\n"


@pytest.mark.parametrize(("code", "status"), [(0, "COMPLETED"), (3, "ERRORED")])
def test_exit_codes_of_containers(here: Installation, code: int, status: str) -> None:
    """A container that never reports: code 0 completes, any other is an error that names it."""
    ended = until(here, launch(here, f"exit {code}"), *ENDED)

    assert ended["status"] == status
    assert ("code 3" in ended.get("healthInfo", {}).get("error", "")) == bool(code)


def test_a_failed_container_is_run_again(here: Installation) -> None:
    """With retries every attempt is a container of its own, and its event says so."""
    task = launch(here, "exit 3", retries=1)
    until(here, task, "ERRORED")

    events = [e["message"] for e in here.call("GET", f"/v1/nvct/tasks/{task}/events")["events"]]
    assert sum("to 'QUEUED'" in e and "attempt 1 ended, it is queued again" in e for e in events) == 1
    assert log(here, task) == "begins: exit\nbegins: exit\n"


def test_a_canceled_container_may_save_its_work(here: Installation) -> None:
    """It is told to end, and has its grace period to do so; the status is CANCELED at once."""
    task = launch(here, "polite", terminationGracePeriodDuration="PT20S")
    until(here, task, "RUNNING")
    answer = here.call("POST", f"/v1/nvct/tasks/{task}/cancel")
    began = time.monotonic()

    assert answer["task"]["status"] == "CANCELED"
    until_gone(here, task)
    assert time.monotonic() - began < 15
    assert log(here, task) == "begins: polite\ntold to end\n"
    assert (here.data / "tasks" / task / "results" / "saved").exists()


def test_a_container_that_does_not_end_is_ended(here: Installation) -> None:
    """After its grace period, and not before, it is killed."""
    task = launch(here, "stubborn", terminationGracePeriodDuration="PT3S")
    until(here, task, "RUNNING")
    here.call("POST", f"/v1/nvct/tasks/{task}/cancel")
    began = time.monotonic()
    until_gone(here, task)

    assert time.monotonic() - began > 2.5


def test_a_container_that_takes_too_long(here: Installation) -> None:
    """maxRuntimeDuration counts from the progress file on; then it is told to end, and ends."""
    limits = {"maxRuntimeDuration": "PT3S", "terminationGracePeriodDuration": "PT2S"}
    task = launch(here, "polite", **limits)
    until(here, task, "RUNNING")
    began = time.monotonic()
    ended = until(here, task, *ENDED)

    assert 1.5 < time.monotonic() - began < 8
    assert ended["status"] == "EXCEEDED_MAX_RUNTIME_DURATION"
    assert ended["healthInfo"]["error"] == "task execution time exceeds the limit"
    until_gone(here, task)


def test_a_deleted_container_is_gone(here: Installation) -> None:
    """Deleting a running task leaves no container, no directory, and nothing to ask for."""
    task = launch(here, "stubborn")
    until(here, task, "RUNNING")
    here.call("DELETE", f"/v1/nvct/tasks/{task}")
    until_gone(here, task)

    eventually(lambda: not (here.data / "tasks" / task).exists(), within=10, what="its directory is gone")
    with here.client() as client:
        assert client.get(f"/v1/nvct/tasks/{task}").status_code == 404


def test_a_container_outlives_control(here: Installation) -> None:
    """kill -9 of control while a container works: its end is found out by the next one, and it ran once."""
    task = launch(here, "work")
    until(here, task, "RUNNING")
    here.child("control").kill()
    ended = until(here, task, *ENDED)

    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 1)
    until_gone(here, task)
    assert log(here, task) == "begins: work\n"

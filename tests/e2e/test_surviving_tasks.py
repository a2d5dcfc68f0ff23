"""kill -9 of control at every point of a task's life: no task is lost, and none runs twice without saying so."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from installation import Installation, eventually, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ENDED = ("COMPLETED", "ERRORED", "CANCELED", "EXCEEDED_MAX_RUNTIME_DURATION", "EXCEEDED_MAX_QUEUED_DURATION")
JOB = """
import datetime, json, os, time
results, progress = os.environ["NVCT_RESULTS_DIR"], os.environ["NVCT_PROGRESS_FILE_PATH"]
def report(percent, name):
    now = datetime.datetime.now(datetime.UTC).isoformat()
    with open(progress + ".tmp", "w") as file:
        json.dump({"percentComplete": percent, "name": name, "lastUpdatedAt": now}, file)
    os.replace(progress + ".tmp", progress)
print("begins", flush=True)
seconds, megabytes = float(os.environ["SECONDS"]), int(os.environ["MEGABYTES"])
os.makedirs(f"{results}/started", exist_ok=True)
report(1, "started")
time.sleep(seconds)
os.makedirs(f"{results}/whole", exist_ok=True)
for number in range(4):
    with open(f"{results}/whole/{number}", "wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1024) * 1024)
report(100, "whole")
"""


def image(here: Installation, directory: Path) -> None:
    """Put the job into the catalog."""
    directory.mkdir()
    (directory / "job.py").write_text(JOB)
    (directory / "function.toml").write_text('name = "job"\ncommand = ["{python}", "job.py"]\n')
    added = here.gpufn("image", "add", str(directory))
    assert added.returncode == 0, added.stderr


def launch(
    here: Installation, *, seconds: float, gpus: int = 1, megabytes: int = 0, strategy: str = "NONE", retries: int = 0
) -> str:
    """The id of a new task."""
    body: dict[str, Any] = {
        "name": "survivor",
        "containerImage": "job",
        "gpuSpecification": {"gpu": "H100", "instanceType": f"ON-PREM.GPU.H100_{gpus}x"},
        "containerEnvironment": [
            {"key": "SECONDS", "value": str(seconds)},
            {"key": "MEGABYTES", "value": str(megabytes)},
        ],
        "resultHandlingStrategy": strategy,
        "resultsLocation": "org/model",
        "secrets": [{"name": "NGC_API_KEY", "value": "unused"}],
        "terminationGracePeriodDuration": "PT2S",
        "retries": retries,
    }
    return str(here.call("POST", "/v1/nvct/tasks", json=body)["task"]["id"])


def look(here: Installation, task_id: str) -> dict[str, Any]:
    """The task; patient while control is away."""
    answers: list[Any] = []

    def answered() -> bool:
        with here.client() as client:
            answer = client.get(f"/v1/nvct/tasks/{task_id}")
        answers.append(answer)
        return bool(answer.is_success)

    eventually(answered, within=30, what="control answers")
    found: dict[str, Any] = answers[-1].json()["task"]
    return found


def until(here: Installation, task_id: str, *statuses: str) -> dict[str, Any]:
    """The task as soon as it has one of the statuses."""
    eventually(lambda: look(here, task_id)["status"] in statuses, within=60, what=f"{task_id} is {statuses}")
    return look(here, task_id)


def events(here: Installation, task_id: str) -> list[str]:
    """What it was told to have gone through."""
    return [e["message"] for e in here.call("GET", f"/v1/nvct/tasks/{task_id}/events?limit=100")["events"]]


def starts(here: Installation, task_id: str) -> int:
    """How many times it began, by what it wrote."""
    done = here.gpufn("task", "logs", task_id)
    assert done.returncode == 0, done.stderr
    return done.stdout.count("begins")


def kill_control(here: Installation) -> None:
    """kill -9, and wait until it is dead."""
    control = here.child("control")
    control.send_signal(signal.SIGKILL)
    control.wait(10)


def assert_told(here: Installation, task_id: str) -> None:
    """Every start beyond the first is told of."""
    said = sum("to 'QUEUED'" in e or e.startswith("Starting the instance again") for e in events(here, task_id))
    assert starts(here, task_id) - 1 <= said, events(here, task_id)


@pytest.fixture
def here(tmp_path: Path) -> Any:
    """An installation with the job."""
    with installed(tmp_path / "data") as it:
        image(it, tmp_path / "job")
        yield it


def test_a_queued_task_survives(here: Installation) -> None:
    """Killed while one task has all GPUs and others wait: each runs once, in the order in which they came."""
    holder = launch(here, seconds=3, gpus=8)
    waiting = [launch(here, seconds=0, gpus=8) for _ in range(2)]
    until(here, holder, "RUNNING")
    kill_control(here)

    for task in (holder, *waiting):
        ended = until(here, task, *ENDED)
        assert (ended["status"], ended["attempt"], starts(here, task)) == ("COMPLETED", 1, 1)


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1])
def test_a_task_being_launched_survives(here: Installation, delay: float) -> None:
    """Killed right after the API accepted it, somewhere between placement and its first words: it runs once."""
    task = launch(here, seconds=1)
    time.sleep(delay)
    kill_control(here)
    ended = until(here, task, *ENDED)

    assert ended["status"] == "COMPLETED", ended
    assert starts(here, task) >= 1
    assert_told(here, task)


def test_a_running_task_survives(here: Installation) -> None:
    """Killed twice while it runs: nothing is started again."""
    task = launch(here, seconds=6)
    for _ in range(2):
        until(here, task, "RUNNING")
        kill_control(here)
    ended = until(here, task, *ENDED)

    assert (ended["status"], ended["attempt"], starts(here, task)) == ("COMPLETED", 1, 1)


def test_a_task_whose_results_are_being_kept_survives(here: Installation) -> None:
    """Killed between two files of a result: all of it is there in the end, once, as the task wrote it."""
    task = launch(here, seconds=1, megabytes=40, strategy="UPLOAD")
    objects = here.data / "objects" / "tasks" / task
    eventually(objects.is_dir, within=40, what="the first file is on its way")
    assert look(here, task)["status"] == "RUNNING"
    kill_control(here)
    ended = until(here, task, *ENDED)

    assert (ended["status"], ended["attempt"], starts(here, task)) == ("COMPLETED", 1, 1)
    (result,) = (
        r for r in here.call("GET", f"/v1/nvct/tasks/{task}/results")["results"] if r["name"].startswith("whole")
    )
    files = here.call("GET", f"/v2/gpufn/tasks/{task}/results/{result['resultId']}/files")["files"]
    assert [(f["path"], f["size"]) for f in files] == [(str(n), 40 * 1024 * 1024) for n in range(4)]
    fetched = here.gpufn("task", "results", task, "--to", str(here.data.parent / "out"))
    assert fetched.returncode == 0, fetched.stderr


def test_a_task_that_ended_meanwhile(here: Installation) -> None:
    """What it did while nobody looked is found out by the next control."""
    task = launch(here, seconds=1)
    until(here, task, "RUNNING")
    control = here.child("control")
    control.suspend()
    time.sleep(2.5)
    control.send_signal(signal.SIGKILL)
    ended = until(here, task, *ENDED)

    assert (ended["status"], ended["attempt"], starts(here, task)) == ("COMPLETED", 1, 1)


def test_everything_is_killed_at_once(here: Installation) -> None:
    """kill -9 of every process, the task's too: where that was asked for it runs again, and its events say why."""
    task = launch(here, seconds=4, retries=1)
    until(here, task, "RUNNING")
    assert here.process is not None
    everything = (here.child("control"), here.child("gateway"), *here.instances())
    for number in (signal.SIGSTOP, signal.SIGKILL):  # at one stroke: nobody sees anybody else die
        for process in everything:
            process.send_signal(number)
    here.process.kill()
    here.process.wait()
    (here.data / "running.json").unlink()
    here.start()
    ended = until(here, task, *ENDED)

    assert (ended["status"], ended["attempt"], starts(here, task)) == ("COMPLETED", 2, 2)
    assert any("it ended while gpufn was not running" in e for e in events(here, task))
    assert_told(here, task)

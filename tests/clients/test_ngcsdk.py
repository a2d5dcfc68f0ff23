"""NVIDIA's own SDK, unmodified, against a running installation: the newest release, and the last one that invokes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from installation import ENVIRONMENT, Installation, installed

from gpufn.compute.catalog import SAMPLES

pytestmark = [pytest.mark.clients, pytest.mark.e2e, pytest.mark.timeout(600)]
SAMPLE = SAMPLES / "echo"
DRIVER = Path(__file__).with_name("drive_ngcsdk.py")
TASK_DRIVER = Path(__file__).with_name("drive_ngcsdk_tasks.py")
JOB = """
import datetime, json, os, time
results, progress = os.environ["NVCT_RESULTS_DIR"], os.environ["NVCT_PROGRESS_FILE_PATH"]
def report(percent, name):
    now = datetime.datetime.now(datetime.UTC).isoformat()
    with open(progress + ".tmp", "w") as file:
        json.dump({"percentComplete": percent, "name": name, "lastUpdatedAt": now}, file)
    os.replace(progress + ".tmp", progress)
steps = int(os.environ["STEPS"])
print("begins", flush=True)
for step in range(1, steps + 1):
    os.mkdir(f"{results}/ckpt-{step}")
    open(f"{results}/ckpt-{step}/weights", "w").write(str(step))
    report(100 * step // steps, f"ckpt-{step}")
    print("step", step, flush=True)
    time.sleep(0.6)
if not steps:
    report(1, "waits")
    time.sleep(600)
"""


def environment(root: Path, package: str) -> Path:
    """A virtual environment with nothing but ``package`` in it."""
    subprocess.run([sys.executable, "-m", "venv", str(root)], check=True)
    install = [str(root / "bin" / "pip"), "install", "-q", package]
    done = subprocess.run(install, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return root / "bin" / "python"


def drive(here: Installation, python: Path, home: Path, driver: Path = DRIVER) -> dict[str, Any]:
    """Run the driver; what it saw."""
    exported: dict[str, str] = json.loads(here.gpufn("env", "--json").stdout)
    done = subprocess.run(
        [str(python), str(driver), here.key],
        env=ENVIRONMENT | exported | {"NGC_CLI_HOME": str(home), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


@pytest.mark.parametrize("release", ["4.37.0", "3.169.4"])
def test_the_life_of_a_function_through_ngcsdk(release: str, tmp_path: Path) -> None:
    """Create, list, deploy, look inside, update, invoke and stream (3.x), restart, undeploy and delete; it is
    not touched, and knows only what `gpufn env` exports.
    """
    python = environment(tmp_path / "venv", f"ngcsdk=={release}")
    with installed(tmp_path / "gpufn", "--tls", "--proxy") as here:
        added = here.gpufn("image", "add", str(SAMPLE), "--name", "docker.io/team/echo")  # the SDK wants a full name
        assert added.returncode == 0, added.stderr
        seen = drive(here, python, tmp_path)

    assert seen["created"] == "INACTIVE"
    assert "from-sdk" in seen["listed"]
    assert seen["info"] == "from-sdk"
    assert seen["deployed"] == "DEPLOYING"
    assert seen["status"] == "ACTIVE"
    assert (seen["exec"]["output"], seen["exec"]["exitCode"]) == ("from from-sdk\n", 0)
    assert "listens on" in seen["log"]
    assert seen["updated"] == 2
    assert seen["restarted"] == "DEPLOYING"
    assert seen["undeployed"] == "INACTIVE"
    assert seen["left"] == 0
    if release.startswith("3."):
        assert seen["answer"] == {"message": "hello"}
        assert seen["stream"].count("hi") == 3


def test_the_life_of_tasks_through_ngcsdk(tmp_path: Path) -> None:
    """Create, watch, read events, results, log and list, look inside, cancel and delete: the whole of its TaskAPI."""
    python = environment(tmp_path / "venv", "ngcsdk==4.37.0")
    image = tmp_path / "job"
    image.mkdir()
    (image / "job.py").write_text(JOB)
    (image / "function.toml").write_text('name = "docker.io/team/job"\ncommand = ["{python}", "job.py"]\n')
    with installed(tmp_path / "gpufn", "--tls") as here:
        added = here.gpufn("image", "add", str(image))
        assert added.returncode == 0, added.stderr
        seen = drive(here, python, tmp_path, TASK_DRIVER)

    assert (seen["created"], seen["secrets"]) == ("QUEUED", ["DB", "NGC_API_KEY"])
    assert (seen["ended"], seen["percent"]) == ("COMPLETED", 100)
    assert seen["events"][0].startswith("Changing status from 'QUEUED' to 'LAUNCHED'")
    assert seen["events"][-1] == "Changing status from 'RUNNING' to 'COMPLETED'"
    assert seen["results"] == [["ckpt-1", 33], ["ckpt-2", 66], ["ckpt-3", 100]]
    assert seen["log"] == ["begins", "step 1", "step 2", "step 3"]
    assert seen["listed"] == ["train", "wait"]
    assert seen["exec"] == ["from wait\n", 0]
    assert seen["line"] == "begins"
    assert seen["canceled"] == "CANCELED"
    assert "Cannot cancel a Task with 'CANCELED' terminal status" in seen["twice"]
    assert seen["left"] == 0

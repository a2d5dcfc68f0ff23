"""Runs in the SDK's own virtual environment, not in ours: the whole life of tasks through NVIDIA's ngcsdk.

Usage: drive_ngcsdk_tasks.py KEY. It is told where to go by its environment alone. Prints one JSON object of what was
seen.
"""

import json
import sys
import time
from datetime import timedelta

key = sys.argv[1]

from ngcbase.errors import NgcAPIError  # noqa: E402
from ngcsdk import Client  # noqa: E402 - its settings are in the environment that the test prepared
from nvcf.api.deployment_spec import GPUSpecification  # noqa: E402

client = Client()
client.configure(api_key=key, org_name="nvcf-default", team_name="no-team")
tasks = client.cloud_function.tasks
seen = {}


def create(name, **more):
    made = tasks.create(
        name=name,
        container_image="docker.io/team/job:latest",
        gpu_specification=GPUSpecification("H100", "ON-PREM.GPU.H100_1x", "local"),
        max_runtime_duration=timedelta(minutes=10),
        termination_grace_period_duration=timedelta(seconds=2),
        **more,
    )
    return made.task


def until(task_id, *statuses):
    for _ in range(200):
        task = tasks.info(task_id).task
        if task.status in statuses:
            return task
        time.sleep(0.1)
    raise SystemExit(f"{task_id} is {task.status}: {task}")


train = create(
    "train",
    container_environment_variables=["STEPS:3"],
    result_location="nvcf-default/ckpt",
    secrets=["NGC_API_KEY:unused", "DB:first"],
    tags=["team:ml"],
    description="three steps",
)
seen["created"] = train.status
seen["secrets"] = sorted(train.secrets)
tasks.update_secrets(train.id, ["DB:second"])
ended = until(train.id, "COMPLETED", "ERRORED")
seen["ended"], seen["percent"] = ended.status, ended.percentComplete
seen["events"] = [e["message"] for e in tasks.events(train.id)]
seen["results"] = [[r["name"].split("_")[0], r["metadata"]["percentComplete"]] for r in tasks.results(train.id)]
seen["log"] = [line["message"] for line in tasks.logs(train.id, duration=timedelta(hours=1))]

wait = create("wait", result_handling_strategy="NONE", container_environment_variables=["STEPS:0"])
until(wait.id, "RUNNING")
seen["listed"] = sorted(t["name"] for t in tasks.list(limit=1))
live = tasks.instances.list(wait.id).instances[0]
where = (wait.id, live.instanceId, live.podName, live.containerName)
done = tasks.instances.execute_commands(*where, command="echo from $NVCT_TASK_NAME", timeout=20)
seen["exec"] = [done.output, done.exitCode]
lines = tasks.instances.query_logs(wait.id, live.instanceId, since="1h", timeout=20)
seen["line"] = next(iter(lines)).data
tasks.cancel(wait.id)
seen["canceled"] = tasks.info(wait.id).task.status
try:
    tasks.cancel(wait.id)
except NgcAPIError as error:
    seen["twice"] = str(error)

for task_id in (wait.id, train.id):
    tasks.delete(task_id)
seen["left"] = len(list(tasks.list()))
print(json.dumps(seen, default=str))

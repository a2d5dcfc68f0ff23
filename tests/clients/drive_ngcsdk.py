"""Runs in the SDK's own virtual environment, not in ours: the whole life of a function through NVIDIA's ngcsdk.

Usage: drive_ngcsdk.py KEY. It is told where to go by its environment alone. Prints one JSON object of what was seen.
"""

import json
import sys
import time

key = sys.argv[1]

from ngcsdk import Client  # noqa: E402 - its settings are in the environment that the test prepared
from nvcf.api.deployment_spec import DeploymentSpecification  # noqa: E402

client = Client()
client.configure(api_key=key, org_name="nvcf-default", team_name="no-team")
functions = client.cloud_function.functions
seen = {}

made = functions.create(
    name="from-sdk",
    inference_url="/echo",
    health_uri="/health",
    inference_port=8000,
    container_image="docker.io/team/echo:latest",
    tags=["team:ml"],
)
function, version = made.function.id, made.function.versionId
seen["created"] = made.function.status
seen["listed"] = [f.name for f in functions.list().functions]
seen["info"] = functions.info(function, version).function.name

spec = DeploymentSpecification(
    backend="local", gpu="H100", instance_type="ON-PREM.GPU.H100_1x", min_instances=1, max_instances=1
)
seen["deployed"] = functions.deployments.create(function, version, [spec]).deployment.functionStatus
for _ in range(100):
    seen["status"] = functions.info(function, version).function.status
    if seen["status"] in ("ACTIVE", "ERROR"):
        break
    time.sleep(0.1)

live = functions.instances.list(function, version).instances[0]
where = (function, version, live.instanceId, live.podName, live.containerName)
seen["exec"] = dict(functions.instances.execute_commands(*where, command="echo from $NVCF_FUNCTION_NAME", timeout=20))
seen["log"] = next(iter(functions.instances.query_logs(*where, since="1h", timeout=20))).data

more = DeploymentSpecification(
    backend="local", gpu="H100", instance_type="ON-PREM.GPU.H100_1x", min_instances=1, max_instances=2
)
updated = functions.deployments.update(function, version, [more])
seen["updated"] = updated.deployment.deploymentSpecifications[0].maxInstances

if hasattr(functions, "invoke"):
    seen["answer"] = dict(functions.invoke(function, {"message": "hello"}, starfleet_api_key=key))
    stream = functions.invoke_stream(function, {"message": "hi", "repeats": 3, "stream": True}, starfleet_api_key=key)
    seen["stream"] = b"".join(stream).decode()

if hasattr(functions, "update"):
    functions.update(function, version, rate_limit_pattern="100-S")
    seen["rate"] = functions.info(function, version).function.rateLimit.rateLimit

seen["restarted"] = functions.deployments.restart(function, version).deployment.functionStatus
functions.deployments.delete(function, version)
seen["undeployed"] = functions.info(function, version).function.status
functions.delete(function, version)
seen["left"] = len(functions.list().functions)
print(json.dumps(seen, default=str))

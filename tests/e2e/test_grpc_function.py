"""A gRPC function through the whole program: started, asked for its health, called by the blocking client of grpcio."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from installation import Installation, eventually, installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

APP = """
import os
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

def talk(requests, context):
    for request in requests:
        yield request.upper()

server = grpc.server(futures.ThreadPoolExecutor(8))
methods = {
    "Who": grpc.unary_unary_rpc_method_handler(lambda request, context: str(os.getpid()).encode()),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port("127.0.0.1:" + os.environ["PORT"])
server.start()
server.wait_for_termination()
"""
GRPC = {"protocol": "gRPC", "uri": "/", "port": 8000, "timeout": "PT5S", "expectedStatusCode": 200}


def _call(here: Installation, function: str) -> tuple[bytes, list[bytes]]:
    """One unary call and one conversation on a new connection."""
    address = json.loads((here.data / "running.json").read_text())["grpc"]
    metadata = (("authorization", f"Bearer {here.key}"), ("function-id", function))
    with grpc.insecure_channel(address) as channel:
        who = channel.unary_unary("/test.Echo/Who")(b"", metadata=metadata, timeout=20, wait_for_ready=True)
        words = channel.stream_stream("/test.Echo/Talk")(iter([b"one", b"two"]), metadata=metadata, timeout=20)
        return who, list(words)


@pytest.mark.parametrize("options", [("--single-process",), ()], ids=["one process", "processes"])
def test_a_grpc_function(tmp_path: Path, options: tuple[str, ...]) -> None:
    """It becomes ACTIVE by its health service; calls reach its instance, from zero instances too."""
    source = tmp_path / "talker"
    source.mkdir()
    (source / "app.py").write_text(APP)
    (source / "function.toml").write_text('name = "talker"\ncommand = ["{python}", "app.py"]\n')
    with installed(tmp_path / "data", *options) as here:
        assert here.gpufn("image", "add", str(source)).returncode == 0
        function, version = here.deploy(containerImage="talker", inferenceUrl="/grpc", health=GRPC)
        who, words = _call(here, function)
        assert words == [b"ONE", b"TWO"]
        assert int(who) in {pid for process in here.instances() for pid in _tree(process)}
        scaled = {"deploymentSpecifications": [{"minInstances": 0, "maxInstances": 1, "gpu": "H100",
                  "instanceType": "ON-PREM.GPU.H100_1x", "maxRequestConcurrency": 4}]}  # fmt: skip
        path = f"/v2/nvcf/deployments/functions/{function}/versions/{version}"
        here.call("DELETE", path)
        eventually(lambda: not here.instances(), within=20, what="the instance ends")
        here.call("POST", path, json=scaled)
        eventually(lambda: here.status(function, version) == "ACTIVE", within=20, what="it is ACTIVE again")
        again, _ = _call(here, function)
        assert again != who


def _tree(process: object) -> list[int]:
    children = process.children(recursive=True) if hasattr(process, "children") else []
    return [getattr(process, "pid", 0), *(child.pid for child in children)]

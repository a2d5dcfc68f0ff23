"""A real ``gpufn up`` in processes of its own, for tests that need the whole program."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
import psutil

T = TypeVar("T")

PROGRAM = (sys.executable, "-m", "gpufn")
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GPUFN_LOG__FORMAT": "text",
    "GPUFN_DOCKER__ENABLED": "no",
}
ECHO = {
    "name": "it",
    "containerImage": "echo",
    "inferenceUrl": "/echo",
    "inferencePort": 8000,
    "health": {"protocol": "HTTP", "uri": "/health", "port": 8000, "timeout": "PT10S", "expectedStatusCode": 200},
}


def eventually(look: Callable[[], T | None], *, within: float, what: str) -> T:
    """The first true value of ``look``; fails with ``what`` when there is none within so many seconds."""
    end = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.05)


class Installation:
    """One data directory, and the program running on it."""

    def __init__(
        self, data: Path, *options: str, docker: bool = False, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.data = data
        self.options = options
        self._environment = {k: v for k, v in ENVIRONMENT.items() if not (docker and "DOCKER" in k)} | dict(environment)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it announces itself."""
        command = [*PROGRAM, "up", "--data", str(self.data), "--port", "0", *self.options]
        log = (self.data.parent / f"{self.data.name}.log").open("a")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment, text=True)
        log.close()
        eventually(self._is_up, within=30, what="gpufn up announces itself")

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return (self.data / "running.json").exists()

    def log(self) -> str:
        """What it printed, over all its starts."""
        return (self.data.parent / f"{self.data.name}.log").read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    @property
    def url(self) -> str:
        return str(json.loads((self.data / "running.json").read_text())["url"])

    @property
    def key(self) -> str:
        return (self.data / "admin.key").read_text().strip()

    def client(self) -> httpx.Client:
        """An HTTP client with the admin key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that a successful call answers with."""
        with self.client() as client:
            answer = client.request(method, path, **options)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def gpufn(
        self,
        *arguments: str,
        stdin: str = "",
        seconds: float = 60,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.CompletedProcess[str]:
        """Run the CLI against it."""
        command = [*PROGRAM, *arguments, "--data", str(self.data)]
        env = {**ENVIRONMENT, **environment}
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=env, timeout=seconds, check=False
        )

    def deploy(self, *, minimum: int = 1, maximum: int = 1, **changes: Any) -> tuple[str, str]:
        """A version of the echo sample, deployed and ACTIVE: (function id, version id)."""
        made = self.call("POST", "/v2/nvcf/functions", json=ECHO | changes)["function"]
        ids = made["id"], made["versionId"]
        spec = {
            "gpu": "H100",
            "instanceType": "ON-PREM.GPU.H100_1x",
            "minInstances": minimum,
            "maxInstances": maximum,
            "maxRequestConcurrency": 4,
        }
        path = f"/v2/nvcf/deployments/functions/{ids[0]}/versions/{ids[1]}"
        self.call("POST", path, json={"deploymentSpecifications": [spec]})
        eventually(lambda: self.status(*ids) == "ACTIVE", within=20, what="the deployment is ACTIVE")
        return ids

    def status(self, function: str, version: str) -> str:
        """The public status of a version."""
        found = self.call("GET", f"/v2/nvcf/functions/{function}/versions/{version}")
        return str(found["function"]["status"])

    def invoke(self, function: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        """One pexec call."""
        with self.client() as client:
            return client.post(f"/v2/nvcf/pexec/functions/{function}", json=body, headers=headers)

    def child(self, role: str) -> psutil.Process:
        """The process of a role."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if role in child.cmdline():
                    return child
        raise LookupError(role)

    def instances(self) -> list[psutil.Process]:
        """Every process on this machine that is part of an instance of this installation. Interpreters that wait to
        become one are not; those that did no longer bear the name, but for the sandbox around them.
        """
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if (
                    process.environ().get("GPUFN_INSTANCE_ID")
                    and str(self.data) in process.environ().get("HOME", "")
                    and process.status() != psutil.STATUS_ZOMBIE
                    and not any(word.endswith("warm_interpreter.py") for word in process.cmdline())
                ):
                    found.append(process)
        return found


@contextmanager
def installed(
    data: Path, *options: str, docker: bool = False, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Installation]:
    """An installation that runs, and that leaves nothing running. ``docker``: it may use a container engine;
    ``environment``: more variables for it.
    """
    installation = Installation(data, *options, docker=docker, environment=environment)
    try:
        installation.start()
        yield installation
    finally:
        if installation.process is not None and installation.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                installation.stop()
            installation.process.kill()
            installation.process.wait()
        for process in installation.instances():
            with contextlib.suppress(psutil.Error):
                process.kill()

"""How long the first request to a function without instances takes: ``python bench/cold_start.py``.

Starts the real program on a temporary data directory, deploys functions with ``minInstances`` 0 on the process backend,
and sends each its first request: one after the other, and many at the same time. The time is what the caller sees, from
the request to the complete answer. Needs a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from gpufn.runtime.clock import monotonic

LIMITS = {1: 0.5, 25: 2.0, 100: 25.0}
"""Seconds within which 95 of 100 first requests are to be answered, by how many come at once."""


@contextlib.contextmanager
def installation(directory: Path, *, warm: int) -> Iterator[httpx.AsyncClient]:
    """A running gpufn with its admin's client."""
    data = directory / "data"
    environment = {
        "PATH": os.defpath,
        "HOME": str(directory),
        "GPUFN_DOCKER__ENABLED": "no",
        "GPUFN_LOG__LEVEL": "warning",
        "GPUFN_PROCESS__WARM": str(warm),
    }
    command = [sys.executable, "-m", "gpufn", "up", "--data", str(data), "--port", "0"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        announced = data / "running.json"
        while not announced.exists():
            if process.poll() is not None:
                raise SystemExit((directory / "log").read_text())
            time.sleep(0.05)
        key = (data / "admin.key").read_text().strip()
        yield httpx.AsyncClient(
            base_url=json.loads(announced.read_text())["url"],
            headers={"Authorization": f"Bearer {key}"},
            timeout=120,
            limits=httpx.Limits(max_connections=None),
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


async def deployed(client: httpx.AsyncClient, name: str, image: str) -> tuple[str, str]:
    """A function that is ACTIVE with no instance: its id and its version's."""
    definition = {
        "name": name,
        "containerImage": image,
        "inferenceUrl": "/echo",
        "inferencePort": 8000,
        "health": {"protocol": "HTTP", "uri": "/health", "port": 8000, "timeout": "PT10S", "expectedStatusCode": 200},
    }
    made = (await client.post("/v2/nvcf/functions", json=definition)).raise_for_status().json()["function"]
    gpus = (await client.get("/v2/gpufn/status")).raise_for_status().json()["gpus"]
    cpu = next(gpu for gpu in gpus if gpu["name"] == "CPU")
    kind = next(kind for kind in cpu["instanceTypes"] if kind.get("default"))["name"]
    spec = {"gpu": "CPU", "instanceType": kind, "minInstances": 0, "maxInstances": 1}
    path = f"/v2/nvcf/deployments/functions/{made['id']}/versions/{made['versionId']}"
    (await client.post(path, json={"deploymentSpecifications": [spec]})).raise_for_status()
    while True:
        version = f"/v2/nvcf/functions/{made['id']}/versions/{made['versionId']}"
        found = (await client.get(version)).raise_for_status().json()["function"]
        if found["status"] == "ACTIVE":
            return made["id"], made["versionId"]
        await asyncio.sleep(0.05)


async def first_request(client: httpx.AsyncClient, function_id: str) -> float:
    """Seconds from the first request to its answer."""
    began = monotonic()
    answer = await client.post(f"/v2/nvcf/pexec/functions/{function_id}", json={"message": "hi"})
    took = monotonic() - began
    if answer.status_code != 200 or answer.json() != {"message": "hi"}:
        raise SystemExit(f"answered {answer.status_code}: {answer.text}")
    return took


async def measure(client: httpx.AsyncClient, image: str, *, at_once: int, rounds: int) -> list[float]:
    """The times of ``rounds`` times ``at_once`` first requests."""
    times: list[float] = []
    for number in range(rounds):
        made = [await deployed(client, f"cold-{at_once}-{number}-{n}", image) for n in range(at_once)]
        await asyncio.sleep(1.0)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(first_request(client, function_id)) for function_id, _ in made]
        times += [task.result() for task in tasks]
        for function_id, version_id in made:
            path = f"/v2/nvcf/deployments/functions/{function_id}/versions/{version_id}"
            (await client.delete(path)).raise_for_status()
        await asyncio.sleep(1.0)
    return times


def row(at_once: int, times: Sequence[float]) -> str:
    """A line of the table."""
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    middle = ordered[len(ordered) // 2]
    verdict = "reached" if p95 <= LIMITS[at_once] else "missed"
    return f"| {at_once} | {len(times)} | {middle:.3f} s | {p95:.3f} s | {LIMITS[at_once]:g} s | {verdict} |"


async def run(options: argparse.Namespace) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as directory, installation(Path(directory), warm=options.warm) as client:
        async with client:
            print("| at once | requests | median | p95 | limit | |\n|---|---|---|---|---|---|")
            for at_once, rounds in ((1, options.rounds), (25, 2), (100, 1)):
                if at_once <= options.most:
                    times = await measure(client, options.image, at_once=at_once, rounds=rounds)
                    print(row(at_once, times), flush=True)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", type=int, default=2, help="interpreters started beforehand (process.warm)")
    parser.add_argument("--image", default="echo", help="image of the catalog that answers like echo")
    parser.add_argument("--rounds", type=int, default=20, help="first requests one after the other")
    parser.add_argument("--most", type=int, default=100, help="leave out what is more than that at once")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

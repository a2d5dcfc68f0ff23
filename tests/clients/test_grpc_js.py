"""Node's gRPC client, which shares no code with grpcio, drives the gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from gateway_world import KEY, F
from grpc_fakes import a_grpc_world

PACKAGE = "@grpc/grpc-js@1"
DRIVER = Path(__file__).parent / "drive_grpc_js.cjs"


async def _run(*command: str, cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.clients
@pytest.mark.timeout(300)
async def test_grpc_js(tmp_path: Path) -> None:
    """All kinds of calls, fifty at once, large messages, errors, deadlines and refusals."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not on the path: apt-get install nodejs npm")
    await _run(npm, "install", "--no-audit", "--no-fund", "--silent", PACKAGE, cwd=tmp_path)
    shutil.copy(DRIVER, tmp_path)
    async with a_grpc_world(slots=8) as (world, _, _channel):
        out = await _run(node, DRIVER.name, f"127.0.0.1:{world.grpc_port}", KEY, F, cwd=tmp_path)
        assert json.loads(out) == {
            "unary": [0, "hello", "yes", True], "many": True, "large": True, "expand": 100, "collect": "a,b,c",
            "talk": ["ONE", "TWO"], "fail": [15, "gone: 100 % lost, ünd so"], "deadline": 4, "denied": 16,
        }  # fmt: skip
        await world.until(lambda: world.is_quiet)

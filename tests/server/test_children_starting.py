"""A child process that cannot be started now is tried again, whatever the reason."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from gpufn.model.errors import Fatal
from gpufn.runtime.supervisor import Supervisor
from gpufn.server import lifeline
from gpufn.server.children import Child
from gpufn.settings import Settings


async def test_a_missing_interpreter_does_not_end_the_keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an upgrade replaces the interpreter a dead child is not given up: it starts once that is over."""
    stub = tmp_path / "python"
    stub.write_text(f"#!/bin/sh\nread line\nprintf '{lifeline.READY.decode().strip()}\\n'\nexec cat\n")
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    child = Child("gateway", lifeline.encode(Settings()))
    async with Supervisor() as tasks:
        await child.start()
        keeping = tasks.start(child.keep(), name="keep")
        first = child._process
        assert first is not None
        away = stub.rename(tmp_path / "away")
        first.kill()
        await asyncio.sleep(0.5)
        assert not keeping.done()
        away.rename(stub)
        async with asyncio.timeout(10):
            while child._process is first:  # noqa: ASYNC110 -- looks from outside
                await asyncio.sleep(0.02)
        assert not keeping.done()
        await child.stop(grace=5)


async def test_a_start_that_the_system_refuses_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that the system does not start is a Fatal with the reason, for a first start and for a replacement."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(Fatal, match=r"gateway process cannot be started: .*No such file"):
        await Child("gateway", b"\n").start()

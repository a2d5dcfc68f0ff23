"""What the README promises, done exactly as it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import ENVIRONMENT, Installation, eventually, installed

pytestmark = [pytest.mark.e2e]
ROOT = Path(__file__).parents[2]


def block(name: str) -> str:
    """A code block of the README, by the name in the comment above it."""
    command = [sys.executable, str(ROOT / "scripts" / "readme-block"), name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def shell(script: str, *, home: Path, binaries: Path, seconds: float = 60) -> str:
    """Run a script as a user would, with ``gpufn`` on the PATH; returns what it printed on standard output."""
    environment = ENVIRONMENT | {"PATH": f"{binaries}:{ENVIRONMENT['PATH']}", "XDG_DATA_HOME": str(home)}
    done = subprocess.run(
        ["bash", "-euc", script],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    with installed(tmp_path / "gpufn") as installation:
        yield installation


def test_the_first_invocation(here: Installation) -> None:
    """The block of that name prints the answer of the sample."""
    printed = shell(block("first-invocation"), home=here.data.parent, binaries=Path(sys.executable).parent)

    assert json.loads(printed) == {"message": "hello"}


def test_the_same_in_plain_http(here: Installation) -> None:
    """The curl block registers, deploys and invokes, by path and by host name."""
    script = block("first-invocation").splitlines()[0] + "\n" + block("curl")
    printed = shell(script, home=here.data.parent, binaries=Path(sys.executable).parent)

    assert printed.count('{"message": "hello"}') == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_install_to_answer_within_a_minute(tmp_path: Path) -> None:
    """In a fresh environment: install, up, first invocation. From the end of the install to the answer: under 60 s."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv" / "bin"
    install, start = block("setup").strip().split(" && ")
    environment = {"PATH": f"{binaries}:{os.environ['PATH']}"}
    subprocess.run(install.split(), cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)

    began = time.monotonic()
    process = subprocess.Popen(
        start.split(),
        env=ENVIRONMENT | environment | {"XDG_DATA_HOME": str(tmp_path), "GPUFN_SERVER__PORT": "0"},
        executable=binaries / "gpufn",
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually((tmp_path / "gpufn" / "running.json").exists, within=60, what="gpufn runs")
        printed = shell(block("first-invocation"), home=tmp_path, binaries=binaries)
        took = time.monotonic() - began
    finally:
        process.terminate()
        process.wait(30)

    assert json.loads(printed) == {"message": "hello"}
    assert took < 60

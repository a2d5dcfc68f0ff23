"""The gateway as machine code (GPUFN_COMPILE=1) does what the same source does when it is interpreted."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARD = ("http1", "route", "dispatch", "edge_fuzz", "misbehaviour", "gateway_pexec", "gateway_streams", "gateway_retry")
"""The tests that look most closely at the compiled modules."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_compiled_gateway_passes_the_gateway_s_own_tests(tmp_path: Path) -> None:
    """A wheel built that way holds the libraries, they are what is imported, and the protocol tests pass with them."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, env={**os.environ, "GPUFN_COMPILE": "1"}, timeout=600)
    (wheel,) = tmp_path.glob("*.whl")
    assert not wheel.name.endswith("none-any.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "package")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "package")}
    which = "import gpufn.gateway.edge as edge; print(edge.__file__)"
    found = subprocess.run([sys.executable, "-c", which], env=env, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(tmp_path))
    assert found.strip().endswith(".so")
    files = [str(ROOT / "tests" / "gateway" / f"test_{name}.py") for name in HARD]
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    result = subprocess.run(tests, check=False, env=env, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-3000:]

"""The OpenAPI document against the running program, by a tool that knows nothing else of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installation import ENVIRONMENT, Installation, installed

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]
SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
NEVER_ENDING = "logs|skyway"
"""Streams, which end when the instance does."""
SECONDS = 60


def narrow_key(here: Installation) -> str:
    """A key that may list and nothing else."""
    made = here.call("POST", "/v2/gpufn/keys", json={"scopes": ["list_functions"]})
    return str(made["key"]["value"] if "key" in made else made["value"])


@pytest.mark.parametrize("role", ["admin", "narrow"])
def test_every_operation_answers_as_the_document_says(role: str, tmp_path: Path) -> None:
    """No 5xx, no undocumented status, media type or body, for a key with every scope and for one with hardly any."""
    assert SCHEMATHESIS is not None, "pip install -e '.[dev]'"
    with installed(tmp_path / "data", "--single-process") as here:
        token = here.key if role == "admin" else narrow_key(here)
        command = [SCHEMATHESIS, "run", f"{here.url}/v3/openapi", "--url", here.url]
        command += ["-H", f"Authorization: Bearer {token}", "--exclude-path-regex", NEVER_ENDING]
        command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing,stateful"]
        command += ["--max-examples", "3", "--max-time", str(SECONDS), "--no-shrink", "--no-color"]
        done = subprocess.run(
            command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )

        assert done.returncode == 0, done.stdout[-8000:]
        assert here.gpufn("status").returncode == 0

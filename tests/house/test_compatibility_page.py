"""docs/compatibility.md says what the route table and the tests say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_routes_and_the_tests_say() -> None:
    """Out of date? `scripts/compatibility-doc > docs/compatibility.md`."""
    command = [sys.executable, str(ROOT / "scripts/compatibility-doc")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert (ROOT / "docs/compatibility.md").read_text() == done.stdout

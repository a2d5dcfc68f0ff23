"""The settings page, the settings tree, and the way of a tree to a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gpufn.server import lifeline
from gpufn.settings import Settings, names

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_docstrings_say() -> None:
    """docs/reference/settings.md is the output of scripts/settings-doc and has a row for every setting."""
    page = (ROOT / "docs/reference/settings.md").read_text()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/settings-doc"], capture_output=True, text=True, check=True, timeout=30
    )
    assert page.rstrip() == done.stdout.rstrip()
    assert [name for name in names() if f"| `{name.rpartition('.')[2]}` |" not in page] == []


def test_a_child_receives_the_whole_tree() -> None:
    """What encode wrote is what receive returns, and not a byte more is read."""
    sent = Settings(data=Path("/somewhere"))
    ours, theirs = os.pipe()
    os.write(theirs, lifeline.encode(sent) + b"more")
    kept = os.dup(0)
    try:
        os.dup2(ours, 0)
        assert lifeline.receive() == sent
        assert os.read(0, 10) == b"more"
    finally:
        os.dup2(kept, 0)
        for handle in (ours, theirs, kept):
            os.close(handle)

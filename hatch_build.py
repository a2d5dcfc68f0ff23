"""Builds the wheel with the gateway's hot path as machine code, where ``GPUFN_COMPILE=1`` is set: see
docs/performance.md. Without it nothing is built and the wheel is pure Python; both behave alike.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = (
    "admission", "answers", "budget", "call", "deadlines", "dispatch", "edge", "fields", "forward",
    "framing", "http1", "invocation", "limits", "lines", "load", "outgoing", "problems", "queue", "route", "service",
    "slots", "snapshot", "sse", "upstream", "version",
)  # fmt: skip
"""Of ``gpufn.gateway``: what every call goes through, and what those modules share classes with."""
PATHS = (*(f"gpufn/gateway/{name}.py" for name in MODULES), "gpufn/runtime/clock.py")


class CustomBuildHook(BuildHookInterface):
    """Adds the compiled modules to a wheel."""

    def _wanted(self) -> bool:
        return self.target_name == "wheel" and os.environ.get("GPUFN_COMPILE") == "1"

    def dependencies(self) -> list[str]:
        """What the build needs beyond hatchling."""
        return ["mypy>=1.11", "setuptools>=70"] if self._wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the results included beside the sources, which stay as documentation."""
        if not self._wanted():
            return
        if version == "editable":
            raise SystemExit("GPUFN_COMPILE=1 makes no sense with an editable install: leave out one of the two")
        self._work = tempfile.mkdtemp(prefix="gpufn-compile-")
        for library in compiled(Path(self.root) / "src", Path(self._work)):
            build_data["force_include"][str(library)] = str(library.relative_to(Path(self._work) / "out"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the compiler left."""
        if self._wanted():
            shutil.rmtree(self._work, ignore_errors=True)


def compiled(sources: Path, work: Path) -> list[Path]:
    """The libraries made of PATHS, under ``work/out``."""
    from mypyc.build import mypycify  # build dependencies: only there when they are wanted
    from setuptools import Distribution

    shutil.copytree(sources, work / "src", ignore=shutil.ignore_patterns("__pycache__"))
    flags = ["--follow-imports=silent", "--ignore-missing-imports", "--no-warn-unused-ignores"]
    with contextlib.chdir(work / "src"):
        modules = mypycify([*PATHS, *flags], opt_level="3", group_name="gpufn_gateway", target_dir=str(work / "c"))
        distribution = Distribution({"name": "gpufn", "ext_modules": modules, "packages": []})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(work / "out"), str(work / "o")
        command.ensure_finalized()
        command.run()
    return sorted((work / "out").rglob("*.so"))

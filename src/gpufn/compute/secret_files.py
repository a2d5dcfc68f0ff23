"""/var/secrets of an instance: files that appear, and change, in one step (auth page, section 11)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gpufn.compute.backend import BackendError, Files

TARGET = "/var/secrets"
"""Where an instance finds them."""
VARIABLE = "GPUFN_SECRETS_DIR"
"""Tells an instance where they are, also where it cannot have a /var/secrets of its own."""


def write(directory: Path, files: Files, *, mode: int) -> None:
    """Bring ``directory`` to hold ``files`` with ``mode``; one that is right already is left alone."""
    try:
        for name, text in files.items():
            path = directory / name
            if not path.exists() or path.read_text() != text:
                _replace(path, text, mode)
    except OSError as error:
        raise BackendError(f"the secrets cannot be written to {directory}: {error.strerror}") from error


def _replace(path: Path, text: str, mode: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".secret-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def wipe(directory: Path) -> None:
    """Delete what is in ``directory``: a secret lies in the clear only while its instance lives."""
    for path in directory.glob("*") if directory.is_dir() else ():
        path.unlink(missing_ok=True)

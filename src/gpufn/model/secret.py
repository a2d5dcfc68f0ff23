"""Secrets: a name, a value that no answer ever shows, and where the value belongs.

At rest a secret is sealed (``auth.keyring``). Its place and its name are bound into the seal, so that a row moved to
another place or account cannot be opened there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

VALUE_MAX = 32_768
"""Characters of the longest value; objects are measured as compact JSON (control-plane page, section 10)."""
SECRETS_MAX = 256
"""Most secrets in one place."""

SecretValue: TypeAlias = str | dict[str, Any]


@dataclass(frozen=True)
class Secret:
    """One secret in the clear. Kept in memory only, and never shown."""

    name: str
    value: SecretValue = field(repr=False)


@dataclass(frozen=True)
class SealedSecret:
    """One secret as it is stored: its value under a data key of its own, the data key under a master key."""

    place: str
    name: str
    master: str
    """The id of the master key that wraps the data key."""
    wrapped: bytes
    sealed: bytes


def version_place(nca_id: str, version_id: str) -> str:
    """Where the secrets of a version are."""
    return f"accounts/{nca_id}/versions/{version_id}"


def task_place(nca_id: str, task_id: str) -> str:
    """Where the secrets of a task are."""
    return f"accounts/{nca_id}/tasks/{task_id}"


def telemetry_place(nca_id: str, telemetry_id: str) -> str:
    """Where the secret of a telemetry endpoint is."""
    return f"accounts/{nca_id}/telemetries/{telemetry_id}"


def cluster_place(cluster_id: str) -> str:
    """Where the TLS files of a cluster's engine are."""
    return f"clusters/{cluster_id}"


def registry_place(nca_id: str, credential_id: str) -> str:
    """Where the secret of a registry credential is."""
    return f"accounts/{nca_id}/registry-credentials/{credential_id}"

"""Registry credentials from a Docker ``config.json``. Only its ``auths`` section is read: no helper program is run."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpufn.compute.docker.reference import HUB

SIZE_MAX = 1024 * 1024
"""Bytes of the largest credentials file that is read."""

_HUB_NAMES = frozenset({HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


@dataclass(frozen=True)
class Credentials:
    """What a credentials file says; ``problem`` is why it says less than it might."""

    source: str
    by_registry: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problem: str = ""

    def __repr__(self) -> str:
        return f"<Credentials {self.source} for {sorted(self.by_registry)}>"  # never the secrets

    def of(self, registry: str) -> Mapping[str, str] | None:
        """What to send to ``registry``; None: nothing. Hosts must match exactly, port included."""
        return self.by_registry.get(registry_host(registry))


def in_turn(
    own: Sequence[Mapping[str, str]], known: Mapping[str, str] | None
) -> list[tuple[bool, Mapping[str, str] | None]]:
    """What to send, one after the other, each with whether it is the last: an account's own first, nothing only where
    there is nothing at all.
    """
    every: list[Mapping[str, str] | None] = [*own, *([known] if known is not None or not own else [])]
    return [(n == len(every) - 1, auth) for n, auth in enumerate(every)]


def registry_host(key: str) -> str:
    """The registry a key of ``auths`` is for: ``https://index.docker.io/v1/`` is ``docker.io``."""
    host = key.partition("://")[2] or key
    host = host.partition("/")[0].lower()
    return HUB if host in _HUB_NAMES else host


def default_file() -> Path:
    """Where ``docker login`` writes."""
    return Path.home() / ".docker" / "config.json"


def load(auth_file: str) -> Credentials:
    """Read ``auth_file``, or the default file when empty. Read anew for each pull, so that a fresh login counts.

    Never raises: a file that cannot be read is a ``problem``, shown when a registry refuses.
    """
    path = Path(auth_file).expanduser() if auth_file else default_file()
    try:
        if path.stat().st_size > SIZE_MAX:
            return Credentials(str(path), problem=f"it is larger than {SIZE_MAX} bytes")
        return parse(path.read_bytes(), source=str(path))
    except FileNotFoundError:
        return Credentials(str(path), problem="it does not exist")
    except OSError as error:
        return Credentials(str(path), problem=f"it cannot be read: {error.strerror or error}")


def parse(content: bytes, *, source: str) -> Credentials:
    """The credentials in the text of a ``config.json``."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return Credentials(source, problem="it is not JSON")
    auths = document.get("auths") if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        return Credentials(source, problem=_helpers(document) or 'it has no "auths"')
    found = {registry_host(key): entry for key, value in auths.items() if (entry := _entry(value)) is not None}
    return Credentials(source, found, _helpers(document))


def _entry(value: Any) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    token = value.get("identitytoken")
    if isinstance(token, str) and token:
        return {"identitytoken": token}
    username, password = value.get("username"), value.get("password")
    if isinstance(value.get("auth"), str) and value["auth"]:
        username, password = _decode(value["auth"])
    if isinstance(username, str) and isinstance(password, str) and username:
        return {"username": username, "password": password}
    return None


def _decode(auth: str) -> tuple[str, str]:
    try:
        username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return username, password


def _helpers(document: Any) -> str:
    named = [name for name in ("credsStore", "credHelpers") if isinstance(document, dict) and document.get(name)]
    return f"its {' and '.join(named)} is not consulted, only plain entries of its auths" if named else ""

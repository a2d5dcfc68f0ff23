"""Where the installation is and which key to use: flags, then the environment, then the data directory.

The admin key in a data directory is only ever sent to the installation that wrote it, never to a URL from elsewhere.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gpufn.client.errors import BadUrl, ClientError, NotRunning
from gpufn.settings import ClientSettings

RUNNING = "running.json"
"""Written by the server while it runs: ``{"url": …, "grpc": …}`` and more."""
ADMIN_KEY = "admin.key"
"""Written by the server at first boot, mode 0600."""
FILE_MAX = 64 * 1024


@dataclass(frozen=True)
class Wanted:
    """What the command line said; None: nothing."""

    data: Path | None = None
    url: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """An installation and the key for it. ``data`` is its data directory, where it lives on this machine."""

    url: str
    key: str | None = field(repr=False)
    data: Path


def discover(wanted: Wanted, settings: ClientSettings) -> Endpoint:
    """Find the installation. Raises NotRunning when nothing says where it is."""
    data = (wanted.data or settings.data).absolute()
    url = wanted.url or (settings.url if wanted.data is None else None)
    local = running_url(data)
    key = wanted.key or (settings.api_key if wanted.data is None or wanted.url else None)
    if url is None and local is None:
        raise NotRunning(f"gpufn is not running on {data}", fix=f"start it with `gpufn up{_data_flag(wanted)}`")
    if key is None and local is not None and (url is None or url.rstrip("/") == local.rstrip("/")):
        key = admin_key(data)
    return Endpoint(url=checked(url or local or ""), key=key, data=data)


def checked(url: str) -> str:
    """``url``, if it is one of an installation: http or https, with a host."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise BadUrl(f"{url!r} is not an http or https URL", fix="write it like http://127.0.0.1:8080")
    return url.rstrip("/")


def running_url(data: Path) -> str | None:
    """The URL that ``running.json`` names, or None when there is no such file."""
    return _running(data).get("url")


@dataclass(frozen=True)
class Ports:
    """What else ``running.json`` names, each where there is one."""

    grpc: str | None = None
    """Host and port for gRPC."""
    tls: str | None = None
    """The URL for HTTP over TLS."""
    proxy: str | None = None
    """The URL of the CONNECT proxy."""


def running_ports(data: Path) -> Ports:
    """The ports beside the one for HTTP."""
    facts = _running(data)
    return Ports(facts.get("grpc"), facts.get("tls"), facts.get("proxy"))


def _running(data: Path) -> dict[str, str]:
    """What ``running.json`` says; nothing when there is no such file."""
    text = _read(data / RUNNING)
    if text is None:
        return {}
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or not isinstance(facts.get("url"), str):
        raise ClientError(f"{data / RUNNING} is damaged", fix="restart `gpufn up`, which writes it anew")
    return facts


def admin_key(data: Path) -> str | None:
    """The key the installation wrote at its first boot, if it is still there."""
    text = _read(data / ADMIN_KEY)
    return text.strip() or None if text is not None else None


def answers(url: str, *, seconds: float = 2.0) -> bool:
    """Whether anything accepts connections at ``url``."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=seconds).close()
    except OSError:
        return False
    return True


def _read(path: Path) -> str | None:
    try:
        with path.open() as file:
            return file.read(FILE_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(
            f"{path} cannot be read: {error}", fix="check who owns it, or pass --url and --key"
        ) from error


def _data_flag(wanted: Wanted) -> str:
    return f" --data {wanted.data}" if wanted.data else ""

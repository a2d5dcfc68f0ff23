"""Where the engine of a registered cluster is: a Unix socket, TCP with TLS, or SSH; and the library's client for it."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiodocker

from gpufn.compute.backend import BackendError

CA, CERT, KEY = "ca.pem", "cert.pem", "key.pem"
TLS_FILES = (CA, CERT, KEY)
"""As Docker names them in ``~/.docker``."""


@dataclass(frozen=True)
class Endpoint:
    """An engine's address. ``tls``: the texts of the three files by name; none for a socket."""

    url: str
    tls: Mapping[str, str] = field(default_factory=dict, repr=False)


def client(endpoint: Endpoint) -> aiodocker.Docker:
    """A client, not connected yet. Raises BackendError for what cannot even be tried."""
    scheme = urlsplit(endpoint.url).scheme
    try:
        if scheme == "unix":
            return aiodocker.Docker(url=endpoint.url)
        if scheme == "tcp" and endpoint.tls:
            return aiodocker.Docker(
                url=endpoint.url.replace("tcp://", "https://", 1), ssl_context=_context(endpoint.tls)
            )
        if scheme in ("tcp", "ssh"):
            return aiodocker.Docker(url=endpoint.url)
    except aiodocker.DockerError as error:
        hint = "; pip install 'gpufn[ssh]'" if "asyncssh" in error.message else ""
        raise BackendError(f"{endpoint.url}: {error.message}{hint}") from error
    except (ssl.SSLError, ValueError, OSError) as error:
        raise BackendError(f"{endpoint.url}: its TLS files cannot be used: {error}") from error
    raise BackendError(f"{endpoint.url}: use unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST")


def _context(tls: Mapping[str, str]) -> ssl.SSLContext:
    """Both sides prove who they are. The library takes key and certificate from files only."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=tls[CA])
    with tempfile.TemporaryDirectory(prefix="gpufn-tls-") as name:
        directory = Path(name)
        for file in (CERT, KEY):
            (directory / file).touch(mode=0o600)
            (directory / file).write_text(tls[file])
        context.load_cert_chain(directory / CERT, directory / KEY)
    return context

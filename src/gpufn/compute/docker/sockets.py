"""Where a container engine may listen on this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gpufn.compute.backend import BackendError

UNIX = "unix://"


def candidates(configured: str, docker_host: str = "") -> list[str]:
    """Sockets to try, best first: ``docker.socket``; else DOCKER_HOST; else the usual places of Docker and Podman.

    Raises BackendError for an address that is no Unix socket: ports are published on this machine's loopback and
    directories are shared, so the engine must be on this machine.
    """
    for name, value in (("docker.socket", configured), ("DOCKER_HOST", docker_host)):
        if value:
            return [_path(name, value)]
    podman = Path(f"/run/user/{os.getuid()}/podman/podman.sock")
    return ["/var/run/docker.sock", str(podman), "/run/podman/podman.sock"]


def _path(name: str, value: str) -> str:
    path = value.removeprefix(UNIX)
    if not path.startswith("/"):
        raise BackendError(
            f"{name} = {value} is not a Unix socket; name the socket of an engine on this machine, e.g."
            " unix:///var/run/docker.sock"
        )
    return path


def missing(path: str) -> str:
    """Why nothing can answer at ``path``; empty when a socket is there."""
    try:
        return "" if stat.S_ISSOCK(Path(path).stat().st_mode) else "not a socket"
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return error.strerror or str(error)

"""What we ask an engine for: a launch request as the body of "create a container". No I/O."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufn.compute import secret_files
from gpufn.compute.backend import LaunchRequest
from gpufn.compute.environment import TASK_DIR, platform_environment
from gpufn.model.errors import Fatal
from gpufn.model.ids import InstanceId
from gpufn.settings import DockerSettings

SHARED_DIR = "/var/inf"
"""Where the platform's directory is mounted (invocation-plane page, section 10.6)."""
LABEL = "gpufn."
INSTALLATION, INSTANCE, GPUS = f"{LABEL}installation", f"{LABEL}instance", f"{LABEL}gpus"
INFERENCE_PORT, HEALTH_PORT = f"{LABEL}inference-port", f"{LABEL}health-port"
TASK = f"{LABEL}task"

_SHM_BYTES = 1024**3
_LOG = {"Type": "json-file", "Config": {"max-size": "8m", "max-file": "2"}}
_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_MEMORY_MIN = 6 * 1024**2


@dataclass(frozen=True)
class Limits:
    """What one container may use; 0 means no limit."""

    memory: int
    """Bytes."""
    cpus: float
    pids: int


def limits(settings: DockerSettings) -> Limits:
    """The limits of every container. Raises Fatal, naming the setting, for a value no engine accepts."""
    match = re.fullmatch(r"(\d+)([bkmgt]?)b?", settings.memory.strip().lower()) if settings.memory else None
    memory = int(match[1]) * _UNITS[match[2]] if match else 0
    if settings.memory and memory < _MEMORY_MIN:
        raise Fatal(f"docker.memory = {settings.memory!r} is not a size of at least 6m; write e.g. 8g", exit_code=2)
    if settings.cpus < 0 or settings.pids < 0:
        raise Fatal("docker.cpus and docker.pids cannot be negative; 0 means no limit", exit_code=2)
    return Limits(memory, settings.cpus, settings.pids)


def container_name(instance_id: InstanceId) -> str:
    """Names make launches idempotent: an engine holds each only once."""
    return f"gpufn-{instance_id}"


def arguments(args: str | None) -> list[str] | None:
    """``containerArgs`` split as a shell would; None keeps the image's own. Raises ValueError for an open quote."""
    return shlex.split(args) if args and args.strip() else None


def container(
    request: LaunchRequest,
    *,
    image: str,
    installation: str,
    limits: Limits,
    mounts: Mapping[str, Any],
    devices: Sequence[int],
    publish: str = "127.0.0.1",
) -> dict[str, Any]:
    """The body of "create a container" (Engine API 1.41): the image's entrypoint, and our arguments if any. Ports are
    published on the address ``publish`` of the engine's machine.
    """
    ports = {f"{port}/tcp": [{"HostIp": publish, "HostPort": ""}] for port in _ports(request)}
    body: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in _environment(request).items()],
        "Labels": labels(request, installation=installation, devices=devices),
        "ExposedPorts": {port: {} for port in ports},
        "HostConfig": _host(limits, ports) | dict(mounts) | _gpus(devices),
    }
    command = arguments(request.args)
    return body if command is None else body | {"Cmd": command}


def labels(request: LaunchRequest, *, installation: str, devices: Sequence[int]) -> dict[str, str]:
    """By these a later process of ours finds the container and knows how to reach it."""
    common = {
        INSTALLATION: installation,
        INSTANCE: request.instance_id,
        GPUS: ",".join(str(device) for device in devices),
        f"{LABEL}account": request.nca_id,
    }
    if request.task is not None:
        return common | {TASK: request.task.id}
    return common | {
        INFERENCE_PORT: str(request.inference_port),
        HEALTH_PORT: str(request.health_port),
        f"{LABEL}function": request.function_id,
        f"{LABEL}version": request.version_id,
    }


def _ports(request: LaunchRequest) -> list[int]:
    return sorted({request.inference_port, request.health_port}) if request.task is None else []


def _host(limits: Limits, ports: dict[str, Any]) -> dict[str, Any]:
    """Capabilities as the reference grants them (invocation-plane page, section 10.8)."""
    host: dict[str, Any] = {
        "PortBindings": ports,
        "CapDrop": ["ALL"],
        "CapAdd": ["NET_BIND_SERVICE"],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": _LOG,
        "ShmSize": _SHM_BYTES,
    }
    if limits.memory:
        host |= {"Memory": limits.memory, "MemorySwap": limits.memory}  # equal: no swap on top
    if limits.cpus:
        host["NanoCpus"] = int(limits.cpus * 1_000_000_000)
    if limits.pids:
        host["PidsLimit"] = limits.pids
    return host


def _environment(request: LaunchRequest) -> dict[str, str]:
    ours = {secret_files.VARIABLE: secret_files.TARGET}
    return dict(request.environment) | platform_environment(request) | ours


def mounts(request: LaunchRequest, shared: Path, secrets: Path) -> dict[str, Any]:
    """The directories that an instance sees of this machine."""
    source, target = (str(shared), SHARED_DIR) if request.task is None else (request.task.directory, TASK_DIR)
    return {
        "Mounts": [
            {"Type": "bind", "Source": source, "Target": target},
            {"Type": "bind", "Source": str(secrets), "Target": secret_files.TARGET, "ReadOnly": True},
        ]
    }


def _gpus(devices: Sequence[int]) -> dict[str, Any]:
    if not devices:
        return {}
    return {
        "DeviceRequests": [
            {"Driver": "nvidia", "DeviceIDs": [str(device) for device in devices], "Capabilities": [["gpu"]]}
        ]
    }

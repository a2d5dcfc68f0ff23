"""What an engine's answers say about one container. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpufn.compute.docker.spec import GPUS, HEALTH_PORT, INFERENCE_PORT, INSTANCE, SHARED_DIR, TASK
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Address

_RUNNING = frozenset({"running", "paused", "restarting"})
_ENDED = frozenset({"exited", "dead", "stopped"})


@dataclass(frozen=True)
class Container:
    """One entry of "list containers"."""

    id: str
    instance_id: InstanceId
    state: str
    labels: Mapping[str, str]
    published: Mapping[int, int]
    """The host's port for each of the container's."""

    @property
    def is_running(self) -> bool:
        """Whether its process exists."""
        return self.state in _RUNNING

    @property
    def has_ended(self) -> bool:
        """Whether its process existed and is gone."""
        return self.state in _ENDED

    @property
    def devices(self) -> tuple[int, ...]:
        """The indices of the GPUs passed to it."""
        return tuple(int(device) for device in self.labels.get(GPUS, "").split(",") if device.isdecimal())

    def address(self, host: str) -> Address | None:
        """Where it listens, on a machine that is reached as ``host``; None until the engine has published its ports. A
        task listens nowhere.
        """
        if TASK in self.labels:
            return Address(host, 0, 0)
        port = self._published(INFERENCE_PORT)
        health_port = self._published(HEALTH_PORT)
        if port is None or health_port is None:
            return None
        return Address(host, port, health_port, SHARED_DIR)

    def _published(self, label: str) -> int | None:
        private = self.labels.get(label, "")
        return self.published.get(int(private)) if private.isdecimal() else None


def containers(answer: Iterable[Mapping[str, Any]]) -> dict[InstanceId, Container]:
    """The instances in an answer to "list containers"; entries without our label are left out."""
    found = (_container(entry) for entry in answer)
    return {container.instance_id: container for container in found if container is not None}


def _container(entry: Mapping[str, Any]) -> Container | None:
    labels = entry.get("Labels") or {}
    if not labels.get(INSTANCE):
        return None
    published = {
        int(port["PrivatePort"]): int(port["PublicPort"])
        for port in entry.get("Ports") or ()
        if port.get("PublicPort") and port.get("Type", "tcp") == "tcp"
    }
    return Container(
        id=str(entry["Id"]),
        instance_id=InstanceId(labels[INSTANCE]),
        state=str(entry.get("State", "")).lower(),
        labels=labels,
        published=published,
    )

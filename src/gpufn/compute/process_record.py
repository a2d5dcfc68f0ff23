"""What the process backend writes down about each instance before it acts, so that its own death loses nothing."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from gpufn.compute.backend import LaunchRequest, TaskLaunch
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Address, Failure, FailureKind
from gpufn.runtime.log import get_logger

log = get_logger("process")

FILE = "launch.json"
SHARED_DIR = "/var/inf"
"""Where an isolated instance finds the platform's directory."""


class Stage(StrEnum):
    """How far the start of an instance came."""

    PREPARING = "preparing"
    """Wanted; no process was started."""
    STARTING = "starting"
    """Its process is about to be started, or was: only a look at the processes tells."""
    RUNNING = "running"
    """Its process was started; ``pid`` says which."""
    ENDED = "ended"
    """``failure`` says why. Stays until it is terminated."""


@dataclass(frozen=True)
class Record:
    """One instance. ``request`` is None when only its processes were found, and nothing written about them."""

    id: InstanceId
    stage: Stage
    request: LaunchRequest | None = None
    port: int = 0
    health_port: int = 0
    shared_dir: str = ""
    devices: tuple[int, ...] = ()
    pid: int = 0
    created: float = 0.0
    """When the process began, seconds since the epoch; with ``pid`` its identity."""
    started: float = 0.0
    """When it became this instance; an interpreter that waited began before. 0: as ``created``."""
    environment: tuple[tuple[str, str], ...] = ()
    """The variables it was started with, for what is run beside it."""
    directory: str = ""
    """Where it was started."""
    failure: Failure | None = None
    stopping: bool = False
    grace: float = 10.0

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address("127.0.0.1", self.port, self.health_port, self.shared_dir)

    @property
    def isolated(self) -> bool:
        """Whether it sees the platform's directories where a container would."""
        return self.shared_dir == SHARED_DIR

    def ended(self, failure: Failure) -> Record:
        """The record after its end; its devices are free."""
        return replace(self, stage=Stage.ENDED, failure=failure, devices=())


def dump(record: Record) -> str:
    """The record as JSON, without the secrets: those have files of their own."""
    content = asdict(record)
    if content["request"] is not None:
        del content["request"]["secrets"], content["request"]["logins"]
    return json.dumps(content)


def parse(text: str) -> Record:
    """The record in ``text``; raises ValueError for anything that ``dump`` did not write."""
    try:
        content: dict[str, Any] = json.loads(text)
        request, failure = content["request"], content["failure"]
        if request is not None:
            pairs = tuple((str(k), str(v)) for k, v in request["environment"])
            task = TaskLaunch(**request["task"]) if request.get("task") is not None else None
            content["request"] = LaunchRequest(**{**request, "environment": pairs, "task": task})
        if failure is not None:
            content["failure"] = Failure(**{**failure, "kind": FailureKind(failure["kind"])})
        own = tuple((str(k), str(v)) for k, v in content.get("environment", ()))
        devices = tuple(content["devices"])
        return Record(**{**content, "stage": Stage(content["stage"]), "devices": devices, "environment": own})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record: {error}") from error


def read_all(instances: Path) -> list[Record]:
    """Every record below ``instances``; one that cannot be read is dropped, and its processes tell what they can."""
    records = []
    for path in instances.glob(f"*/{FILE}"):
        try:
            records.append(parse(path.read_text()))
        except ValueError as error:
            log.warning("an unreadable record is dropped", path=str(path), error=str(error))
            path.unlink()
    return records


def save(directory: Path, record: Record) -> None:
    """Write it into ``directory``, in one step and for the owner alone; it holds the user's variables."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".launch-")  # mode 0600
    with os.fdopen(handle, "w") as file:
        file.write(dump(record))
    Path(temporary).replace(directory / FILE)

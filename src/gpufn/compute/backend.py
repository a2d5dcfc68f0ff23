"""What every compute backend can do. ``tests/compute/contract.py`` holds each of them to these words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias

from gpufn.model.ids import InstanceId
from gpufn.model.instance import Address, Failure

Files: TypeAlias = Mapping[str, str]
"""Texts by file name."""


@dataclass(frozen=True)
class Login:
    """A credential for one registry; sent to exactly that host."""

    host: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class TaskLaunch:
    """What makes an instance a task's (tasks page, section 10): it listens nowhere, and it ends.

    ``directory`` is a directory of this machine that the instance sees as ``/var/task``; it exists already, with
    ``results`` in it.
    """

    id: str
    name: str
    directory: str


@dataclass(frozen=True)
class LaunchRequest:
    """Everything a backend needs to start one instance."""

    instance_id: InstanceId
    nca_id: str
    function_id: str
    version_id: str
    function_name: str
    image: str
    """``containerImage`` as the user gave it."""
    args: str | None
    """``containerArgs``: one string, split as a shell would; replaces the image's default arguments."""
    environment: tuple[tuple[str, str], ...]
    """The user's variables, in order. ``NVCF_*`` names are the platform's and win."""
    inference_port: int
    health_port: int
    gpu: str
    gpu_count: int
    """Devices needed; 0 for the ``CPU`` type."""
    emulated: bool
    """The GPU is emulated: nothing is reserved or passed through."""
    instance_type: str
    instance_type_value: str
    backend: str
    """Cluster group name, shown to the instance as ``NVCF_BACKEND``."""
    region: str
    secrets: Files = field(default_factory=dict, repr=False)
    """What the instance finds in /var/secrets. Never part of what a backend writes down about a launch."""
    logins: tuple[Login, ...] = field(default=(), repr=False)
    """Credentials of the account for the registry of ``image``, to be tried in turn. Never written down either."""
    task: TaskLaunch | None = None
    """Set for a task; it has no function, and its ports mean nothing."""


class Phase(StrEnum):
    """What is seen of an instance."""

    ABSENT = "absent"
    """Nothing here, and nothing on its way: never launched here, or gone after ``terminate``."""
    PREPARING = "preparing"
    """Accepted; its image is fetched or its environment built. ``detail`` says how far."""
    STARTING = "starting"
    """Its image is there; its process or container is being made."""
    RUNNING = "running"
    """Its process or container exists and ``address`` is set. Whether it is ready is for the probe to say."""
    EXITED = "exited"
    """It could not be started, or has ended. ``failure`` says why; it stays so until ``terminate``."""


@dataclass(frozen=True)
class Observation:
    """What a backend sees of one instance, at one moment."""

    phase: Phase
    detail: str = ""
    address: Address | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class LogLine:
    """One line an instance wrote, without its line end; at most 64 KiB, longer ones are split."""

    text: str
    at: datetime | None = None


EXEC_OUTPUT_MAX = 1024 * 1024
"""Bytes of a command's output that are kept: its beginning."""


@dataclass(frozen=True)
class ExecResult:
    """What came of a command: standard output and error together, and its exit code; None when time was over."""

    output: str
    code: int | None
    truncated: bool = False


class Backend(Protocol):
    """A place that runs instances. Every verb may be repeated; instances are named by id, so two launches are one.

    ``launch`` and ``terminate`` return as soon as the wish is recorded; ``observe`` tells what became of it. Backends
    raise ``BackendError`` (never a library's own exception) when they cannot even record or look; controllers retry.
    """

    name: str

    async def open(self) -> None:
        """Connect, and find again what an earlier process of ours left running. Must be called first."""
        ...

    async def close(self, *, terminate: bool) -> None:
        """Let go. With ``terminate`` also end everything that runs, killing what does not end in time."""
        ...

    async def provides(self, image: str) -> bool:
        """Whether this backend knows, or could fetch, ``image``. Cheap; no network."""
        ...

    async def launch(self, request: LaunchRequest) -> None:
        """See that the instance runs. Problems with it show up in ``observe``, as EXITED with a failure."""
        ...

    async def refresh(self, instance_id: InstanceId, secrets: Files) -> None:
        """Replace what the instance finds in /var/secrets, each file in one step, without a restart. Nothing happens
        to an instance that is not here.
        """
        ...

    async def observe(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Observation]:
        """What is seen of each of ``ids``; every id has an entry."""
        ...

    async def terminate(self, instance_id: InstanceId, *, grace: float) -> None:
        """See that it stops: politely, and after ``grace`` seconds by force. Its logs stay; ``observe`` says ABSENT."""
        ...

    async def list(self) -> Sequence[InstanceId]:
        """Every instance of this installation that has something running here, wanted or not."""
        ...

    async def forget(self, instance_id: InstanceId) -> None:
        """Delete what is kept of an instance that has ended: logs, directories, containers."""
        ...

    async def exec(self, instance_id: InstanceId, command: Sequence[str], *, seconds: float) -> ExecResult | None:
        """Run a command where the instance runs, as it would find itself there, for at most ``seconds``. None when
        the instance does not run here. A program that does not exist is code 127, one that may not be run 126.
        """
        ...

    def logs(
        self, instance_id: InstanceId, *, follow: bool, tail: int | None, since: datetime | None = None
    ) -> AsyncIterator[LogLine]:
        """Its output, standard output and error together: the last ``tail`` lines (None: all that is kept), then,
        with ``follow``, what comes until the instance ends. Also after it has ended, until ``forget``. What was
        written before ``since`` is left out, as far as is known: where times are not kept to the line, a little more
        is given, never less.
        """
        ...


def nobody(instance_id: InstanceId) -> None:
    """Whom a backend tells that something is seen anew of an instance, where nobody wants to know."""


class BackendError(Exception):
    """A backend could not carry out a verb. Never shown as it is; controllers retry and keep it as a reason."""

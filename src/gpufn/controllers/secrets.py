"""Secrets of running instances: what changed in the store appears in them, without a restart.

A pass gives every live instance of a version what it is to find; a backend leaves alone what is right already. So
nothing has to be remembered, and a value that was lost on the way arrives with the next resync.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpufn.auth.keyring import Keyring
from gpufn.compute.backend import BackendError, Files, Login
from gpufn.compute.docker import reference
from gpufn.controllers.context import Context
from gpufn.model.ids import InstanceId
from gpufn.model.instance import InstanceStatus as S
from gpufn.model.registry import ArtifactType
from gpufn.model.secret import SealedSecret, registry_place, task_place, telemetry_place, version_place
from gpufn.model.task import Task
from gpufn.runtime.controller import Controller
from gpufn.store import functions, instances, registries, secrets, tasks, telemetries
from gpufn.store.database import Transaction

FILE = "secrets.json"
"""All secrets of a version or a task: an object from name to value (auth page, section 11)."""

ACCOUNT_FILE = "accounts-secrets.json"
"""The secrets of the telemetry endpoints that it uses."""


@dataclass(frozen=True)
class Sealed:
    """What an instance is to find: its own secrets, and those of the account that it uses. ``registry``: what its
    image is fetched with, each with the host it is for.
    """

    own: Sequence[SealedSecret]
    account: Sequence[SealedSecret] = ()
    registry: Sequence[tuple[str, SealedSecret]] = ()


class Secrets:
    """Key: the id of a version that has live instances, or of a task that has one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.controller: Controller[str] = Controller(
            "secrets", self.reconcile, self.keys, workers=2, resync=context.settings.resync
        )

    async def keys(self) -> Sequence[str]:
        """Every version with live instances, and every task with one."""
        return await self._context.db.run(lambda tx: [*instances.live_version_ids(tx), *tasks.placed_ids(tx)])

    async def reconcile(self, version_id: str) -> float | None:
        """One pass."""
        sealed, launched = await self._context.db.run(lambda tx: _read(tx, version_id))
        files = files_of(self._context.keyring, sealed)
        failed: BackendError | None = None
        for cluster_id, instance_id in launched if files else ():
            try:
                await self._context.fleet.backend(cluster_id).refresh(instance_id, files)
            except BackendError as error:  # the others get theirs all the same
                failed = error
        if failed is not None:
            raise failed
        return None


def _read(tx: Transaction, version_id: str) -> tuple[Sealed, list[tuple[str, InstanceId]]]:
    """What they are to find, and each that was launched, with its cluster."""
    version = functions.find(tx, version_id)
    if version is None:
        return _read_task(tx, version_id)
    launched = [
        (i.cluster_id, i.id) for i in instances.of_version(tx, version_id) if i.is_live and i.status is not S.PENDING
    ]
    return of_version(tx, version.nca_id, version_id), launched


def _read_task(tx: Transaction, task_id: str) -> tuple[Sealed, list[tuple[str, InstanceId]]]:
    task = tasks.get(tx, task_id)
    if task is None or task.launched_at is None or task.instance_id is None or task.status.is_terminal:
        return Sealed(()), []
    return of_task(tx, task), [(task.cluster_id, task.instance_id)]


def of_task(tx: Transaction, task: Task) -> Sealed:
    """What an instance of the task is to be given, and what its image is fetched with."""
    sealed = _sealed(tx, task.nca_id, task.id, task_place(task.nca_id, task.id))
    return replace(sealed, registry=of_registry(tx, task.nca_id, task.definition.container_image or ""))


def of_version(tx: Transaction, nca_id: str, version_id: str) -> Sealed:
    """What an instance of the version is to be given."""
    return _sealed(tx, nca_id, version_id, version_place(nca_id, version_id))


def _sealed(tx: Transaction, nca_id: str, user_id: str, place: str) -> Sealed:
    used = telemetries.used_by(tx, user_id)
    return Sealed(
        secrets.in_place(tx, place),
        [one for telemetry_id in used for one in secrets.in_place(tx, telemetry_place(nca_id, telemetry_id))],
    )


def for_launch(tx: Transaction, nca_id: str, version_id: str, image: str) -> Sealed:
    """The same, with the credentials of the account for the registry of ``image``."""
    return replace(of_version(tx, nca_id, version_id), registry=of_registry(tx, nca_id, image))


def of_registry(tx: Transaction, nca_id: str, image: str) -> list[tuple[str, SealedSecret]]:
    """The account's credentials for the registry of ``image``, the last changed first."""
    found = reference.parse(image)
    if found is None:
        return []
    credentials = registries.for_host(tx, nca_id, found.registry, ArtifactType.CONTAINER)
    return [(c.hostname, one) for c in credentials for one in secrets.in_place(tx, registry_place(nca_id, c.id))]


def logins_of(keyring: Keyring, sealed: Sealed) -> tuple[Login, ...]:
    """The credentials for the registry. Raises Unavailable for one that cannot be opened."""
    found = []
    for host, one in sealed.registry:
        user, _, password = base64.b64decode(str(keyring.open(one).value)).decode().partition(":")
        found.append(Login(host, user, password))
    return tuple(found)


def files_of(keyring: Keyring, sealed: Sealed) -> Files:
    """The files for /var/secrets, none for what is empty. Raises Unavailable for a secret that cannot be opened."""
    own, account = _text(keyring, sealed.own), _text(keyring, sealed.account)
    return {name: text for name, text in ((FILE, own), (ACCOUNT_FILE, account)) if text}


def _text(keyring: Keyring, sealed: Sequence[SealedSecret]) -> str:
    values = {secret.name: secret.value for secret in map(keyring.open, sealed)}
    return json.dumps(values, ensure_ascii=False) if values else ""

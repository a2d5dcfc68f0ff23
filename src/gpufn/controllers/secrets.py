"""Secrets of running instances: what changed in the store appears in them, without a restart.

A pass gives every live instance of a version what it is to find; a backend leaves alone what is right already. So
nothing has to be remembered, and a value that was lost on the way arrives with the next resync.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from gpufn.auth.keyring import Keyring
from gpufn.compute.backend import BackendError, Files
from gpufn.controllers.context import Context
from gpufn.model.ids import InstanceId
from gpufn.model.instance import InstanceStatus as S
from gpufn.model.secret import SealedSecret, version_place
from gpufn.runtime.controller import Controller
from gpufn.store import functions, instances, secrets
from gpufn.store.database import Transaction

FILE = "secrets.json"
"""All secrets of a version or a task: an object from name to value (auth page, section 11)."""


class Secrets:
    """Key: the id of a version that has live instances."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.controller: Controller[str] = Controller(
            "secrets", self.reconcile, self.keys, workers=2, resync=context.settings.resync
        )

    async def keys(self) -> Sequence[str]:
        """Every version with live instances."""
        return await self._context.db.run(instances.live_version_ids)

    async def reconcile(self, version_id: str) -> float | None:
        """One pass."""
        sealed, launched = await self._context.db.run(lambda tx: _read(tx, version_id))
        files = files_of(self._context.keyring, sealed)
        failed: BackendError | None = None
        for instance_id in launched if files else ():
            try:
                await self._context.backend.refresh(instance_id, files)
            except BackendError as error:  # the others get theirs all the same
                failed = error
        if failed is not None:
            raise failed
        return None


def _read(tx: Transaction, version_id: str) -> tuple[list[SealedSecret], list[InstanceId]]:
    version = functions.find(tx, version_id)
    if version is None:
        return [], []
    launched = [i.id for i in instances.of_version(tx, version_id) if i.is_live and i.status is not S.PENDING]
    return of_version(tx, version.nca_id, version_id), launched


def of_version(tx: Transaction, nca_id: str, version_id: str) -> list[SealedSecret]:
    """What an instance of the version is to be given."""
    return secrets.in_place(tx, version_place(nca_id, version_id))


def files_of(keyring: Keyring, sealed: Iterable[SealedSecret]) -> Files:
    """The files for /var/secrets; none where there is no secret. Raises Unavailable for one that cannot be opened."""
    values = {secret.name: secret.value for secret in map(keyring.open, sealed)}
    return {FILE: json.dumps(values, ensure_ascii=False)} if values else {}

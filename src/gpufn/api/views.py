"""Reading a version together with what its public status is derived from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpufn.auth.access import require_version
from gpufn.model.access import Principal
from gpufn.model.deployment import Deployment
from gpufn.model.function import FunctionVersion
from gpufn.model.instance import Instance
from gpufn.model.status import Condition, condition
from gpufn.store import deployments, functions, instances
from gpufn.store.database import Transaction


@dataclass(frozen=True)
class Seen:
    """A version, its deployment if it has one, all its recorded instances, and the status that follows."""

    version: FunctionVersion
    deployment: Deployment | None
    instances: tuple[Instance, ...]

    @property
    def condition(self) -> Condition:
        deployment = self.deployment
        of_this = [i for i in self.instances if deployment is not None and i.deployment_id == deployment.id]
        return condition(deployment, of_this)


def see(tx: Transaction, versions: Sequence[FunctionVersion]) -> list[Seen]:
    """Each of ``versions``, in their order, in three queries."""
    ids = [v.id for v in versions]
    deployed, running = deployments.of_versions(tx, ids), instances.of_versions(tx, ids)
    return [Seen(v, deployed.get(v.id), tuple(running.get(v.id, ()))) for v in versions]


def own_version(tx: Transaction, caller: Principal, function_id: str, version_id: str) -> Seen:
    """One version of the caller's; raises NotFound, then Forbidden (auth page, section 4.4)."""
    version = functions.get(tx, caller.nca_id, function_id, version_id)
    require_version(caller, function_id, version_id)
    return see(tx, [version])[0]

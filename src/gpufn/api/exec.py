"""Commands beside an instance, as it would run them itself: with its files, its variables and its rights.

Whoever may deploy code may run it, so the scope is that of deploying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from gpufn.api.context import Context, Ctx
from gpufn.api.parameters import FunctionIdPath, InstanceIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.auth.access import require_version
from gpufn.compute.backend import BackendError
from gpufn.model.access import Principal
from gpufn.model.errors import Conflict, NotFound, Unavailable
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Instance
from gpufn.runtime.log import get_logger
from gpufn.store import instances
from gpufn.wire.exec import SECONDS, SECONDS_MAX, ExecRequest, ExecResponse, ShellRequest
from gpufn.wire.scalars import Uuid

log = get_logger("exec")


async def exec_in_instance(
    caller: Caller, context: Ctx, *, instance_id: InstanceIdPath, body: ExecRequest
) -> ExecResponse:
    """Run a command beside an instance, and wait for its end."""
    instance = await _own(context, caller, instance_id)
    return await run(context, caller, Live.of(instance), body.words(), seconds=body.timeout_seconds)


async def skyway_command(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    body: ShellRequest,
    instance_id: Annotated[Uuid, Query(alias="instanceId")],
    seconds: Annotated[int, Query(alias="timeoutSeconds", ge=1, le=SECONDS_MAX)] = SECONDS,
) -> ExecResponse:
    """The same as ngcsdk asks for it, always through a shell."""
    instance = await _own(context, caller, instance_id)
    if (instance.function_id, instance.version_id) != (function_id, version_id):
        raise NotFound(f"Function id '{function_id}', version '{version_id}': has no instance '{instance_id}'")
    return await run(context, caller, Live.of(instance), body.words(), seconds=seconds)


async def _own(context: Context, caller: Principal, instance_id: str) -> Instance:
    instance = await context.db.run(lambda tx: instances.get(tx, instance_id))
    if instance is None or instance.nca_id != caller.nca_id:
        raise NotFound(f"Instance id '{instance_id}': Not found for account '{caller.nca_id}'")
    require_version(caller, instance.function_id, instance.version_id)
    return instance


@dataclass(frozen=True)
class Live:
    """Something that runs, of a function or of a task. ``status``: what it is said to do, for people."""

    id: InstanceId
    status: str

    @staticmethod
    def of(instance: Instance) -> Live:
        return Live(instance.id, instance.status.value)


async def run(
    context: Context, caller: Principal, instance: Live, command: Sequence[str], *, seconds: int
) -> ExecResponse:
    """Run a command in it. Raises Unavailable when that cannot be asked now, Conflict when nothing of it runs."""
    log.info("command", instance=instance.id, by=caller.subject, program=command[0])
    try:
        done = await context.logs.exec(instance.id, command, seconds=seconds)
    except BackendError as error:
        raise Unavailable(f"Instance id '{instance.id}': the command cannot be run now: {error}; try again") from error
    if done is None:
        raise Conflict(
            f"Instance id '{instance.id}': is {instance.status}, so nothing can be run in it; "
            "choose one that runs (`gpufn status`)"
        )
    return ExecResponse(
        instance_id=instance.id,
        output=done.output,
        exit_code=done.code,
        timed_out=done.code is None,
        truncated=done.truncated,
    )

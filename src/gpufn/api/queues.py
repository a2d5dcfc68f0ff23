"""How many requests wait (control-plane page, section 14). The place of one request is the gateway's to tell."""

from __future__ import annotations

from gpufn.api.context import Context, Ctx
from gpufn.api.parameters import FunctionIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import Seen, known_version, known_versions_of, refuse_public
from gpufn.model.errors import NotFound
from gpufn.model.status import FunctionStatus
from gpufn.runtime.clock import loop_now
from gpufn.store.database import Transaction
from gpufn.wire.queues import QueueDto, QueuesResponse

NOT_FOR_PUBLIC = "Cannot get the queue of a public function"
_SHOWN = (FunctionStatus.ACTIVE, FunctionStatus.DEPLOYING)


async def function_queues(caller: Caller, context: Ctx, *, function_id: FunctionIdPath) -> QueuesResponse:
    """The queues of every deployed version of a function."""

    if not caller.acts_for_others:
        await context.db.run(lambda tx: refuse_public(tx, function_id, "", NOT_FOR_PUBLIC))
    shown: list[Seen] = []
    async for page in known_versions_of(context.db, caller, function_id):
        shown += (s for s in page if s.condition.status in _SHOWN)
    return _queues(context, function_id, shown)


async def version_queue(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> QueuesResponse:
    """The queue of one version."""

    def read(tx: Transaction) -> Seen:
        if not caller.acts_for_others:
            refuse_public(tx, function_id, version_id, NOT_FOR_PUBLIC)
        return known_version(tx, caller, function_id, version_id)

    return _queues(context, function_id, [await context.db.run(read)])


def _queues(context: Context, function_id: str, seen: list[Seen]) -> QueuesResponse:
    now = loop_now()
    queues = tuple(
        QueueDto(
            function_version_id=s.version.id,
            function_name=s.version.name,
            function_status=s.condition.status.value,
            queue_depth=context.load.load(s.version.id, now=now).queued,
        )
        for s in seen
        if s.condition.status in _SHOWN
    )
    if not queues:
        raise NotFound(f"Function id '{function_id}': no queue found; it is likely not deployed")
    return QueuesResponse(function_id=function_id, queues=queues)

"""Forgetting accepted invocations: results that were delivered or that nobody fetched, and bodies nobody refers to."""

from __future__ import annotations

from datetime import timedelta

from gpufn.controllers.context import Context
from gpufn.model.invocation import LINK_SECONDS
from gpufn.store import invocations

BATCH = 500
"""Invocations or objects handled in one pass."""
DELIVERED_KEPT = timedelta(minutes=1)
"""How long a delivered result is kept: long enough for a gateway to notice that it did not arrive."""
LINKED_KEPT = timedelta(seconds=LINK_SECONDS + 60)
"""How long a result is kept of which a URL was handed out."""
STRAY_AGE = timedelta(hours=6)
"""Age after which a body whose invocation is not recorded is a stray: the call was answered at once, or a gateway
died before the acceptance. It must exceed the longest window of a call by far.
"""
PREFIX = "invocations"


async def forget_results(context: Context) -> bool:
    """Forget some that are due; whether there may be more. The row goes last: a crash leaves something to find."""
    now = context.now()
    finished = now - timedelta(seconds=context.settings.keep_results)
    due = await context.db.run(
        lambda tx: invocations.old(
            tx, finished=finished, delivered=now - DELIVERED_KEPT, linked=now - LINKED_KEPT, limit=BATCH
        )
    )
    if due:
        await context.objects.delete(*(key for _, keys in due for key in keys))
        await context.db.run(lambda tx: invocations.delete(tx, [invocation_id for invocation_id, _ in due]))
    return len(due) == BATCH


async def forget_strays(context: Context) -> None:
    """Remove bodies that belong to no recorded invocation."""
    before, batch = context.now() - STRAY_AGE, list[str]()
    async for facts in context.objects.list(PREFIX):
        if facts.modified_at < before:
            batch.append(facts.key)
        if len(batch) == BATCH:
            await _forget_unknown(context, batch)
            batch.clear()
    await _forget_unknown(context, batch)


async def _forget_unknown(context: Context, keys: list[str]) -> None:
    ids = {key.split("/")[1] for key in keys}
    known = await context.db.run(lambda tx: invocations.known(tx, ids)) if ids else set()
    await context.objects.delete(*(key for key in keys if key.split("/")[1] not in known))

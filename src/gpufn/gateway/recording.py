"""What is written of an accepted invocation by who owns it; each of these goes on until the database took it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from gpufn.gateway.plane import Plane
from gpufn.gateway.problems import Reply, worker_problem
from gpufn.gateway.snapshot import Grant
from gpufn.gateway.version import Version
from gpufn.model.errors import OutcomeUnknown, Unavailable
from gpufn.model.invocation import AcceptedInvocation, Body, Outcome
from gpufn.runtime.clock import utc_now
from gpufn.runtime.log import get_logger
from gpufn.store import invocations

log = get_logger("invocations")

STORE_RETRY = 1.0
"""Seconds between two attempts to record something while the database cannot be used."""


def begun(
    plane: Plane, grant: Grant, version: Version, *, request_id: str, head: bytes, window: int
) -> AcceptedInvocation:
    """An invocation in its first attempt, whose request is not kept yet."""
    now = utc_now()
    return AcceptedInvocation(
        id=request_id,
        nca_id=grant.principal.nca_id,
        function_id=version.function_id,
        version_id=version.id,
        form="pexec",
        head=head,
        request=Body(0),
        window=window,
        accepted_at=now,
        deadline=now + timedelta(seconds=plane.settings.accepted_timeout),
        owner=plane.journal.incarnation,
        fence=1,
        attempt=1,
    )


async def next_attempt(plane: Plane, record: AcceptedInvocation, reason: str) -> tuple[bool, AcceptedInvocation]:
    """Record the next attempt: whether the invocation is ours, and what it is now."""
    while True:
        try:
            ours = await plane.journal.do(lambda tx: invocations.try_again(tx, record, note=reason))
            break
        except OutcomeUnknown:  # the fence is one of two, and what we may write depends on which
            await asyncio.sleep(STORE_RETRY)
        except Unavailable as error:
            log.warning("an attempt could not be recorded", invocation=record.id, error=error.message)
            return True, record  # the fence stays what it was: so does what we may write
    return ours, replace(record, fence=record.fence + 1, attempt=record.attempt + 1, note=reason)


async def finish(plane: Plane, record: AcceptedInvocation, outcome: Outcome) -> bool:
    """Record the outcome; False when the invocation is not ours."""
    while True:
        try:
            return await plane.journal.do(
                lambda tx: invocations.finish(tx, record.id, fence=record.fence, outcome=outcome, now=utc_now())
            )
        except Unavailable as error:
            log.warning("an outcome cannot be recorded yet", invocation=record.id, error=error.message)
            await asyncio.sleep(STORE_RETRY)


def lost(reason: str, attempts: int) -> Reply:
    """It was given to instances as often as is allowed."""
    detail = f"the request was tried {attempts} times and never answered; the last time: {reason or 'unknown'}"
    return worker_problem("inference-connection", 500, detail)

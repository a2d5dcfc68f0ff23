"""Accepted invocations are forgotten when nobody needs them any more, and not before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from control_world import BEGIN, ObjectsInMemory, a_context

from gpufn.compute.fake import FakeBackend
from gpufn.controllers import forgetting
from gpufn.controllers.context import Context
from gpufn.model.ids import new_id
from gpufn.model.invocation import AcceptedInvocation, Body, Outcome
from gpufn.store import invocations

NOW = BEGIN + timedelta(days=1)


def an_invocation(
    name: str, *, finished: datetime | None, delivered: datetime | None = None, owner: str = "", end: str = ""
) -> AcceptedInvocation:
    """One with a large request and, if it has finished, a large result."""
    outcome = Outcome(200, (), Body(1, key=f"invocations/{name}/result-1{end}")) if finished else None
    return AcceptedInvocation(
        id=name, nca_id="a", function_id=new_id(), version_id=new_id(), form="pexec", head=b"",
        request=Body(1, key=f"invocations/{name}/request"), window=1, accepted_at=BEGIN, deadline=NOW,
        owner=owner if finished else "somebody", fence=1, attempt=1, outcome=outcome, finished_at=finished,
        delivered_at=delivered,
    )  # fmt: skip


async def a_past(*past: AcceptedInvocation) -> tuple[Context, dict[str, bytes]]:
    """A context at NOW with those invocations and their objects."""
    context = replace(a_context(FakeBackend()), now=lambda: NOW)
    await context.db.run(lambda tx: invocations.insert(tx, past))
    for each in past:
        bodies = [each.request, *([each.outcome.body] if each.outcome else [])]
        for body in bodies:
            await context.objects.put(body.key or "", b"x")
    assert isinstance(context.objects, ObjectsInMemory)
    return context, context.objects.kept


async def test_results_are_kept_until_they_are_due() -> None:
    """A result goes an hour after it came, or a minute after it was delivered, with its objects; what runs stays."""
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    context, kept = await a_past(
        an_invocation("old", finished=NOW - hour - minute),
        an_invocation("waiting", finished=NOW - hour + minute),
        an_invocation("delivered", finished=NOW - minute * 3, delivered=NOW - minute * 2),
        an_invocation("arriving", finished=NOW - minute, delivered=NOW - minute / 2),
        an_invocation("running", finished=None),
    )
    assert not await forgetting.forget_results(context)
    left = await context.db.run(
        lambda tx: invocations.known(tx, ["old", "waiting", "delivered", "arriving", "running"])
    )
    assert left == {"waiting", "arriving", "running"}
    assert {key.split("/")[1] for key in kept} == left


async def test_a_result_of_which_a_url_is_out_is_kept_while_it_is_good() -> None:
    """A zip goes 35 minutes after its URL was handed out, also when an hour has passed; unfetched, after an hour."""
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    context, kept = await a_past(
        an_invocation("fresh", finished=NOW - minute * 40, delivered=NOW - minute * 34, end=".zip"),
        an_invocation("late", finished=NOW - hour - minute, delivered=NOW - minute * 30, end=".zip"),
        an_invocation("done", finished=NOW - minute * 40, delivered=NOW - minute * 36, end=".zip"),
        an_invocation("unfetched", finished=NOW - hour - minute, end=".zip"),
    )
    assert not await forgetting.forget_results(context)
    assert {key.split("/")[1] for key in kept} == {"fresh", "late"}


async def test_bodies_that_belong_to_nothing_go() -> None:
    """A body without a recorded invocation is removed once it is old; one that belongs to something is not."""
    context, kept = await a_past(an_invocation("running", finished=None))
    await context.objects.put("invocations/stray/request", b"x")
    await context.objects.put("assets/other", b"x")
    await forgetting.forget_strays(replace(context, now=lambda: BEGIN))
    assert "invocations/stray/request" in kept
    await forgetting.forget_strays(context)
    assert sorted(kept) == ["assets/other", "invocations/running/request"]

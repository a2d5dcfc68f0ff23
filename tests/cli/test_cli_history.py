"""``gpufn events``, and times as people write them."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

import pytest
from fake_api import FID, VID, FakeApi, a_version, serving
from running import against

from gpufn.cli import times
from gpufn.runtime.clock import utc_now

TID = "33333333-3333-4333-8333-333333333333"
OTHER = "33333333-3333-4333-8333-333333333333"
EVENT = {
    "eventId": 7,
    "at": "2026-01-02T03:04:05.000Z",
    "kind": "instance.failed",
    "message": "exited with code 1",
    "warning": True,
    "functionId": FID,
    "functionVersionId": VID,
    "instanceId": "abcdefghijk",
}


def test_events_are_a_table_and_pass_the_filters_on() -> None:
    """Each event is a row; a name becomes the function's id, a version its own."""
    api = FakeApi([a_version()], documents={"/v2/gpufn/events": {"events": [EVENT]}})
    with serving(api):
        ran = against(api, "events", "echo", "--instance", "i1", "-n", "5", "--since", "2026-01-01T00:00:00Z")
        pinned = against(api, "events", f"echo:{VID[:8]}", "--json")

    first, second = [s.path for s in api.seen if "/events" in s.path]
    assert ran.out.splitlines()[1].split("  ")[1:] == ["instance.failed", "abcdefgh", "exited with code 1"]
    assert f"functionId={FID}" in first
    assert "instanceId=i1" in first
    assert "since=2026-01-01T00%3A00%3A00.000Z" in first
    assert "functionVersionId" not in first
    assert f"functionVersionId={VID}" in second
    assert pinned.json == {"events": [EVENT]}


def test_events_refuse_junk() -> None:
    """A limit beyond the bound and a time that is none are usage errors with the remedy."""
    with serving(FakeApi()) as api:
        limit = against(api, "events", "-n", "0")
        since = against(api, "events", "--since", "yesterday")

    assert (limit.code, since.code) == (2, 2)
    assert "2026-01-31T12:00:00Z" in since.err


def test_a_moment_is_long_ago_or_named() -> None:
    """``10m`` counts back from now; a time without a zone is UTC."""
    assert timedelta(minutes=9) < utc_now() - times.moment("10m") < timedelta(minutes=11)
    assert times.moment("2026-01-31T12:00:00") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert times.wire(times.moment("2026-01-31T13:00:00+01:00")) == "2026-01-31T12:00:00.000Z"
    with pytest.raises(argparse.ArgumentTypeError):
        times.duration("0m")


def test_logs_are_chosen_by_time_and_request() -> None:
    """Both go to the API as parameters."""
    with serving(FakeApi([a_version()], logs=[{"instanceId": "i", "text": "x"}])) as api:
        ran = against(api, "logs", "echo", "--since", "2026-01-01T00:00:00Z", "--request", VID, "--tail", "0")

    path = api.sent("GET", "/logs").path
    assert ran.code == 0
    assert "since=2026-01-01T00%3A00%3A00.000Z" in path
    assert f"requestId={VID}" in path
    assert "tail=0" in path


WHY = {
    "kind": "function",
    "id": VID,
    "sentence": "echo is DEPLOYING: 0 of 1 instances are ready",
    "facts": [{"name": "status", "value": "DEPLOYING"}],
    "events": [EVENT],
    "log": ["no such file"],
}


def test_why_is_a_sentence_and_its_facts() -> None:
    """A name is a function's, or else a task's; an id is asked for as it is, as it may be anything's."""
    documents: dict[str, object] = {f"/v2/gpufn/why/{path}": WHY for path in (f"function/{VID}", FID, f"task/{TID}")}
    lists = {"tasks": [{"id": TID, "name": "train"}]}
    with serving(FakeApi([a_version()], documents=documents, task_lists=lists)) as api:
        named = against(api, "why", "echo")
        of_task = against(api, "why", "train", "--json")
        by_id = against(api, "why", FID.upper(), "--json")
        unknown = against(api, "why", "nothing")

    assert named.out.splitlines()[0] == WHY["sentence"]
    assert "  status  DEPLOYING" in named.out
    assert "  no such file" in named.out
    assert "instance.failed  exited with code 1" in named.out
    assert by_id.json == of_task.json == WHY
    assert (unknown.code, "no function and no task 'nothing'" in unknown.err) == (7, True)


def test_exec_prints_the_output_and_ends_with_the_code() -> None:
    """A function means its first ready instance, an unknown UUID an instance; the words after -- go as they are."""
    done = {"instanceId": FID, "output": "hello\n", "exitCode": 3, "timedOut": False, "truncated": False}
    documents: dict[str, object] = {
        "/v2/gpufn/instances/i2/exec": done,
        f"/v2/gpufn/instances/{OTHER}/exec": done | {"timedOut": True},
    }
    found = [{"instanceId": "i1", "status": "starting"}, {"instanceId": "i2", "status": "ready"}]
    api = FakeApi([a_version()], instances=found, documents=documents)
    with serving(api):
        ran = against(api, "exec", "echo", "--timeout", "5", "--", "ls", "-l", "--json")
        sent = api.sent("POST", "/exec").json
        late = against(api, "exec", OTHER, "--json", "--", "true")
        api.instances = []
        none = against(api, "exec", "echo", "--", "true")

    assert (ran.code, ran.out) == (3, "hello\n")
    assert sent == {"command": ["ls", "-l", "--json"], "timeoutSeconds": 5}
    assert (late.code, late.json["timedOut"]) == (8, True)
    assert "gpufn why echo" in none.err


def test_usage_is_a_table_with_its_sum() -> None:
    """Versions by name, a deleted one as such; and what scaling to zero would have saved."""
    sums = {"instanceSeconds": 60.4, "idleInstanceSeconds": 30.0, "gpuSeconds": 120.0, "idleGpuSeconds": 60.0}
    document = {
        "since": "2026-01-01T00:00:00.000Z",
        "versions": [
            {"functionId": FID, "functionVersionId": VID, "usage": sums | {"requests": 7}},
            {"functionId": FID, "functionVersionId": OTHER, "usage": sums | {"requests": 0}},
        ],
        "total": sums | {"requests": 7},
    }
    with serving(FakeApi([a_version()], documents={"/v2/gpufn/usage": document})) as api:
        ran = against(api, "usage", "echo", "--since", "2026-01-01T00:00:00Z")
        as_json = against(api, "usage", "--json")

    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[1] == ["echo", VID, "60", "120", "60", "7"]
    assert rows[2][0] == "(deleted)"
    assert rows[3] == ["total", "60", "120", "60", "7"]
    assert "saved up to 60 GPU seconds" in ran.err
    assert f"functionId={FID}" in api.seen[1].path
    assert as_json.json == document

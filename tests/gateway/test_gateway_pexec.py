"""pexec: the checks of the invocation-plane page, section 24, over real sockets."""

from __future__ import annotations

import json
import uuid

from gateway_world import (
    PINNED,
    Answer,
    a_world,
)


def assert_trio(found: Answer, status: str) -> None:
    """The three header lines of every response to an accepted call."""
    assert str(uuid.UUID(found["nvcf-reqid"])) == found["nvcf-reqid"]
    assert found["nvcf-status"] == status
    assert "nvcf-reqid" in found.all("access-control-expose-headers")


def assert_problem(found: Answer, status: int, detail: str | None) -> None:
    """A problem of the gateway: no type, no trio."""
    assert (found.status, found["content-type"]) == (status, "application/problem+json")
    body = json.loads(found.body)
    assert "type" not in body
    assert body.get("detail") == detail
    assert "nvcf-reqid" not in found


async def test_pinned_version_answers_every_time() -> None:
    """A hundred calls of a pinned version are answered with its body, content type and exact length."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        client = await world.client()
        for _ in range(100):
            found = await client.call("POST", PINNED, {"Content-Type": "text/plain"}, b"a body")
            assert (found.status, found.body) == (200, b"a body")
            assert (found["content-type"], found["content-length"]) == ("text/plain", "6")
            assert_trio(found, "fulfilled")
        assert world.servers[0].connections == 1
        assert world.is_quiet

"""The usage API: sums within the reach of the key."""

from __future__ import annotations

from datetime import timedelta

from api_building import NOW, an_installation, bearer

from gpufn.model.access import Resource
from gpufn.model.ids import DEFAULT_ACCOUNT, new_id
from gpufn.model.usage import Usage
from gpufn.store import usage


async def test_usage_is_summed_by_version_and_in_all() -> None:
    """Hours since the given time count; filters and the key's reach leave out."""
    async with an_installation() as it:
        one, other = (new_id(), new_id()), (new_id(), new_id())
        hour = NOW.replace(minute=0, second=0, microsecond=0)
        told = ((one, hour, 3), (one, hour - timedelta(hours=5), 4), (other, hour, 5))
        for ids, at, count in told:
            more = Usage(count * 10.0, count * 1.0, count * 20.0, count * 2.0, count)
            await it.context.db.run(
                lambda tx, ids=ids, at=at, more=more: usage.add(tx, DEFAULT_ACCOUNT, *ids, hour=at, more=more)  # type: ignore[misc]
            )
        everything = (await it.client.get("/v2/gpufn/usage")).json()
        recent = (
            await it.client.get("/v2/gpufn/usage", params={"since": NOW.isoformat(), "functionId": one[0]})
        ).json()
        narrow = bearer(await it.a_key(resources=(Resource("function", f"{other[0]}/*"),)))
        reached = (await it.client.get("/v2/gpufn/usage", headers=narrow)).json()

    assert everything["total"] == {
        "instanceSeconds": 120.0, "idleInstanceSeconds": 12.0, "gpuSeconds": 240.0, "idleGpuSeconds": 24.0,
        "requests": 12,
    }  # fmt: skip
    assert {v["functionVersionId"]: v["usage"]["requests"] for v in everything["versions"]} == {one[1]: 7, other[1]: 5}
    assert recent["total"]["requests"] == 3
    assert recent["since"].endswith("T12:00:00.000Z")
    assert [v["functionId"] for v in reached["versions"]] == [other[0]]

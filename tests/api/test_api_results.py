"""Large results are fetched by a URL that is its own credential (invocation-plane page, section 8.3; attack 18)."""

from __future__ import annotations

from datetime import timedelta

import httpx
from api_building import RANDOM_ID, Installation, an_installation

from gpufn.auth import signed_urls
from gpufn.model.ids import new_id
from gpufn.model.invocation import AcceptedInvocation, Body, Outcome, archive_key
from gpufn.store import invocations
from gpufn.wire.objects import result_path

ZIP = b"PK and so on"


async def a_result(it: Installation, body: Body | None = None) -> str:
    """The id of a request whose result is kept as a zip, or as ``body``."""
    name, now = new_id(), it.context.now()
    kept = body or Body(len(ZIP), key=archive_key(name, "result-1"))
    if kept.key is not None:
        await it.context.objects.put(kept.key, ZIP)
    record = AcceptedInvocation(
        id=name, nca_id="nvcf-default", function_id=new_id(), version_id=new_id(), form="pexec", head=b"",
        request=Body(0), window=1, accepted_at=now, deadline=now + timedelta(hours=1), owner="", fence=1, attempt=1,
        outcome=Outcome(302, (), kept), finished_at=now,
    )  # fmt: skip
    await it.context.db.run(lambda tx: invocations.insert(tx, [record]))
    return name


def url_of(it: Installation, name: str, *, method: str = "GET", seconds: int = 60) -> str:
    path = result_path(name)
    expires = int(it.context.now().timestamp()) + seconds
    return f"http://api.test{path}?{signed_urls.query(it.context.pepper, method, path, expires=expires)}"


async def fetch(it: Installation, url: str, method: str = "GET") -> httpx.Response:
    """As a client does that follows a 302: without a key."""
    request = it.client.build_request(method, url)
    del request.headers["authorization"]
    return await it.client.send(request)


async def test_a_result_is_fetched_without_a_key_and_more_than_once() -> None:
    """It is a zip, for saving and not for showing; the URL is good until it expires."""
    async with an_installation() as it:
        url = url_of(it, await a_result(it))
        for _ in range(2):
            answer = await fetch(it, url)
            assert (answer.status_code, answer.content) == (200, ZIP)
            assert answer.headers["content-type"] == "application/zip"
            assert answer.headers["content-length"] == str(len(ZIP))
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-disposition"].startswith("attachment")


async def test_a_result_url_is_good_for_one_thing_only() -> None:
    """Attack 18: after its end, with another method, another request, another time or a made-up signature: refused."""
    async with an_installation() as it:
        one, other = await a_result(it), await a_result(it)
        url = url_of(it, one)
        for method in ("PUT", "POST", "DELETE", "PATCH", "HEAD"):
            assert (await fetch(it, url, method)).status_code in (403, 405)
        assert (await fetch(it, url_of(it, one, method="PUT"))).status_code == 403
        assert (await fetch(it, url.replace(one, other))).status_code == 403
        assert (await fetch(it, url.replace("expires=1", "expires=2"))).status_code == 403
        assert (await fetch(it, url[:-4] + "zzzz")).status_code == 400
        assert (await fetch(it, url[:-4] + ("0000" if not url.endswith("0000") else "1111"))).status_code == 403
        assert (await fetch(it, url.replace("/results/", "/assets/"))).status_code == 403
        assert (await fetch(it, url + f"&signature={'0' * 64}")).status_code in (400, 403)
        assert (await fetch(it, url.partition("?")[0])).status_code == 400
        assert (await fetch(it, url.replace(one, "..%2f..%2fpepper"))).status_code in (400, 404)
        it.clock.advance(61)
        assert (await fetch(it, url)).status_code == 403


async def test_only_zips_are_fetched() -> None:
    """Results that polls get in a response have no URL, and one that is gone is 404."""
    async with an_installation() as it:
        plain = await a_result(it, Body(4, key="invocations/x/result-1"))
        small = await a_result(it, Body(4, b"text"))
        for name in (plain, small, RANDOM_ID):
            assert (await fetch(it, url_of(it, name))).status_code == 404

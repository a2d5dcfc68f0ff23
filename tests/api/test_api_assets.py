"""Assets: created, uploaded, listed, read, deleted (control-plane page, section 13)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from api_building import OTHER_ACCOUNT, RANDOM_ID, Installation, an_installation, bearer

from gpufn.api import assets
from gpufn.api.app import build
from gpufn.settings import AssetSettings

ASSETS = "/v2/nvcf/assets"
BODY = {"contentType": "image/png", "description": "a cat"}
SIGNED = {"Content-Type": "image/png", "x-amz-meta-nvcf-asset-description": "a cat"}


async def create(it: Installation, **changes: Any) -> dict[str, Any]:
    answer = await it.client.post(ASSETS, json=BODY | changes)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def put(
    it: Installation, url: str, content: bytes = b"meow", headers: dict[str, str] | None = None
) -> httpx.Response:
    """Upload as a client does: without a key, with the two headers the URL was made for."""
    request = it.client.build_request("PUT", url, content=content, headers=SIGNED | (headers or {}))
    del request.headers["authorization"]
    return await it.client.send(request)


async def an_asset(it: Installation, content: bytes = b"meow") -> str:
    made = await create(it)
    assert (await put(it, made["uploadUrl"], content)).status_code == 200
    asset_id: str = made["assetId"]
    return asset_id


async def listed(it: Installation) -> list[str]:
    return [each["assetId"] for each in (await it.client.get(ASSETS)).json()["assets"]]


async def test_the_life_of_an_asset() -> None:
    """Create, upload, list, get, read, delete; before the upload and after the deletion it does not exist."""
    async with an_installation() as it:
        made = await create(it)
        assert {k: made[k] for k in BODY} == BODY
        path = f"{ASSETS}/{made['assetId']}"
        assert (await it.client.get(path)).status_code == 404
        assert await listed(it) == []
        uploaded = await put(it, made["uploadUrl"])
        assert (uploaded.status_code, uploaded.content) == (200, b"")
        assert await listed(it) == [made["assetId"]]
        asset = (await it.client.get(path)).json()["asset"]
        assert (asset["assetId"], asset["contentType"], asset["description"]) == (
            made["assetId"], "image/png", "a cat",
        )  # fmt: skip
        assert asset["createdAt"].startswith("2026-11-24T12:00:00")
        url = (await it.client.get(f"{path}/content-redirect")).json()["presignedUrl"]
        read = await it.client.get(url)
        assert (read.content, read.headers["content-type"]) == (b"meow", "image/png")
        assert read.headers["content-disposition"] == "attachment"
        assert (await it.client.delete(path)).status_code == 204
        assert (await it.client.delete(path)).status_code == 404
        assert (await it.client.get(url)).status_code == 404
        assert await listed(it) == []
        assert [o async for o in it.context.objects.list("assets")] == []


@pytest.mark.parametrize(
    "body",
    [{"contentType": "image/png"}, {"description": ""}, {"contentType": None, "description": "x"},
     {"contentType": "png", "description": "x"}, {"contentType": "image/png; a=b", "description": "x"},
     {"contentType": "image/png", "description": "a\r\nb"}, {"contentType": "image/png", "description": " x"},
     {"contentType": "image/png", "description": "ü"}, {"contentType": "image/png", "description": "x" * 1025}],
)  # fmt: skip
async def test_what_cannot_be_a_header_is_refused(body: dict[str, Any]) -> None:
    """Type and description are required and become headers of the upload, so they have to be good for that."""
    async with an_installation() as it:
        assert (await it.client.post(ASSETS, json=body)).status_code == 400
        assert (await it.client.post(ASSETS, json=BODY | {"description": ""})).status_code == 200


async def test_an_upload_without_the_signed_headers_is_refused() -> None:
    """Another type, another description, or none at all is 403, and there is no asset."""
    async with an_installation() as it:
        url = (await create(it))["uploadUrl"]
        for name, value in (("Content-Type", "text/html"), ("x-amz-meta-nvcf-asset-description", "a dog")):
            assert (await put(it, url, headers={name: value})).status_code == 403
        bare = await httpx.AsyncClient(transport=it.client._transport).put(url, content=b"x")
        assert bare.status_code == 403
        assert await listed(it) == []


async def test_an_upload_url_is_good_for_one_thing_only() -> None:
    """After its end, with another method, another asset, another time or a made-up signature it is 403."""
    async with an_installation() as it:
        one, other = await create(it), await create(it)
        url = one["uploadUrl"]
        assert url.startswith("http://api.test/v2/gpufn/objects/assets/")
        assert (await it.client.get(url)).status_code == 403
        assert (await put(it, url.replace(one["assetId"], other["assetId"]))).status_code == 403
        assert (await put(it, url.replace("expires=1", "expires=2"))).status_code == 403
        assert (await put(it, url[:-4] + "0000")).status_code in (400, 403)
        assert (await put(it, url.partition("?")[0])).status_code == 400
        it.clock.advance(2101)
        assert (await put(it, url)).status_code == 403
        assert await listed(it) == []


async def test_the_address_of_the_url_is_the_one_that_was_called() -> None:
    """Through the gateway the client's own host is in the URL; a path trick in an id is no id."""
    async with an_installation() as it:
        headers = {"X-Forwarded-Host": "api.localhost:8080", "X-Forwarded-Proto": "http"}
        answer = await it.client.post(ASSETS, json=BODY, headers=headers)
        assert answer.json()["uploadUrl"].startswith("http://api.localhost:8080/v2/gpufn/objects/assets/")
        for trick in ("..%2f..%2fpepper", "%2e%2e", "a%00b", "..\\..\\x"):
            assert (await it.client.get(f"{ASSETS}/{trick}")).status_code in (400, 404)
            assert (await put(it, f"/v2/gpufn/objects/assets/{trick}?expires=1&signature={'0' * 64}")).status_code in (
                400, 403, 404,
            )  # fmt: skip


async def test_assets_belong_to_the_account() -> None:
    """Another account does not see them; a key without the scope is 403; resources of a key play no role."""
    async with an_installation() as it:
        asset_id = await an_asset(it)
        theirs = bearer(await it.a_key(nca_id=OTHER_ACCOUNT))
        for method, path in (("GET", f"{ASSETS}/{asset_id}"), ("DELETE", f"{ASSETS}/{asset_id}"),
                             ("GET", f"{ASSETS}/{asset_id}/content-redirect")):  # fmt: skip
            assert (await it.client.request(method, path, headers=theirs)).status_code == 404
        assert (await it.client.get(ASSETS, headers=theirs)).json() == {"assets": []}
        weak = bearer(await it.a_key(scopes=["list_functions"]))
        assert (await it.client.get(ASSETS, headers=weak)).status_code == 403
        narrow = bearer(await it.a_key(scopes=["invoke_function"], resources=[]))
        assert (await it.client.get(f"{ASSETS}/{asset_id}", headers=narrow)).status_code == 200
        assert (await it.client.get(f"{ASSETS}/{RANDOM_ID}")).status_code == 404


async def test_sizes_and_counts_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file above the limit is 413 before it is read, one without a length 411, one above the account's share 429."""
    monkeypatch.setattr(assets, "ACCOUNT_COUNT", 3)
    settings = AssetSettings(max_bytes=100, account_bytes=150)
    async with an_installation(assets=settings) as it:
        url = (await create(it))["uploadUrl"]
        assert (await put(it, url, b"x" * 101)).status_code == 413

        async def stream() -> AsyncIterator[bytes]:
            yield b"x"

        assert (await it.client.put(url, content=stream(), headers=SIGNED)).status_code == 411
        assert (await put(it, url, b"x" * 100)).status_code == 200
        second = (await create(it))["uploadUrl"]
        over = await put(it, second, b"x" * 51)
        assert (over.status_code, "150" in over.json()["detail"]) == (429, True)
        assert (await put(it, url, b"x" * 90)).status_code == 200
        assert (await put(it, second, b"x" * 51)).status_code == 200
        await create(it)
        assert (await it.client.post(ASSETS, json=BODY)).status_code == 429


async def test_one_asset_is_uploaded_once_at_a_time() -> None:
    """A small upload beside a large one of the same asset would be counted in its place: 409, and later it works."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"x" * 50
        entered.set()
        await go.wait()
        yield b"x" * 50

    async with an_installation(assets=AssetSettings(account_bytes=150)) as it:
        one, other = (await create(it))["uploadUrl"], (await create(it))["uploadUrl"]
        headers = SIGNED | {"Content-Length": "100"}
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(it.client.put(one, content=slowly(), headers=headers))
            await entered.wait()
            beside = await put(it, one, b"y")
            elsewhere = await put(it, other, b"z" * 100)
            go.set()
        again = await put(it, one, b"y")

    assert (first.result().status_code, beside.status_code) == (200, 409)
    assert "upload" in beside.json()["detail"]
    assert (elsewhere.status_code, again.status_code) == (429, 200)


async def test_an_upload_that_breaks_off_leaves_nothing() -> None:
    """A sender that fails half-way makes no asset and takes nothing of the account's share."""
    settings = AssetSettings(account_bytes=100)
    async with an_installation(assets=settings) as it:
        made = await create(it)

        path, _, query = made["uploadUrl"].removeprefix("http://api.test").partition("?")
        headers = [(k.lower().encode(), v.encode()) for k, v in (SIGNED | {"Content-Length": "100"}).items()]
        scope = {"type": "http", "method": "PUT", "path": path, "query_string": query.encode(), "headers": headers}
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": b"x" * 10, "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            """Nobody is there."""

        await build(it.context)(scope | {"http_version": "1.1", "scheme": "http"}, receive, send)
        assert messages == []
        assert await listed(it) == []
        await an_asset(it, b"x" * 100)


async def test_an_asset_expires() -> None:
    """A day after its creation it is not there any more, whether or not its bytes were deleted already."""
    async with an_installation() as it:
        asset_id = await an_asset(it)
        url = (await it.client.get(f"{ASSETS}/{asset_id}/content-redirect")).json()["presignedUrl"]
        it.clock.advance(86400)
        assert (await it.client.get(f"{ASSETS}/{asset_id}")).status_code == 404
        assert (await it.client.get(url)).status_code in (403, 404)
        assert await listed(it) == []

"""Assets: files that a client uploads once and gives to invocations by their ids (control-plane page, section 13).

An upload goes to a URL that is its own credential; the bytes stream into the object store. An asset exists for
clients once all of it is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated

from fastapi import Query, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from gpufn.api.context import Context, Ctx
from gpufn.api.lists import LEAN_PAGE, answered, pages
from gpufn.api.parameters import AssetIdPath
from gpufn.api.security import Caller
from gpufn.auth import signed_urls
from gpufn.model.asset import Asset, object_key
from gpufn.model.errors import Conflict, Exhausted, Forbidden, Invalid, NotFound
from gpufn.model.ids import AssetId, new_id
from gpufn.store import assets, pages as stored
from gpufn.store.database import Transaction
from gpufn.store.pages import Position
from gpufn.wire.assets import (
    AssetDto,
    AssetIdDto,
    AssetResponse,
    ContentRedirectResponse,
    CreateAssetRequest,
    CreateAssetResponse,
)

CONTENT = "/v2/gpufn/objects/assets/{assetId}"
DESCRIPTION = "x-amz-meta-nvcf-asset-description"
ACCOUNT_COUNT = 10_000
"""Assets of one account, those not uploaded yet included."""
URL_SECONDS = 2100
"""For which an upload or download URL is good (section 13: 35 minutes)."""
Expires = Annotated[int, Query(ge=0, le=10**12, description="seconds since the epoch")]
Signature = Annotated[str, Query(max_length=64, pattern="^[0-9a-f]{64}$")]


async def create_asset(
    caller: Caller, context: Ctx, request: Request, *, body: CreateAssetRequest
) -> CreateAssetResponse:
    """Announce an asset; the answer says where to PUT its bytes."""
    now, settings = context.now(), context.assets
    asset = Asset(
        id=AssetId(new_id()),
        nca_id=caller.nca_id,
        content_type=body.content_type,
        description=body.description,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.keep),
    )

    def write(tx: Transaction) -> None:
        if assets.usage(tx, caller.nca_id).number >= ACCOUNT_COUNT:
            raise Exhausted(
                f"this account has {ACCOUNT_COUNT} assets, which is the limit; "
                f"delete some first, or wait: each goes {settings.keep:g} s after its creation"
            )
        assets.insert(tx, asset)

    await context.db.run(write)
    return CreateAssetResponse(
        asset_id=asset.id,
        upload_url=_url(context, request, "PUT", asset.id),
        content_type=asset.content_type,
        description=asset.description,
    )


async def list_assets(caller: Caller, context: Ctx) -> Response:
    """The account's assets whose bytes are there."""

    def read(tx: Transaction, after: Position | None) -> tuple[list[AssetIdDto], Position | None]:
        found = stored.of_assets(tx, caller.nca_id, after=after, limit=LEAN_PAGE, now=context.now())
        shown = [AssetIdDto(asset_id=asset.id) for asset in found]
        return shown, (found[-1].created_at, found[-1].id) if len(found) == LEAN_PAGE else None

    return await answered("assets", AssetIdDto, pages(context.db, read))


async def get_asset(caller: Caller, context: Ctx, *, asset_id: AssetIdPath) -> AssetResponse:
    """One asset."""
    return AssetResponse(asset=AssetDto.of(await _own(caller, context, asset_id)))


async def asset_content(
    caller: Caller, context: Ctx, request: Request, *, asset_id: AssetIdPath
) -> ContentRedirectResponse:
    """Where to read the bytes of an asset, without a key, for a limited time."""
    asset = await _own(caller, context, asset_id)
    return ContentRedirectResponse(presigned_url=_url(context, request, "GET", asset.id))


async def delete_asset(caller: Caller, context: Ctx, *, asset_id: AssetIdPath) -> Response:
    """Delete an asset: its bytes first, so that whatever fails can be repeated."""
    asset = await _own(caller, context, asset_id)
    await context.objects.delete(object_key(asset.nca_id, asset.id))
    await context.db.run(lambda tx: assets.delete(tx, asset.id))
    return Response(status_code=204)


async def put_content(
    context: Ctx, request: Request, *, asset_id: AssetIdPath, expires: Expires, signature: Signature
) -> Response:
    """Take the bytes of an asset, from whoever holds its upload URL and sends the two headers it was made for."""
    asset = await _signed(context, "PUT", asset_id, expires, signature)
    given = request.headers.get("content-type"), request.headers.get(DESCRIPTION)
    if given != (asset.content_type, asset.description):
        raise Forbidden(
            f"the URL was made for Content-Type: {asset.content_type} and {DESCRIPTION}: {asset.description}; "
            "send both as they were given when the asset was created"
        )
    if asset_id in context.uploads:
        raise Conflict(
            f"Asset id '{asset_id}': another upload of it goes on; wait for its end, or create another asset"
        )
    context.uploads.add(asset_id)
    try:
        return await _store(context, request, asset)
    finally:
        context.uploads.discard(asset_id)


async def _store(context: Context, request: Request, asset: Asset) -> Response:
    """Reserve, write, and record one upload: the only one of its asset, or its size would not be what is counted."""
    size = _size(request, context.assets.max_bytes)
    await context.db.run(lambda tx: _reserve(tx, asset, size, context.assets.account_bytes))
    key = object_key(asset.nca_id, asset.id)
    try:
        await context.objects.put(key, _content(request))
    except BaseException as error:
        await context.db.run(lambda tx: assets.set_upload(tx, asset.id, size=asset.size, uploaded_at=asset.uploaded_at))
        if isinstance(error, ClientDisconnect):
            return Response(status_code=400)  # nobody reads it
        raise
    if not await context.db.run(lambda tx: assets.set_upload(tx, asset.id, size=size, uploaded_at=context.now())):
        await context.objects.delete(key)
        raise NotFound(f"Asset id '{asset.id}': it was deleted while it was uploaded")
    return Response(status_code=200)


async def get_content(context: Ctx, *, asset_id: AssetIdPath, expires: Expires, signature: Signature) -> Response:
    """The bytes of an asset, for whoever holds a URL made for reading them. Never shown as a page of this site."""
    asset = await _signed(context, "GET", asset_id, expires, signature)
    pieces = await context.objects.get(object_key(asset.nca_id, asset.id))
    if pieces is None or not asset.exists(context.now()):
        raise NotFound(f"Asset id '{asset_id}': its content is not there any more")
    headers = {
        "Content-Length": str(asset.size),
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(pieces, headers=headers, media_type=asset.content_type)


async def _own(caller: Caller, context: Context, asset_id: str) -> Asset:
    """The caller's asset. Resources of the key play no role (section 13)."""
    asset = await context.db.run(lambda tx: assets.get(tx, asset_id))
    if asset is None or asset.nca_id != caller.nca_id or not asset.exists(context.now()):
        raise NotFound(f"Asset id '{asset_id}': Not found for account '{caller.nca_id}'")
    return asset


async def _signed(context: Context, method: str, asset_id: str, expires: int, signature: str) -> Asset:
    """The asset that a URL was made for. Raises Forbidden, NotFound."""
    path, now = CONTENT.replace("{assetId}", asset_id), context.now()
    signed_urls.check(context.pepper, method, path, expires=expires, signature=signature, now=now.timestamp())
    asset = await context.db.run(lambda tx: assets.get(tx, asset_id))
    if asset is None or asset.expires_at <= now:
        raise NotFound(f"Asset id '{asset_id}': it was deleted, or has expired")
    return asset


def _url(context: Context, request: Request, method: str, asset_id: str) -> str:
    """An absolute URL: below the public address that was set, or the one that the client calls."""
    path = CONTENT.replace("{assetId}", asset_id)
    expires = int(context.now().timestamp()) + URL_SECONDS
    headers = request.headers
    host = headers.get("x-forwarded-host") or headers.get("host", "localhost")
    base = context.public_url.rstrip("/") or f"{headers.get('x-forwarded-proto', 'http')}://{host}"
    return f"{base}{path}?{signed_urls.query(context.pepper, method, path, expires=expires)}"


def _size(request: Request, limit: int) -> int:
    """The announced length. Raises Invalid."""
    text = request.headers.get("content-length", "")
    if not text.isdigit():
        raise Invalid("an upload needs a Content-Length; send the file with one, not in chunks", status=411)
    if int(text) > limit:
        raise Invalid(f"an asset has at most {limit} bytes; this one has {text}", status=413)
    return int(text)


def _reserve(tx: Transaction, asset: Asset, size: int, limit: int) -> None:
    """Count the upload against its account, before it begins."""
    used = assets.usage(tx, asset.nca_id, but=asset.id).size
    if used + size > limit:
        raise Exhausted(
            f"the assets of this account have {used} bytes and may have {limit}; delete some, or wait until they expire"
        )
    assets.set_upload(tx, asset.id, size=size, uploaded_at=asset.uploaded_at)


async def _content(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece

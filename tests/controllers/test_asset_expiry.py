"""Expired assets leave nothing behind."""

from __future__ import annotations

from datetime import timedelta

from control_world import BEGIN, a_context

from gpufn.compute.fake import FakeBackend
from gpufn.controllers import assets as controller
from gpufn.controllers.assets import Assets
from gpufn.model.asset import Asset, object_key
from gpufn.model.ids import DEFAULT_ACCOUNT, AssetId, new_id
from gpufn.store import assets


async def test_expired_assets_go_with_their_bytes() -> None:
    """In bounded rounds, oldest first, rows after bytes; those that are still good stay."""
    context = a_context(FakeBackend())
    now = context.now()
    made = []
    for n in range(controller.BATCH + 2):
        expires = now + timedelta(hours=1) if n == 0 else now - timedelta(seconds=n)
        asset = Asset(AssetId(new_id()), DEFAULT_ACCOUNT, "a/b", "", BEGIN, expires, size=1, uploaded_at=BEGIN)
        await context.db.run(lambda tx, asset=asset: assets.insert(tx, asset))  # type: ignore[misc]
        await context.objects.put(object_key(asset.nca_id, asset.id), b"x")
        made.append(asset)
    loop = Assets(context)
    assert await loop.keys() == ("expired",)
    assert await loop.reconcile("expired") == controller.MORE
    assert await loop.reconcile("expired") is None
    left = [o.key async for o in context.objects.list("assets")]
    assert left == [object_key(DEFAULT_ACCOUNT, made[0].id)]
    assert (await context.db.run(lambda tx: assets.usage(tx, DEFAULT_ACCOUNT))).number == 1
    await context.db.close()

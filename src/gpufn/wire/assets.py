"""Assets on the wire (control-plane page, section 13)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from gpufn.model.asset import Asset
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Timestamp


def _one_line(text: str) -> str:
    """It becomes a header of the upload."""
    if not text.isprintable() or not text.isascii():
        raise ValueError("must be printable ASCII text in one line: it is sent as a header")
    if text != text.strip():
        raise ValueError("must not begin or end with a blank: it is sent as a header")
    return text


class CreateAssetRequest(Wire):
    """``description`` may be empty, not absent."""

    content_type: str = Field(max_length=255, pattern=r"^[A-Za-z0-9_]+/[-+.A-Za-z0-9_]+$")
    description: Annotated[str, Field(max_length=1024), AfterValidator(_one_line)]


class CreateAssetResponse(Wire):
    """Where to PUT the bytes, with ``Content-Type`` and ``x-amz-meta-nvcf-asset-description`` as they were given."""

    asset_id: str
    upload_url: str
    content_type: str
    description: str


class AssetIdDto(Wire):
    """An asset in a list."""

    asset_id: str


class AssetsResponse(Wire):
    """Every asset of the account that was uploaded and has not expired."""

    assets: tuple[AssetIdDto, ...]


class AssetDto(Wire):
    """One asset."""

    asset_id: str
    content_type: str
    description: str
    created_at: Timestamp

    @staticmethod
    def of(asset: Asset) -> AssetDto:
        return AssetDto(
            asset_id=asset.id,
            content_type=asset.content_type,
            description=asset.description,
            created_at=asset.created_at,
        )


class AssetResponse(Wire):
    """One asset, wrapped."""

    asset: AssetDto


class ContentRedirectResponse(Wire):
    """Where the bytes can be read: JSON, not a redirect of HTTP."""

    presigned_url: str

"""API keys as clients see them. gpufn's own."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AwareDatetime, Field, model_validator

from gpufn.model.access import ApiKey, Resource
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Duration, Timestamp


class ResourceDto(Wire):
    """What a key reaches (auth page, section 4.4)."""

    type: str = Field(max_length=64)
    id: str = Field(max_length=128)


class CreateKeyRequest(Wire):
    """Everything is optional. ``expiresAt`` or ``ttl`` bounds the key's life; without them it has no end."""

    description: str = Field("", max_length=256)
    scopes: Annotated[tuple[str, ...], Field(max_length=64)] | None = None
    resources: Annotated[tuple[ResourceDto, ...], Field(max_length=64)] | None = None
    expires_at: AwareDatetime | None = None
    ttl: Duration | None = None

    @model_validator(mode="after")
    def _one_end(self) -> CreateKeyRequest:
        if self.expires_at is not None and self.ttl is not None:
            raise ValueError("expiresAt and ttl cannot be given together; leave one out")
        if self.ttl is not None and not timedelta(0) < self.ttl <= timedelta(days=36500):
            raise ValueError("ttl must be longer than PT0S and at most 100 years")
        return self

    def wanted_resources(self) -> tuple[Resource, ...] | None:
        return None if self.resources is None else tuple(Resource(r.type, r.id) for r in self.resources)

    def end(self, now: datetime) -> datetime | None:
        """When the key stops working, or None."""
        return now + self.ttl if self.ttl is not None else self.expires_at


class KeyDto(Wire):
    """A key without its value."""

    id: str
    prefix: str
    nca_id: str
    owner: str
    description: str
    scopes: tuple[str, ...]
    resources: tuple[ResourceDto, ...]
    created_at: Timestamp
    expires_at: Timestamp | None = None
    value: str | None = None
    """The key itself: in the answer that creates it, and never again."""

    @staticmethod
    def of(key: ApiKey, value: str | None = None) -> KeyDto:
        return KeyDto(
            id=key.id,
            prefix=key.prefix,
            nca_id=key.nca_id,
            owner=key.owner,
            description=key.description,
            scopes=key.scopes,
            resources=tuple(ResourceDto(type=r.type, id=r.id) for r in key.resources),
            created_at=key.created_at,
            expires_at=key.expires_at,
            value=value,
        )


class KeyResponse(Wire):
    """One key, wrapped."""

    key: KeyDto


class KeysResponse(Wire):
    """Every key of the account that was not revoked."""

    keys: tuple[KeyDto, ...]

"""Bodies of the API-key service: snake_case, as NVIDIA's command line writes and reads them (auth page, section 3)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from gpufn.model.access import ApiKey, OwnerStatus
from gpufn.wire.scalars import Timestamp


class Snake(BaseModel):
    """snake_case on both sides; unknown members are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class NewKeyRequest(Snake):
    """A key of one owner. What is wrong with a member is said in the service's own words, so all are optional here."""

    description: Annotated[str, Field(max_length=1024)] | None = None
    expires_at: AwareDatetime | None = None
    authorizations: Any = None
    audience_service_ids: Annotated[tuple[str, ...], Field(max_length=64)] | None = None


class AuthorizationsRequest(Snake):
    """What the key is to grant from now on."""

    authorizations: Any = None


class KeyStatusRequest(Snake):
    """Whether the key is to work."""

    status: Literal["ACTIVE", "SUSPENDED"]


class LookupRequest(Snake):
    """A key, by its value."""

    key: Annotated[str, Field(max_length=4096)] | None = None


class IntrospectRequest(Snake):
    """A key that somebody presented to a service."""

    key: Annotated[str, Field(max_length=4096)] | None = None
    audience_service_id: Annotated[str, Field(max_length=256)] = ""


class EvaluationInput(Snake):
    """The key to evaluate."""

    apiKey: Annotated[str, Field(max_length=4096)] | None = None  # noqa: N815 - the wire's own name


class EvaluationRequest(Snake):
    """The question whether a key may be used."""

    input: EvaluationInput = EvaluationInput()


class ServiceKeyDto(Snake):
    """A key; ``value`` in the answer that makes it and never again."""

    id: str
    value: str | None = None
    status: str
    owner_type: str = "USER"
    owner_id: str
    issuer_service_id: str
    audience_service_ids: tuple[str, ...]
    description: str
    created_at: Timestamp
    expires_at: Timestamp | None = None
    authorizations: Any = None

    @staticmethod
    def of(key: ApiKey, now: datetime, *, value: str | None = None, brief: bool = False) -> ServiceKeyDto:
        """``brief`` leaves the authorizations out, as lists do."""
        return ServiceKeyDto(
            id=key.id,
            value=value,
            status=key.status(now).value,
            owner_id=key.owner,
            issuer_service_id=key.issuer,
            audience_service_ids=key.audiences,
            description=key.description,
            created_at=key.created_at,
            expires_at=key.expires_at,
            authorizations=None if brief else key.authorizations,
        )


class ServiceKeysDto(Snake):
    """Keys of one owner."""

    keys: tuple[ServiceKeyDto, ...]


class IntrospectionDto(Snake):
    """Whose key it is and what it grants."""

    owner_type: str = "USER"
    owner_id: str
    key_id: str
    issuer_service_id: str
    authorizations: Any


class OwnerDto(Snake):
    """An owner of keys. Who is suspended has no key that works."""

    owner_type: str = "USER"
    owner_id: str
    status: OwnerStatus
    status_updated_at: Timestamp | None = None


class OwnerStatusRequest(Snake):
    """Whether the owner's keys are to work."""

    status: OwnerStatus


class EvaluationResult(Snake):
    """camelCase, unlike everything around it."""

    allowed: bool
    ncaId: str | None = None  # noqa: N815
    ownerId: str | None = None  # noqa: N815
    policy: Any = None


class EvaluationDto(Snake):
    """The answer to a question; a key problem of any kind is ``allowed: false``, so that probing teaches nothing."""

    namespace: str
    rule_name: str
    result: EvaluationResult


class ServiceDto(Snake):
    """A registered service and its limits."""

    service_id: str
    service_name: str
    audience_service_ids: tuple[str, ...]
    max_api_keys_per_user: int
    max_api_key_ttl_days: int
    max_authz_size_chars: int
    min_authz_update_interval_seconds: int


class ServicesDto(Snake):
    """Every registered service."""

    services: tuple[ServiceDto, ...]

"""Registry credentials as clients send and see them (control-plane page, section 17)."""

from __future__ import annotations

import base64
import binascii
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from gpufn.model.errors import Invalid
from gpufn.model.registry import ArtifactType, Registry, RegistryCredential, is_ngc
from gpufn.wire.base import Wire
from gpufn.wire.functions import Tags
from gpufn.wire.scalars import OptionalName, Timestamp, member, names_of
from gpufn.wire.secrets import SecretDto

NGC_USER = "$oauthtoken"

AnyArtifact = Annotated[ArtifactType, BeforeValidator(partial(member, ArtifactType)), names_of(ArtifactType)]
ArtifactTypes = Annotated[tuple[AnyArtifact, ...], Field(min_length=1, max_length=16)]
Hostname = Annotated[
    str,
    Field(
        min_length=4, max_length=253, pattern=r"^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}$"
    ),
]


class CreateRegistryCredentialRequest(Wire):
    """A new credential; the name of the secret is the credential's name."""

    registry_hostname: Hostname
    secret: SecretDto
    artifact_types: ArtifactTypes
    tags: Tags | None = None
    description: OptionalName = None


class UpdateRegistryCredentialRequest(Wire):
    """Another secret, more artifact types, or both. Types are added, never taken away."""

    secret: SecretDto | None = None
    artifact_type_enums: ArtifactTypes | None = None

    @model_validator(mode="after")
    def _effective(self) -> UpdateRegistryCredentialRequest:
        if self.secret is None and self.artifact_type_enums is None:
            raise Invalid("at least one of secret, artifactTypeEnums must be given")
        return self


class RegistryCredentialDto(Wire):
    """A credential, without its secret."""

    registry_credential_id: str
    nca_id: str
    registry_credential_name: str
    registry_name: str
    registry_hostname: str
    artifact_types: tuple[AnyArtifact, ...]
    tags: tuple[str, ...] | None = None
    description: str | None = None
    provisioned_by: str
    key_type: str | None = None
    last_updated_at: Timestamp
    created_at: Timestamp

    @staticmethod
    def of(credential: RegistryCredential, registry_name: str) -> RegistryCredentialDto:
        return RegistryCredentialDto(
            registry_credential_id=credential.id,
            nca_id=credential.nca_id,
            registry_credential_name=credential.name,
            registry_name=registry_name,
            registry_hostname=credential.hostname,
            artifact_types=credential.artifact_types,
            tags=credential.tags or None,
            description=credential.description,
            provisioned_by=credential.provisioned_by.value,
            key_type="LEGACY" if credential.legacy_key else None,
            last_updated_at=credential.updated_at,
            created_at=credential.created_at,
        )


class RegistryCredentialResponse(Wire):
    """One credential, wrapped."""

    registry_credential: RegistryCredentialDto


class ListRegistryCredentialsResponse(Wire):
    """The credentials that were asked for."""

    registry_credentials: tuple[RegistryCredentialDto, ...]


class RecognizedRegistryDto(Wire):
    """A registry that credentials may be for."""

    name: str
    hostname: str


class RecognizedRegistriesResponse(Wire):
    """The registries by artifact type, each list by name."""

    recognized_registries: dict[str, tuple[RecognizedRegistryDto, ...]]

    @staticmethod
    def of(registries: tuple[Registry, ...]) -> RecognizedRegistriesResponse:
        by_type = {}
        for kind in ArtifactType:
            found = sorted((r.name, r.hostname) for r in registries if kind in r.types)
            by_type[kind.value] = tuple(RecognizedRegistryDto(name=name, hostname=host) for name, host in found)
        return RecognizedRegistriesResponse(recognized_registries=by_type)


def login(secret: SecretDto, hostname: str) -> tuple[str, str]:
    """User and password in a secret; raises Invalid, without repeating the value."""
    form = "secret.value: must be base64 of user:password"
    try:
        text = base64.b64decode(secret.value if isinstance(secret.value, str) else "!", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"{form}; it is not base64") from error
    user, colon, password = text.partition(":")
    if not (user and colon):
        raise Invalid(f"{form}; there is no {'colon' if user else 'user'} in it")
    if is_ngc(hostname) and user != NGC_USER:
        raise Invalid(f"secret.value: the user of {hostname} must be {NGC_USER}, with an NGC API key as password")
    return user, password
